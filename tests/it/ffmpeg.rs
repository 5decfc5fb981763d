//! ffmpeg reads the videos; and where there is none, that is said and not passed over.
//!
//! A test cannot skip itself while it runs, and one that returns has passed. So those that need
//! ffmpeg are ignored, and `cargo xtask test` runs them where it finds one.

use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::process::Command;

use wan_media::{GrowingIndex, GrowingMp4, Segment, SegmentEncoder, VideoFormat, VideoTags};

use crate::demo::generate;
use crate::support::error_text;

#[test]
#[ignore = "needs ffmpeg on the PATH"]
fn ffmpeg_reads_the_video() {
    let folder = tempfile::tempdir().unwrap();
    let video = folder.path().join("out.mp4");
    generate(&video, &["--frame_num", "9", "--sample_steps", "4"]);
    assert_eq!(decoded(&video).len(), 9 * 64 * 64 * 3);
}

/// All pixels of a video, in which ffmpeg finds no fault.
fn decoded(video: &Path) -> Vec<u8> {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-i"]).arg(video);
    let output = ffmpeg.args(["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]).output().unwrap();
    assert!(output.stderr.is_empty(), "{}: {}", video.display(), error_text(&output));
    output.stdout
}

/// Segments of 99 frames of a moving edge. Those of the second segment hold noise too, which is
/// encoded with coarser steps.
fn segments(format: VideoFormat) -> Vec<Segment> {
    let (mut encoder, mut noise) = (SegmentEncoder::new(format), 1_u32);
    let mut pixel = |frame: usize, x: usize| {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let is_noise = frame / format.segment_frames() == 1;
        let shade = if x < frame { 200 } else { 40 };
        [if is_noise { (noise >> 24) as u8 } else { shade }; 3]
    };
    let mut made = Vec::new();
    for frame in 0..99 {
        let places = (0..format.height()).flat_map(|_| 0..format.width());
        let rgb: Vec<u8> = places.flat_map(|x| pixel(frame, x)).collect();
        made.extend(encoder.push(&rgb).unwrap());
    }
    made.extend(encoder.finish());
    made
}

#[test]
#[ignore = "needs ffmpeg on the PATH"]
fn ffmpeg_finds_no_fault_in_a_video_whose_writer_was_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let format = VideoFormat::new(128, 96, 24000.0 / 1001.0).unwrap();
    let (mut growing, mut file) = (GrowingMp4::new(format), Cursor::new(Vec::new()));
    let (mut frames, frame_bytes) = (0, format.frame_bytes());
    for segment in segments(format) {
        let fragment = growing.append(&segment).unwrap();
        let (at, bytes) = fragment.hidden();
        assert_eq!(at, file.get_ref().len() as u64);
        // Within its name, the sizes of its frames, its frames; and when it is there but hidden.
        let places = [6, 20, 100, bytes.len() / 2, bytes.len() - 1, bytes.len()];
        for left in places.into_iter().filter(|_| frames > 0) {
            let video = folder.path().join(format!("{frames} and {left} bytes.mp4"));
            fs::write(&video, [&file.get_ref()[..], &bytes[..left]].concat()).unwrap();
            assert_eq!(decoded(&video).len(), frames * frame_bytes, "{}", video.display());
        }
        fragment.write(&mut file).unwrap();
        frames += segment.frames();
    }
    let (whole, plain) = (folder.path().join("growing.mp4"), folder.path().join("final.mp4"));
    fs::write(&whole, file.get_ref()).unwrap();
    let mut mp4 = Vec::new();
    let index = GrowingIndex::read(&mut file, u64::MAX).unwrap().unwrap();
    index.write_faststart(&mut file, &VideoTags::default(), &mut mp4).unwrap();
    fs::write(&plain, mp4).unwrap();
    let pixels = decoded(&whole);
    assert_eq!(pixels.len(), 99 * frame_bytes);
    assert!(decoded(&plain) == pixels);
}

#[cfg(unix)]
mod xtask {
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    use crate::built::{copied, write_script};
    use crate::support::{error_text, profile_folder};

    /// `cargo xtask test` with a cargo that notes what it is told, and programs at hand or not.
    fn run(programs: &[&str]) -> (String, String) {
        let (folder, xtask) = copied(&profile_folder().join("xtask"));
        let (cargo, told) = (folder.path().join("cargo"), folder.path().join("told"));
        write_script(&cargo, &format!("echo \"$@\" >> {}", told.display()));
        for program in ["wan-golden", "wan-audit"] {
            write_script(&folder.path().join("target/debug").join(program), "true");
        }
        let path = folder.path().join("path");
        fs::create_dir(&path).unwrap();
        programs.iter().for_each(|program| write_script(&path.join(program), "true"));
        let mut command = Command::new(xtask);
        command.arg("test").env("CARGO", &cargo).env("PATH", &path);
        let output = command.env("CARGO_MANIFEST_DIR", folder.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", error_text(&output));
        (error_text(&output), fs::read_to_string(Path::new(&told)).unwrap())
    }

    #[test]
    fn without_ffmpeg_its_tests_are_said_to_be_skipped() {
        let (said, told) = run(&[]);
        let last = said.lines().last().unwrap();
        assert!(last.contains("skipped: tests with ffmpeg"), "{said}");
        assert!(!told.contains("ffmpeg"), "{told}");
    }

    #[test]
    fn with_ffmpeg_its_tests_run() {
        let (said, told) = run(&["ffmpeg"]);
        assert!(!said.contains("skipped"), "{said}");
        let run = told.lines().find(|line| line.contains("ffmpeg::")).unwrap();
        assert!(run.contains("--run-ignored only"), "{run}");
    }
}
