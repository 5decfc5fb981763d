//! Files and numbers that were made to hurt: refused at once, with the file or the flag by name.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use wan_host::{DeviceChoice, Engine, Error, Turn};
use wan_media::{VideoFrames, VideoTags, encode_mp4, read_video};
use wan_tests::tiny_model::TinyModel;

use crate::command_line::check_refused;
use crate::recordings::{Recorded, extension};
use crate::support::{demo_folder, error_text, json_file, profile_folder, refused, wan};

/// A tiny model in a folder.
fn tiny(folder: &Path) -> std::path::PathBuf {
    let root = folder.join("model");
    TinyModel::t2v().write(&root).unwrap();
    root
}

fn open(folder: &Path) -> Result<(), Error> {
    Engine::builder().device(DeviceChoice::Cpu).build().unwrap().open(folder).map(drop)
}

/// Whose turn it is where the model in this folder is opened, and what is said.
fn turn(folder: &Path) -> (Turn, String) {
    let error = open(folder).unwrap_err();
    (error.turn(), error.to_string())
}

#[test]
#[cfg(unix)]
fn what_is_no_regular_file_is_refused_by_its_kind() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let (fifo, here) = (fifo.to_str().unwrap(), folder.path().to_str().unwrap());
    let things = [(fifo, "a FIFO"), ("/dev/zero", "a device"), (here, "a folder")];
    let model_flags = ["tokenizer", "transformer", "vae"];
    for (path, kind) in things {
        let expected = format!("{path}: is {kind}, expected a regular file");
        for flag in ["image", "video", "latents", "job", "plugin_allow"] {
            check_refused(&["--frame_num", "33", &format!("--{flag}"), path], &expected);
        }
        let calibration = format!("calibration={path}");
        check_refused(&["--cache", "teacache", "--cache_option", &calibration], &expected);
        for flag in model_flags {
            let demo = demo_folder();
            let model = ["generate", "--ckpt_dir", demo.to_str().unwrap()];
            let text = error_text(&wan(&[&model[..], &[&format!("--{flag}"), path]].concat()));
            assert!(text.contains(&expected), "--{flag}: {text}");
        }
        refused(&["generate", "--reproduce", path], &expected);
        refused(&["decode", path], &expected);
    }
}

/// The place of a box of an MP4 file: through these boxes, each in the one before.
fn place(mp4: &[u8], path: &[&[u8; 4]]) -> usize {
    let (mut start, mut end, mut found) = (0, mp4.len(), 0);
    for name in path {
        loop {
            assert!(start < end, "no box {}", String::from_utf8_lossy(*name));
            let size = u32::from_be_bytes(mp4[start..start + 4].try_into().unwrap()) as usize;
            if &mp4[start + 4..start + 8] == name.as_slice() {
                (found, end) = (start, start + size);
                start += if *name == b"meta" { 12 } else { 8 };
                break;
            }
            start += size;
        }
    }
    found
}

