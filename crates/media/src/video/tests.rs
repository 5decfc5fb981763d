//! What is written is read back by an independent demuxer and decoder.

mod damage;
mod growing;
mod rates;
mod sheets;

use std::io::Cursor;
use std::path::Path;
use std::time::Duration;

use mp4::{MediaType, Mp4Reader};
use openh264::decoder::Decoder;
use openh264::formats::YUVSource;

use super::*;
use crate::{Error, SheetLayout, encode_png_sheet, evenly_spaced, is_png_sheet, read_tags};

const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// Pixels that no encoder can foresee.
fn noise_clip(frames: usize, width: usize, height: usize) -> VideoFrames {
    let mut state = 1_u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let rgb = (0..frames * width * height * 3).map(|_| noise()).collect();
    VideoFrames::new(width, height, rgb).unwrap()
}

/// A soft red ball that crosses a sky over a meadow, the kind of picture the demo model makes.
fn ball_clip(frames: usize, width: usize, height: usize) -> VideoFrames {
    let mut rgb = Vec::with_capacity(frames * width * height * 3);
    for frame in 0..frames {
        let centre = 0.2 + 0.6 * frame as f64 / frames as f64;
        for y in 0..height {
            for x in 0..width {
                let (u, v) = (x as f64 / width as f64, y as f64 / height as f64);
                let ground: [f64; 3] =
                    if v > 0.62 { [77.0, 153.0, 64.0] } else { [115.0 + 90.0 * v, 190.0, 245.0] };
                let distance = (u - centre).hypot(v - 0.5);
                let ball = ((0.2 - distance) * 8.0).clamp(0.0, 1.0);
                for (channel, red) in ground.iter().zip([230.0, 38.0, 38.0]) {
                    rgb.push((channel * (1.0 - ball) + red * ball).round() as u8);
                }
            }
        }
    }
    VideoFrames::new(width, height, rgb).unwrap()
}

/// Demuxes with the `mp4` crate and decodes with OpenH264: the reader, and the decoded pixels.
fn read_back(path: &Path) -> (Mp4Reader<Cursor<Vec<u8>>>, Vec<Vec<u8>>) {
    let bytes = std::fs::read(path).unwrap();
    let size = bytes.len() as u64;
    let mut reader = Mp4Reader::read_header(Cursor::new(bytes), size).unwrap();
    let track = &reader.tracks()[&1];
    let parameters = [
        &START_CODE,
        track.sequence_parameter_set().unwrap(),
        &START_CODE,
        track.picture_parameter_set().unwrap(),
    ]
    .concat();
    let mut decoder = Decoder::new().unwrap();
    decoder.decode(&parameters).unwrap();
    let mut decoded = Vec::new();
    for sample in 1..=reader.sample_count(1).unwrap() {
        let sample = reader.read_sample(1, sample).unwrap().unwrap();
        if let Some(picture) = decoder.decode(&annex_b(&sample.bytes)).unwrap() {
            decoded.push(rgb_of(&picture));
        }
    }
    for picture in decoder.flush_remaining().unwrap() {
        decoded.push(rgb_of(&picture));
    }
    (reader, decoded)
}

fn rgb_of(picture: &openh264::decoder::DecodedYUV<'_>) -> Vec<u8> {
    let (width, height) = picture.dimensions();
    let mut rgb = vec![0; width * height * 3];
    picture.write_rgb8(&mut rgb);
    rgb
}

/// Length-prefixed units, as MP4 stores them, to start codes, as decoders read them.
fn annex_b(mut sample: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    while let Some((length, rest)) = sample.split_first_chunk::<4>() {
        let (unit, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        stream.extend([&START_CODE, unit].concat());
        sample = rest;
    }
    stream
}

fn psnr_db(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len());
    let squares: f64 = a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
    10.0 * (255.0_f64.powi(2) / (squares / a.len() as f64)).log10()
}

/// Brightness alone, which H.264 keeps at full resolution; rounding of the conversion included.
fn luma(rgb: &[u8]) -> Vec<u8> {
    let weighted = |p: &[u8]| 77 * u32::from(p[0]) + 150 * u32::from(p[1]) + 29 * u32::from(p[2]);
    rgb.chunks_exact(3).map(|pixel| (weighted(pixel) >> 8) as u8).collect()
}

