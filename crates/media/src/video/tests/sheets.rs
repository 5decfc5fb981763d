//! The frames of a contact sheet, collected while all frames pass by.

use super::ball_clip;
use crate::{Error, SheetFrames, SheetLayout, encode_png_sheet, evenly_spaced};

#[test]
fn collected_frames_make_the_same_sheet() {
    let layout = SheetLayout { columns: 3, scale: 2, gap: 1 };
    for frames in [1, 3, 8, 9, 50] {
        let clip = ball_clip(frames, 8, 6);
        let expected = encode_png_sheet(&clip, &evenly_spaced(&clip, 8), layout).unwrap();
        for stop in [0, 1, frames / 2, frames] {
            let mut sheet = SheetFrames::new((8, 6), frames, 8);
            clip.iter().take(stop).for_each(|frame| sheet.push(frame).unwrap());
            let kept = sheet.collected().to_vec();
            assert!(kept.len() <= frames.min(8) * 8 * 6 * 3);
            let mut sheet = SheetFrames::new((8, 6), frames, 8);
            sheet.go_on(stop, kept).unwrap();
            clip.iter().skip(stop).for_each(|frame| sheet.push(frame).unwrap());
            assert!(
                sheet.finish(layout).unwrap() == expected,
                "{frames} frames, stopped at {stop}"
            );
        }
    }
}

#[test]
fn frames_that_are_missing_or_of_another_size_are_refused() {
    let clip = ball_clip(9, 8, 6);
    let mut sheet = SheetFrames::new((8, 6), 9, 8);
    assert!(matches!(sheet.push(&[0; 5]), Err(Error::Shape { bytes: 5, .. })));
    clip.iter().take(8).for_each(|frame| sheet.push(frame).unwrap());
    assert!(matches!(sheet.clone().go_on(8, vec![0; 8 * 6 * 3]), Err(Error::Shape { .. })));
    let refused = sheet.finish(SheetLayout::default());
    assert!(matches!(refused, Err(Error::NoSuchFrame { index: 8, last: 7 })));
}