#[test]
fn a_clip_whose_boxes_lie_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    let frames = VideoFrames::new(32, 16, vec![90; 32 * 16 * 3 * 5]).unwrap();
    let tags = VideoTags { title: "t".into(), ..VideoTags::default() };
    fs::write(&path, encode_mp4(&frames, 16.0, &tags).unwrap()).unwrap();
    let whole = fs::read(&path).unwrap();
    let table: [&[u8; 4]; 5] = [b"moov", b"trak", b"mdia", b"minf", b"stbl"];
    let of = |name: &'static [u8; 4]| place(&whole, &[&table[..], &[name]].concat());
    let (stts, stsz, stsc, stco) = (of(b"stts"), of(b"stsz"), of(b"stsc"), of(b"stco"));
    let udta = place(&whole, &[b"moov", b"udta", b"meta", b"hdlr"]);
    let most = u32::MAX;
    for (what, at, words) in [
        ("a box of size 0 among the tags", udta, &[0][..]),
        ("too many sizes", stsz + 16, &[most]),
        ("one size, too many samples", stsz + 12, &[1, most]),
        ("a size of 4 GiB", stsz + 20, &[most]),
        ("samples of 4 GiB", stsz + 12, &[most, 5]),
        ("too many durations", stts + 12, &[most]),
        ("a duration of too many samples", stts + 16, &[most, most]),
        ("chunks of no samples", stsc + 16, &[1, 0, 1]),
        ("chunks from 0 on", stsc + 16, &[0, 5, 1]),
        ("chunks of too many samples", stsc + 16, &[1, most, 1]),
        ("too many chunks", stco + 12, &[most]),
        ("no chunks", stco + 12, &[0]),
        ("a chunk behind the end", stco + 16, &[most]),
    ] {
        let mut bytes = whole.clone();
        for (number, word) in words.iter().enumerate() {
            bytes[at + 4 * number..at + 4 * number + 4].copy_from_slice(&word.to_be_bytes());
        }
        fs::write(&path, &bytes).unwrap();
        let said = read_video(&path).expect_err(what).to_string();
        assert!(said.contains("clip.mp4"), "{what}: {said}");
    }
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    check_refused(&["--video", path.to_str().unwrap()], "clip.mp4: cut short, or no MP4: ");
}

#[test]
fn a_picture_that_is_cut_or_too_large_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("picture.jpg");
    let tone = |x: u32, y: u32| u8::try_from((x * 7 + y * 5) % 256).unwrap();
    image::RgbImage::from_fn(64, 64, |x, y| image::Rgb([tone(x, y), tone(y, x), 99]))
        .save(&path)
        .unwrap();
    let whole = fs::read(&path).unwrap();
    let flags = ["--image", path.to_str().unwrap()];
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    check_refused(&flags, "picture.jpg: cut short: the JPEG data have no end");
    // Its frame header says 64 x 64: height, then width.
    let sides = whole.windows(5).position(|w| w == [8, 0, 64, 0, 64]).unwrap();
    let mut large = whole.clone();
    large[sides + 1..sides + 5].copy_from_slice(&[0xfd, 0x7c, 0x0a, 0x15]);
    fs::write(&path, &large).unwrap();
    check_refused(&flags, "picture.jpg: 2581x64892 pixels, 16384 a side and 67108864 in all are");
}

#[test]
fn numbers_that_no_video_has_are_refused_with_their_range() {
    for size in ["18446744073709551615*16", "18446744073709551600*64", "100000*100000", "0*64"] {
        let expected = format!("--size {size}: ");
        check_refused(&["--frame_num", "5", "--size", size], &expected);
        check_refused(&["--frame_num", "5", "--size", size], "must be 1 to 16384 pixels");
    }
    for frames in ["18446744073709551615", "9223372036854775809", "17179869185", "0", "1048577"] {
        let expected = format!("--frame_num {frames}: must be 1 to 1048576");
        check_refused(&["--frame_num", frames], &expected);
    }
    check_refused(&["--frame_num", "1048573", "--size", "16384*16384"], "latents in a channel");
    check_refused(
        &["--sample_steps", "4294967295"],
        "--sample_steps 4294967295: must be 1 to 1000",
    );
    check_refused(&["--context_frames", "18446744073709551615"], "--context_frames");
    for flag in ["--fps", "--sample_shift", "--sample_guide_scale", "--sample_guide_scale_low"] {
        for number in ["nan", "inf", "1e300"] {
            check_refused(&[flag, number], &format!("{flag} "));
        }
    }
    for number in ["nan", "inf", "1e300", "-1"] {
        let number = format!("={number}");
        let flag = |name: &str| format!("--{name}{number}");
        let plan = flag("target_speedup");
        refused(&["cache", "plan", "--cache", "magcache", &plan], "--target_speedup");
        for gate in ["gate_psnr", "gate_saved"] {
            let compare = ["cache", "compare", "--candidate", "steps=2", "--out", "no/folder"];
            refused(&[&compare[..], &[&flag(gate)]].concat(), &format!("--{gate}"));
        }
        refused(&["plugins", "check", "no.so", &flag("timeout")], "--timeout");
    }
    let memory = "18446744073709551615: must be 256 to 16777216";
    refused(&["plugins", "check", "no.so", "--memory", "18446744073709551615"], memory);
}

