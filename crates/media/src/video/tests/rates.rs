//! Frame rates as fractions, and how many frames a segment has.

use proptest::prelude::*;

use crate::{Error, VideoFormat};

#[test]
fn rates_are_fractions_of_whole_numbers() {
    for (fps, ticks, frames) in [
        (24000.0 / 1001.0, (24000, 1001), 48),
        (30000.0 / 1001.0, (30000, 1001), 60),
        (23.976, (2_997_000, 125_000), 48),
        (12.5, (25_000, 2000), 25),
        (16.0, (16_000, 1000), 32),
        (24.0, (24_000, 1000), 48),
        (1.0, (1000, 1000), 2),
        (0.1, (1000, 10_000), 2),
        (240.0, (240_000, 1000), 64),
    ] {
        let format = VideoFormat::new(64, 48, fps).unwrap();
        assert_eq!((format.ticks_per_second(), format.ticks_per_frame()), ticks, "{fps}");
        assert_eq!(format.segment_frames(), frames, "{fps}");
    }
}

#[test]
fn formats_that_cannot_be_are_refused() {
    for fps in [0.0, -16.0, f64::NAN, f64::INFINITY, 1e-12, 1e12] {
        let refused = VideoFormat::new(64, 48, fps);
        assert!(matches!(refused, Err(Error::FrameRate { .. })), "{fps}");
    }
    assert!(matches!(VideoFormat::new(64, 47, 16.0), Err(Error::OddSize { .. })));
    assert!(matches!(VideoFormat::new(0, 48, 16.0), Err(Error::Shape { .. })));
}

proptest! {
    #[test]
    fn a_fraction_is_as_near_as_matters(fps in 0.01..1000.0_f64) {
        let format = VideoFormat::new(64, 48, fps).unwrap();
        prop_assert!((format.fps() - fps).abs() <= fps * 1e-12);
        prop_assert!((2..=64).contains(&format.segment_frames()));
    }

    /// What people write, of a few digits, is kept as it is written.
    #[test]
    fn a_short_number_is_kept_as_it_is(thousandths in 1..240_000_u32) {
        let format = VideoFormat::new(64, 48, f64::from(thousandths) / 1000.0).unwrap();
        let (ticks, each) = (format.ticks_per_second(), format.ticks_per_frame());
        prop_assert_eq!(u64::from(ticks) * 1000, u64::from(each) * u64::from(thousandths));
    }
}