/// Writes, reads back, checks brightness, and returns the worst PSNR of a frame in dB and the
/// file's size in bytes.
fn round_trip(clip: &VideoFrames, fps: f64) -> (f64, u64) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    std::fs::write(&path, encode_mp4(clip, fps, &VideoTags::default()).unwrap()).unwrap();
    let (reader, decoded) = read_back(&path);
    let track = &reader.tracks()[&1];
    assert_eq!(track.media_type().unwrap(), MediaType::H264);
    assert_eq!((track.width() as usize, track.height() as usize), (clip.width(), clip.height()));
    assert_eq!(track.sample_count() as usize, clip.frames());
    let expected = Duration::from_secs_f64(clip.frames() as f64 / fps);
    assert!(track.duration().abs_diff(expected) < Duration::from_millis(2), "{expected:?}");
    assert!(reader.duration().abs_diff(expected) < Duration::from_millis(2), "{expected:?}");
    assert_eq!(decoded.len(), clip.frames());
    let worst = (0..clip.frames())
        .map(|index| psnr_db(clip.frame(index), &decoded[index]))
        .fold(f64::INFINITY, f64::min);
    let worst_luma = (0..clip.frames())
        .map(|index| psnr_db(&luma(clip.frame(index)), &luma(&decoded[index])))
        .fold(f64::INFINITY, f64::min);
    assert!(worst_luma > 40.0, "{worst_luma} dB");
    let bytes = std::fs::metadata(&path).unwrap().len();
    (worst, bytes)
}

#[test]
fn nine_small_frames_survive() {
    let (worst_db, bytes) = round_trip(&ball_clip(9, 64, 64), 16.0);
    assert!(worst_db > 35.0, "{worst_db} dB");
    assert!(bytes < 64 * 64 * 3 * 9 / 4, "{bytes} bytes");
}

#[test]
fn larger_frames_and_odd_rates_survive() {
    let (worst_db, _) = round_trip(&ball_clip(5, 416, 240), 24000.0 / 1001.0);
    assert!(worst_db > 35.0, "{worst_db} dB");
}

#[test]
fn no_frame_is_dropped_when_every_pixel_changes() {
    let clip = noise_clip(40, 128, 96);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("noise.mp4");
    std::fs::write(&path, encode_mp4(&clip, 16.0, &VideoTags::default()).unwrap()).unwrap();
    assert_eq!(read_back(&path).1.len(), 40);
    assert!(std::fs::metadata(&path).unwrap().len() > 40 * 128 * 96 / 4);
}

#[test]
fn sizes_that_are_no_multiple_of_a_macroblock_survive() {
    let (worst_db, _) = round_trip(&ball_clip(3, 90, 50), 16.0);
    assert!(worst_db > 35.0, "{worst_db} dB");
}

#[test]
fn one_frame_is_a_video() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("one.mp4");
    std::fs::write(&path, encode_mp4(&ball_clip(1, 64, 64), 16.0, &VideoTags::default()).unwrap())
        .unwrap();
    let (reader, decoded) = read_back(&path);
    assert_eq!(decoded.len(), 1);
    assert_eq!(reader.tracks()[&1].duration(), Duration::from_secs_f64(1.0 / 16.0));
    assert_eq!(reader.duration(), Duration::from_millis(62), "this reader cuts to milliseconds");
}

#[test]
fn tags_come_back_and_the_pictures_stay_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tagged.mp4");
    let tags = VideoTags {
        title: "a big red ball, höher".into(),
        comment: "made by a test".into(),
        description: format!(r#"{{"seed":42,"text":"{}"}}"#, "x".repeat(3000)),
    };
    let clip = ball_clip(9, 64, 64);
    std::fs::write(&path, encode_mp4(&clip, 16.0, &tags).unwrap()).unwrap();
    assert_eq!(read_tags(&path).unwrap(), tags);
    let (reader, decoded) = read_back(&path);
    assert_eq!(decoded.len(), 9);
    assert!(psnr_db(clip.frame(8), &decoded[8]) > 35.0);
    // An independent reader sees them too.
    let metadata = reader.metadata();
    assert_eq!(mp4::Metadata::title(&metadata).unwrap(), tags.title);
    assert_eq!(mp4::Metadata::summary(&metadata).unwrap(), tags.description);
}