#[test]
fn a_config_with_a_number_that_no_model_has_is_the_models_fault() {
    let folder = tempfile::tempdir().unwrap();
    let root = tiny(folder.path());
    open(&root).unwrap();
    let most = json!(u64::MAX);
    for (file, field, number) in [
        ("transformer/config.json", "num_layers", json!(i64::MAX)),
        ("transformer/config.json", "num_attention_heads", most.clone()),
        ("transformer/config.json", "attention_head_dim", json!(1_u64 << 63)),
        ("transformer/config.json", "in_channels", most.clone()),
        ("transformer/config.json", "ffn_dim", json!(0)),
        ("transformer/config.json", "num_layers", json!(-1)),
        ("transformer/config.json", "rope_max_seq_len", most.clone()),
        ("vae/config.json", "num_res_blocks", json!(1_u64 << 32)),
        ("vae/config.json", "base_dim", json!(1_u64 << 63)),
        ("vae/config.json", "z_dim", most.clone()),
        ("vae/config.json", "dim_mult", json!(vec![1; 100])),
        ("vae/config.json", "patch_size", json!(0)),
        ("text_encoder/config.json", "num_layers", json!(1_u64 << 32)),
        ("text_encoder/config.json", "d_kv", most.clone()),
        ("text_encoder/config.json", "vocab_size", most.clone()),
        ("model_index.json", "max_sequence_length", json!(1_u64 << 63)),
        ("model_index.json", "max_sequence_length", json!("512")),
        ("model_index.json", "boundary_ratio", json!(1e300)),
        ("scheduler/scheduler_config.json", "flow_shift", json!("three")),
    ] {
        let path = root.join(file);
        let whole = json_file(&path);
        let mut changed = whole.clone();
        changed[field] = number;
        fs::write(&path, changed.to_string()).unwrap();
        let (turn, said) = turn(&root);
        assert!(said.contains(file) && said.contains(field), "{file} {field}: {said}");
        assert_eq!(turn, Turn::ModelFiles, "{said}");
        fs::write(&path, whole.to_string()).unwrap();
    }
    open(&root).unwrap();
}

#[test]
fn a_tokenizer_that_makes_its_reader_panic_is_an_error_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let root = tiny(folder.path());
    let path = root.join("tokenizer/tokenizer.json");
    let mut tokenizer = json_file(&path);
    let tokens = tokenizer["post_processor"]["special_tokens"].as_object_mut().unwrap();
    let (_, mut token) = std::mem::take(tokens).into_iter().next().unwrap();
    token["id"] = "x".into();
    tokens.insert("x".into(), token);
    fs::write(&path, tokenizer.to_string()).unwrap();
    let engine = Engine::builder().device(DeviceChoice::Cpu).build().unwrap();
    let error = engine.open(&root).unwrap().encode_prompt("a red ball").unwrap_err();
    let expected = "tokenizer.json: the tokenizer reader failed (";
    assert!(error.to_string().contains(expected), "{error}");
    assert_eq!(error.turn(), Turn::ModelFiles);
    // The program's own hook says nothing of it either.
    let model = ["--ckpt_dir", root.to_str().unwrap(), "--progress", "quiet", "--frame_num", "5"];
    let text = error_text(&wan(&[&["generate", "--prompt", "a red ball"], &model[..]].concat()));
    assert!(text.contains(expected) && !text.contains("panicked"), "{text}");
}

