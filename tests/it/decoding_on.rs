//! A video that is written on from the middle has the bytes of one that was written at once, and
//! decodes no more again than its pixels depend on.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use candle_core::Tensor;
use wan_host::parts::Noise;
use wan_host::{Cancel, FrameSource, Model, Request, Settings, VideoWriter};
use wan_media::{SheetFrames, VideoFormat, VideoFrames};

use crate::support::{demo_model, short_request};

/// Latent frames that pixels of the demo's VAE depend on; a test of the VAE has it, too.
const RECEPTIVE: usize = 30;
/// 165 frames, in segments of 32.
const LATENTS: usize = 42;
const SEGMENT: usize = 32;

fn latents() -> Vec<Tensor> {
    let (noise, cpu) = (Noise::new(3), candle_core::Device::Cpu);
    let frame = |number| noise.draw(Noise::INITIAL_LATENTS, number, &[1, 16, 1, 8, 8], &cpu);
    (0..LATENTS as u64).map(|number| frame(number).unwrap()).collect()
}

struct Case<'m> {
    model: &'m Model,
    settings: Settings,
    has_sheet: bool,
}

/// The bytes of a file, its length after each segment, and the contact sheet.
type Made = (Vec<u8>, Vec<u64>, Option<SheetFrames>);

impl Case<'_> {
    /// Writes what is left of a video to a file of whole segments. `skipped` is how many latent
    /// frames need not come; they are not read where `is_told`.
    fn write(&self, path: &Path, skipped: usize, is_told: bool) -> Made {
        let decoder = self.model.decoder(&self.settings, &Cancel::default()).unwrap();
        let format = VideoFormat::new(64, 64, 8.0).unwrap();
        let bytes = fs::metadata(path).map_or(0, |about| about.len());
        let mut writer = VideoWriter::new(decoder, format, (path, bytes)).unwrap();
        if self.has_sheet {
            writer = writer.with_sheet(SheetFrames::new((64, 64), self.settings.video_frames(), 8));
        }
        let options = File::options().create(true).truncate(false).write(true).clone();
        let mut file = options.open(path).unwrap();
        let mut ends = Vec::new();
        let told = if is_told { writer.skip(LATENTS) } else { 0 };
        assert_eq!(told, if is_told { skipped } else { 0 });
        for latent in &latents()[told..] {
            for fragment in writer.push(latent).unwrap() {
                fragment.write(&mut file).unwrap();
                ends.push(fs::metadata(path).unwrap().len());
            }
        }
        assert_eq!(writer.frames(), self.settings.video_frames());
        let (last, sheet) = writer.finish().unwrap();
        last.into_iter().for_each(|fragment| fragment.write(&mut file).unwrap());
        (fs::read(path).unwrap(), ends, sheet)
    }

    /// Goes on after each segment. `first` latent frame that is still needed, by segments.
    fn check(&self, needed: impl Fn(usize) -> usize) {
        let folder = tempfile::tempdir().unwrap();
        let (bytes, ends, sheet) = self.write(&folder.path().join("whole.mp4"), 0, true);
        assert!(ends.len() >= 5, "{ends:?}");
        for (segments, end) in ends.iter().enumerate() {
            let needed = needed((segments + 1) * SEGMENT);
            let skipped = if self.has_sheet { 0 } else { needed.saturating_sub(RECEPTIVE) };
            for is_told in [true, false] {
                let path = folder.path().join(format!("{segments}-{is_told}.mp4"));
                fs::write(&path, &bytes[..usize::try_from(*end).unwrap()]).unwrap();
                let (again, _, same_sheet) = self.write(&path, skipped, is_told);
                assert!(again == bytes, "after {} segments", segments + 1);
                assert!(same_sheet == sheet);
            }
        }
    }
}

fn request() -> Request {
    Request { frame_num: Some(4 * (LATENTS - 1) + 1), ..short_request() }
}

#[test]
fn a_video_goes_on_where_its_segments_end() {
    let model = demo_model();
    let settings = model.settle(&request()).unwrap();
    let case = Case { model: &model, settings, has_sheet: false };
    // Frames 4n+1 to 4n+4 are those of latent frame n+1.
    case.check(|written| written.div_ceil(4));
}

#[test]
fn tiles_are_gone_on_with_too() {
    let model = demo_model();
    let settings = model.settle(&Request { vae_tiling: Some(true), ..request() }).unwrap();
    Case { model: &model, settings, has_sheet: false }.check(|written| written.div_ceil(4));
}

#[test]
fn a_contact_sheet_needs_all_frames() {
    let model = demo_model();
    let settings = model.settle(&request()).unwrap();
    Case { model: &model, settings, has_sheet: true }.check(|written| written.div_ceil(4));
}

#[test]
fn a_given_clip_stands_before_what_is_decoded() {
    let model = demo_model();
    let grey = (0..50).flat_map(|frame| vec![4 * frame; 64 * 64 * 3]).collect();
    let clip = Arc::new(VideoFrames::new(64, 64, grey).unwrap());
    let request = Request {
        video: Some(FrameSource::Pixels(clip)),
        context_frames: Some(9),
        sampler: Some("diffusion-forcing".into()),
        ..request()
    };
    let settings = model.settle(&request).unwrap();
    assert_eq!(settings.video_frames(), 41 + 165);
    let case = Case { model: &model, settings, has_sheet: false };
    case.check(|written| written.saturating_sub(41).div_ceil(4));
}