#[test]
fn the_index_stands_before_the_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    let tags = VideoTags { title: "t".into(), ..VideoTags::default() };
    std::fs::write(&path, encode_mp4(&ball_clip(2, 64, 64), 16.0, &tags).unwrap()).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let at = |name: &[u8]| bytes.windows(4).position(|window| window == name).unwrap();
    assert!(at(b"moov") < at(b"udta") && at(b"udta") < at(b"mdat"));
}

#[test]
fn no_tags_and_no_mp4() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    std::fs::write(&path, encode_mp4(&ball_clip(1, 16, 16), 16.0, &VideoTags::default()).unwrap())
        .unwrap();
    assert_eq!(read_tags(&path).unwrap(), VideoTags::default());
    std::fs::write(&path, b"not a video at all").unwrap();
    assert!(matches!(read_tags(&path), Err(Error::Structure(_))));
    assert!(matches!(read_tags(&folder.path().join("no")), Err(Error::File(_))));
}

#[test]
fn impossible_clips_are_refused() {
    let tags = VideoTags::default();
    let odd = VideoFrames::new(3, 2, vec![0; 18]).unwrap();
    assert!(matches!(encode_mp4(&odd, 16.0, &tags), Err(Error::OddSize { .. })));
    let clip = ball_clip(1, 16, 16);
    for fps in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let refused = encode_mp4(&clip, fps, &tags);
        assert!(matches!(refused, Err(Error::FrameRate { .. })), "{fps}");
    }
    assert!(matches!(VideoFrames::new(4, 4, vec![0; 47]), Err(Error::Shape { .. })));
    assert!(matches!(VideoFrames::new(4, 4, vec![]), Err(Error::Shape { .. })));
}

#[test]
fn frames_of_a_sheet_are_spread_from_the_first_to_the_last() {
    let spread = |frames| evenly_spaced(&ball_clip(frames, 2, 2), 8);
    assert_eq!(spread(1), [0]);
    assert_eq!(spread(3), [0, 1, 2]);
    assert_eq!(spread(15), [0, 2, 4, 6, 8, 10, 12, 14]);
}

#[test]
fn a_sheet_shows_the_chosen_frames() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sheet.png");
    let rgb: Vec<u8> = [[10_u8, 20, 30], [40, 50, 60], [70, 80, 90]]
        .iter()
        .flat_map(|colour| colour.repeat(4))
        .collect();
    let clip = VideoFrames::new(2, 2, rgb).unwrap();
    let layout = SheetLayout { columns: 2, scale: 3, gap: 1 };
    std::fs::write(&path, encode_png_sheet(&clip, &[2, 0, 1], layout).unwrap()).unwrap();
    assert!(is_png_sheet(&path));
    let decoder = png::Decoder::new(Cursor::new(std::fs::read(&path).unwrap()));
    let mut reader = decoder.read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let header = reader.next_frame(&mut pixels).unwrap();
    assert_eq!((header.width, header.height), (13, 13));
    let at = |x: usize, y: usize| &pixels[(y * 13 + x) * 3..][..3];
    assert_eq!(at(5, 5), [70, 80, 90]);
    assert_eq!(at(6, 0), [128; 3]);
    assert_eq!(at(7, 0), [10, 20, 30]);
    assert_eq!(at(0, 7), [40, 50, 60]);
    assert_eq!(at(12, 12), [128; 3]);
    let refused = encode_png_sheet(&clip, &[3], layout);
    assert!(matches!(refused, Err(Error::NoSuchFrame { index: 3, last: 2 })));
}

#[test]
fn boxes_of_every_legal_size_are_read_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    let tags = VideoTags { title: "t".into(), ..VideoTags::default() };
    std::fs::write(&path, encode_mp4(&ball_clip(2, 64, 64), 16.0, &tags).unwrap()).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let of = |size: u32| [&size.to_be_bytes()[..], b"free"].concat();
    let wide = |size: u64| [&of(1)[..], &size.to_be_bytes()].concat();
    // In front of what is looked for: with nothing in it, with a length of eight bytes, with a byte.
    for before in [of(8), wide(16), [&of(9)[..], &[7]].concat()] {
        std::fs::write(&path, [&before[..], &whole].concat()).unwrap();
        assert_eq!(read_tags(&path).unwrap(), tags, "{before:?}");
    }
    for before in [of(7), of(2), wide(15), of(u32::MAX), wide(u64::MAX)] {
        std::fs::write(&path, [&before[..], &whole].concat()).unwrap();
        assert!(matches!(read_tags(&path), Err(Error::Structure(_))), "{before:?}");
    }
}
