//! ffmpeg reads the videos; and where there is none, that is said and not passed over.
//!
//! A test cannot skip itself while it runs, and one that returns has passed. So those that need
//! ffmpeg are ignored, and `cargo xtask test` runs them where it finds one.

use std::process::Command;

use crate::demo::generate;
use crate::support::error_text;

#[test]
#[ignore = "needs ffmpeg on the PATH"]
fn ffmpeg_reads_the_video() {
    let folder = tempfile::tempdir().unwrap();
    let video = folder.path().join("out.mp4");
    generate(&video, &["--frame_num", "9", "--sample_steps", "4"]);
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-i"]).arg(&video);
    let output = ffmpeg.args(["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]).output().unwrap();
    assert!(output.stderr.is_empty(), "{}", error_text(&output));
    assert_eq!(output.stdout.len(), 9 * 64 * 64 * 3);
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