/// The reader makes a tree as deep as the longest piece, and leaves it by recursion: found by
/// `cargo xtask fuzz`.
#[test]
fn a_vocabulary_with_a_piece_that_never_ends_is_refused_before_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let root = tiny(folder.path());
    let path = root.join("tokenizer/tokenizer.json");
    let mut tokenizer = json_file(&path);
    tokenizer["model"] = json!({
        "type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a".repeat(400_000), -1.0]],
    });
    fs::write(&path, tokenizer.to_string()).unwrap();
    let engine = Engine::builder().device(DeviceChoice::Cpu).build().unwrap();
    let error = engine.open(&root).map(drop).unwrap_err();
    let expected = "a piece of its vocabulary has 400000 bytes, at most 4096 are taken";
    assert!(error.to_string().contains(expected), "{error}");
    assert_eq!(error.turn(), Turn::ModelFiles);
}

#[test]
fn what_a_tokenizer_says_of_padding_has_no_effect() {
    let folder = tempfile::tempdir().unwrap();
    let root = tiny(folder.path());
    let path = root.join("tokenizer/tokenizer.json");
    let mut tokenizer = json_file(&path);
    tokenizer["padding"] = json!({
        "strategy": { "Fixed": 1_u64 << 40 }, "direction": "Right",
        "pad_to_multiple_of": Value::Null, "pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>",
    });
    fs::write(&path, tokenizer.to_string()).unwrap();
    let engine = Engine::builder().device(DeviceChoice::Cpu).build().unwrap();
    assert_eq!(engine.open(&root).unwrap().encode_prompt("a red ball").unwrap().dims()[1], 512);
}

#[test]
fn a_recording_with_numbers_that_are_none_makes_no_endless_fit() {
    let folder = tempfile::tempdir().unwrap();
    let path = extension(folder.path());
    let mut recorded = Recorded::read(&path);
    let signal = recorded.tensors.get_mut("0003.e").unwrap();
    *signal = (signal.zeros_like().unwrap() / 0.0).unwrap();
    recorded.write(&path);
    let out = folder.path().join("calibration.json");
    let files = [path.to_str().unwrap(), "--out", out.to_str().unwrap()];
    refused(
        &[&["cache", "calibrate"], &files[..]].concat(),
        "is no finite number; record it again",
    );
}

#[test]
fn a_recording_whose_parts_do_not_fit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = extension(folder.path());
    let honest = Recorded::read(&path).contents;
    let mut recorded = Recorded::read(&path);
    for (pointer, value, says) in [
        ("/evaluations/2/stream", json!(7), "evaluation 2: of stream 7, which is not there"),
        ("/evaluations/2/rows", json!([0]), "evaluation 2: 5 levels and 1 rows"),
        ("/evaluations/2/rows/4", json!(9), "evaluation 2: the tensor 0002.e is F32"),
        ("/evaluations/2/branches", json!([]), "evaluation 2: changes of 0 branches"),
        ("/streams/0/branches", json!([]), "stream 0: no branches"),
        ("/streams/0/context/model/dim", json!(u32::MAX), "stream 0: dim: 4294967295: must be"),
        ("/streams/0/context/frames", json!(0), "stream 0: frames: 0: must be 1"),
        ("/settings/sample_shift", json!(1e300), "--sample_shift"),
    ] {
        recorded.contents = honest.clone();
        *recorded.contents.pointer_mut(pointer).unwrap() = value;
        recorded.write(&path);
        let replay = ["cache", "replay", path.to_str().unwrap(), "--candidate", "easycache"];
        refused(&replay, says);
    }
}

/// Every reader, with a few damaged files of its kind and all that are kept in `tests/corpus`;
/// `cargo xtask fuzz --inputs 1000000` takes more.
#[test]
fn damaged_files_of_every_kind_do_no_harm() {
    let kept = tempfile::tempdir().unwrap();
    let mut fuzz = Command::new(profile_folder().join("wan-fuzz"));
    fuzz.args(["--inputs", "200", "--keep"]).arg(kept.path());
    let output = fuzz.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", error_text(&output));
    assert_eq!(said.lines().count(), 27, "a line for each kind: {said}");
}
