//! A clip is continued, and a picture set in motion, on the demo model.

use wan_media::{picture, psnr, read_video};
use wan_tests::checkout::checkout;
use wan_tests::scene::{Clip, look};

use crate::command_line::check_refused;
use crate::demo::{generate, play};

const FRAME: usize = 64 * 64 * 3;

/// Extends a generated clip: what was given comes first, and the object goes on as it went.
fn check_extension(prompt: &str, color: &str, motion: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (first, longer) = (folder.path().join("first.mp4"), folder.path().join("longer.mp4"));
    generate(&first, &["--prompt", prompt]);
    let clip = first.to_str().unwrap();
    generate(&longer, &["--prompt", prompt, "--video", clip, "--frame_num", "49"]);
    let (given, whole) = (play(&first), play(&longer));
    assert_eq!((given.frames, whole.frames), (33, 33 + 49 - 17), "{prompt}");
    let kept = psnr(&given.rgb, &whole.rgb[..33 * FRAME]);
    assert!(kept > 30.0, "{prompt}: the given frames came back at {kept:.1} dB");
    // The context and what was generated after it.
    let rgb = &whole.rgb[(33 - 17) * FRAME..];
    let seen = look(Clip { frames: 49, height: 64, width: 64, rgb });
    let seen = seen.unwrap_or_else(|| panic!("nothing is seen of the extension of: {prompt}"));
    assert_eq!((seen.color.name(), seen.path.motion.name()), (color, motion), "{prompt}");
}

macro_rules! extensions {
    ($($name:ident: $prompt:literal, $color:literal, $motion:literal;)*) => {
        $(#[test]
        fn $name() {
            check_extension($prompt, $color, $motion);
        })*
    };
}

extensions! {
    red_goes_on_right: "a big red ball moving right over a meadow", "red", "moving right";
    blue_goes_on_left: "a big blue box moving left over a desert", "blue", "moving left";
    yellow_goes_on_rising: "a big yellow star rising over a ocean", "yellow", "rising";
    green_goes_on_falling: "a big green ball falling over a night city", "green", "falling";
    white_goes_on_right: "a big white ball moving right over a night city", "white", "moving right";
    pink_goes_on_left: "a big pink ball moving left over a meadow", "pink", "moving left";
    orange_goes_on_falling: "a big orange ball falling over a ocean", "orange", "falling";
    purple_goes_on_rising: "a big purple ball rising over a desert", "purple", "rising";
}

#[test]
fn a_picture_is_the_first_frame_and_is_set_in_motion() {
    let folder = tempfile::tempdir().unwrap();
    let prompt = "a big red ball moving right over a meadow";
    let source = folder.path().join("source.mp4");
    generate(&source, &["--prompt", prompt]);
    let image = picture(&read_video(&source).unwrap(), 8);
    let path = folder.path().join("first.png");
    image.save(&path).unwrap();
    let moving = folder.path().join("moving.mp4");
    generate(&moving, &["--prompt", prompt, "--image", path.to_str().unwrap()]);
    let played = play(&moving);
    let same = psnr(image.as_raw(), &played.rgb[..FRAME]);
    assert!(same > 22.0, "the first frame is {same:.1} dB from the picture");
    let seen = look(Clip { frames: 33, height: 64, width: 64, rgb: &played.rgb }).unwrap();
    assert_eq!((seen.color.name(), seen.path.motion.name()), ("red", "moving right"));
}

#[test]
fn the_last_frame_of_a_clip_is_context_enough() {
    let folder = tempfile::tempdir().unwrap();
    let (clip, longer) = (folder.path().join("clip.mp4"), folder.path().join("longer.mp4"));
    let short = ["--cache", "none", "--sample_steps", "2"];
    generate(&clip, &[&short[..], &["--frame_num", "9"]].concat());
    let video = ["--video", clip.to_str().unwrap(), "--context_frames"];
    for (context, frames) in [("1", 9 + 12), ("5", 9 + 8)] {
        let flags = [&short[..], &video, &[context, "--frame_num", "13"]].concat();
        generate(&longer, &flags);
        let (given, whole) = (play(&clip), play(&longer));
        assert_eq!(whole.frames, frames, "{context}");
        let kept = psnr(&given.rgb, &whole.rgb[..9 * FRAME]);
        assert!(kept > 30.0, "{context}: the given frames came back at {kept:.1} dB");
    }
    check_refused(&[&video[..], &["0"]].concat(), "--context_frames");
}

#[test]
fn given_files_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let clip = folder.path().join("clip.mp4");
    generate(&clip, &["--frame_num", "9", "--sample_steps", "2"]);
    let clip = clip.to_str().unwrap();
    let text = checkout().join("tests/Cargo.toml");
    let text = text.to_str().unwrap();
    check_refused(&["--image", "/nowhere.png"], "/nowhere.png");
    check_refused(&["--image", text], "not a PNG, JPEG or WebP");
    check_refused(&["--video", text], "not a readable MP4 file");
    check_refused(&["--video", clip], "9 frames");
    check_refused(&["--video", clip, "--context_frames", "8"], "4n+1");
    check_refused(&["--video", clip, "--image", text], "exclude each other");
    check_refused(&["--last_frame", text], "not a PNG");
    let with = ["--video", clip, "--context_frames", "5"];
    check_refused(
        &[&with[..], &["--sampler", "unipc"]].concat(),
        "use --sampler diffusion-forcing",
    );
    check_refused(&[&with[..], &["--causal_block_size", "3"]].concat(), "block");
}
