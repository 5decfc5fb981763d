//! Every kind of model through the program, from prompt and pictures to a video, on tiny models
//! with random weights: nothing is to be seen, but all that is given has to have its effect.

use std::fs;
use std::path::Path;

use candle_core::{Device, Tensor};
use serde_json::Value;
use wan_host::{Cancel, Checkpoint, Conditions};
use wan_media::{fit, read_image};
use wan_tests::tiny_model::TinyModel;

use crate::support::{bits, error_text, wan};
use crate::tiny_bench::{Bench, Run, SIDE};

#[test]
fn wan_21_i2v_begins_with_the_picture() {
    let bench = Bench::new(TinyModel::i2v(), &["--task", "i2v-14B"]);
    let (red, blue) = (bench.picture("red", 250), bench.picture("blue", 10));
    let run = bench.run("red", &["--image", &red]);
    run.check_whole();
    run.check(&[
        ("/task", "i2v-14B".into()),
        ("/model/variant", "i2v".into()),
        ("/settings/sampler/id", "unipc".into()),
        ("/settings/sample_steps", 4.into()),
        ("/defaults/sample_steps", 40.into()),
        ("/settings/sample_shift", 5.0.into()),
        ("/settings/sample_guide_scale", 5.0.into()),
        ("/settings/given/image", red.as_str().into()),
        ("/model/boundary_timestep", Value::Null),
        ("/experts/0/rounds", 4.into()),
    ]);
    assert_ne!(run.hash(), bench.run("blue", &["--first_frame", &blue]).hash());
    // The picture comes by both ways: channels that the VAE makes, tokens of the image encoder.
    assert!(bench.part_matters("vae", &["--image", &red]));
    assert!(bench.part_matters("image_encoder", &["--image", &red]));
    assert!(bench.part_matters("text_encoder", &["--image", &red]));

    bench.refused(&[], "give --image FILE");
    bench.refused(&["--image", &red, "--last_frame", &blue], "--last_frame");
    let clip = run.video.to_str().unwrap();
    bench.refused(&["--video", clip, "--context_frames", "5"], "give --image FILE");
}

#[test]
fn wan_21_i2v_has_a_shift_of_its_own_at_480p() {
    let size = ["--size", "480*832", "--frame_num", "1", "--sample_steps", "1"];
    let bench = Bench::sized(TinyModel::i2v(), &size, &["--task", "i2v-14B"]);
    let image = bench.picture("red", 250);
    let shifts = |run: Run, used: f64, default: f64| {
        run.check(&[
            ("/settings/sample_shift", used.into()),
            ("/defaults/sample_shift", default.into()),
        ]);
    };
    shifts(bench.run("default", &["--image", &image]), 3.0, 3.0);
    shifts(bench.run("given", &["--image", &image, "--sample_shift", "4"]), 4.0, 3.0);
}

#[test]
fn wan_21_flf2v_lies_between_two_pictures() {
    let bench = Bench::new(TinyModel::flf2v(), &["--task", "flf2v-14B"]);
    let (red, blue) = (bench.picture("red", 250), bench.picture("blue", 10));
    let run = bench.run("ends", &["--first_frame", &red, "--last_frame", &blue]);
    run.check_whole();
    run.check(&[
        ("/task", "flf2v-14B".into()),
        ("/model/variant", "flf2v".into()),
        ("/settings/sample_shift", 16.0.into()),
        ("/settings/given/last_frame", blue.as_str().into()),
    ]);
    let other_first = bench.run("first", &["--image", &blue, "--last_frame", &blue]).hash();
    let other_last = bench.run("last", &["--image", &red, "--last_frame", &red]).hash();
    assert!(![&other_first, &other_last].contains(&&run.hash()));
    assert_ne!(other_first, other_last);
    assert!(bench.part_matters("image_encoder", &["--image", &red, "--last_frame", &blue]));

    bench.refused(&[], "give --image FILE and --last_frame FILE");
    bench.refused(&["--image", &red], "give --last_frame FILE");
    bench.refused(&["--last_frame", &red], "--image FILE");
}

/// Checks that both experts run, each on its side of the boundary, and that each has its effect.
fn check_experts(bench: &Bench, run: &Run, boundary: f64, flags: &[&str]) {
    run.check(&[("/model/boundary_timestep", boundary.into())]);
    let number = |pointer: &str| {
        let found = run.report.pointer(pointer).and_then(Value::as_f64);
        found.unwrap_or_else(|| panic!("{pointer} of {}", run.report))
    };
    let (high, low) = (number("/experts/0/rounds"), number("/experts/1/rounds"));
    assert!(high > 0.0 && low > 0.0 && high + low == 4.0, "{high} + {low}");
    assert!(number("/experts/0/timestep_min") >= boundary);
    assert!(number("/experts/1/timestep_max") < boundary);
    for part in ["transformer", "transformer_2"] {
        assert!(bench.part_matters(part, flags), "{part} has no effect");
    }
}

#[test]
fn wan_22_t2v_a14b_changes_experts_at_its_boundary() {
    let bench = Bench::new(TinyModel::t2v_a14b(), &["--task", "t2v-A14B"]);
    let run = bench.run("both", &[]);
    run.check_whole();
    run.check(&[
        ("/task", "t2v-A14B".into()),
        ("/model/variant", "t2v".into()),
        ("/settings/sample_shift", 12.0.into()),
        ("/experts/0/guidance_scale", 4.0.into()),
        ("/experts/1/guidance_scale", 3.0.into()),
    ]);
    check_experts(&bench, &run, 875.0, &[]);
    let other = bench.run("other", &["--sample_guide_scale_low", "6"]);
    other.check(&[("/experts/1/guidance_scale", 6.0.into())]);
    assert_ne!(run.hash(), other.hash());
    bench.refused(&["--sample_guide_scale_low", "200"], "--sample_guide_scale_low");

    // A boundary below every timestep leaves the second expert nothing to do.
    let index = bench.root().join("model_index.json");
    let text = fs::read_to_string(&index).unwrap().replace("0.875", "0.0");
    fs::write(&index, text).unwrap();
    let high = bench.run("high", &[]);
    high.check(&[("/experts/1/rounds", 0.into()), ("/experts/1/timestep_max", Value::Null)]);
    assert!(!bench.part_matters("transformer_2", &[]));
}

#[test]
fn wan_22_i2v_a14b_takes_the_picture_without_tokens() {
    let bench = Bench::new(TinyModel::i2v_a14b(), &["--task", "i2v-A14B"]);
    let (red, blue) = (bench.picture("red", 250), bench.picture("blue", 10));
    let run = bench.run("red", &["--image", &red]);
    run.check_whole();
    run.check(&[
        ("/task", "i2v-A14B".into()),
        ("/model/variant", "i2v".into()),
        ("/settings/sample_shift", 5.0.into()),
        ("/experts/0/guidance_scale", 3.5.into()),
        ("/experts/1/guidance_scale", 3.5.into()),
    ]);
    check_experts(&bench, &run, 900.0, &["--image", &red]);
    assert_ne!(run.hash(), bench.run("blue", &["--image", &blue]).hash());
    let both = bench.run("both", &["--image", &red, "--last_frame", &blue]);
    assert_ne!(run.hash(), both.hash());
    bench.refused(&[], "give --image FILE");
}

/// The first latent frame that the VAE makes of a picture.
fn encoded(bench: &Bench, image: &str) -> Tensor {
    let vae = Checkpoint::open(&bench.root()).unwrap().load_vae(&Device::Cpu).unwrap();
    let fitted = fit(&read_image(Path::new(image)).unwrap(), SIDE, SIDE);
    let values: Vec<f32> = fitted.iter().map(|byte| f32::from(*byte) / 127.5 - 1.0).collect();
    let pixels = Tensor::from_vec(values, (SIDE, SIDE, 3), &Device::Cpu).unwrap(); // [H, W, 3]
    let pixels = pixels.permute((2, 0, 1)).unwrap().unsqueeze(1).unwrap().unsqueeze(0).unwrap();
    Conditions::clean_latents_of(&vae, &pixels.contiguous().unwrap(), &Cancel::default()).unwrap()
}

/// Checks that the picture is the first latent frame to the bit, and that the others follow it.
fn check_prefix(bench: &Bench, run: &Run, image: &str, other: &str) {
    let (frames, clean) = (run.latents(), encoded(bench, image));
    let first = |latents: &Tensor| latents.narrow(2, 0, 1).unwrap();
    let rest = |latents: &Tensor| latents.narrow(2, 1, 2).unwrap();
    assert_eq!(bits(&first(&frames)), bits(&clean));
    let others = bench.run("other", &["--image", other]).latents();
    assert_ne!(bits(&rest(&frames)), bits(&rest(&others)));
}

#[test]
fn wan_22_ti2v_5b_keeps_the_picture_and_does_without_one() {
    let bench = Bench::new(TinyModel::ti2v_5b(), &["--task", "ti2v-5B"]);
    let (red, blue) = (bench.picture("red", 250), bench.picture("blue", 10));
    let run = bench.run("red", &["--image", &red]);
    run.check_whole();
    run.check(&[
        ("/task", "ti2v-5B".into()),
        ("/model/variant", "ti2v".into()),
        ("/settings/sample_shift", 5.0.into()),
        ("/settings/fps", 24.0.into()),
        ("/settings/sampler/id", "diffusion-forcing".into()),
        ("/defaults/frame_num", 121.into()),
        // The picture's frame at timestep 0, the others at theirs.
        ("/memory/signals/rows", 2.into()),
    ]);
    assert_eq!(run.latents().dims(), [1, 48, 3, 4, 4]);
    check_prefix(&bench, &run, &red, &blue);
    bench.refused(&["--image", &red, "--last_frame", &blue], "--last_frame");

    // Wan's own sampler moves all frames; the model is shown the picture's clean one.
    let unipc = bench.run("unipc", &["--image", &red, "--sampler", "unipc"]);
    unipc.check_whole();
    unipc.check(&[("/memory/signals/rows", 2.into())]);
    let first = unipc.latents().narrow(2, 0, 1).unwrap();
    assert_eq!(bits(&first), bits(&encoded(&bench, &red)));

    let text = bench.run("text", &[]);
    text.check_whole();
    text.check(&[("/memory/signals/rows", 1.into()), ("/settings/given/image", Value::Null)]);
    assert_ne!(bits(&text.latents().narrow(2, 0, 1).unwrap()), bits(&encoded(&bench, &red)));
}

#[test]
fn sky_reels_i2v_and_diffusion_forcing_take_a_picture_each_in_its_way() {
    let bench = Bench::new(TinyModel::sky_i2v(), &["--task", "i2v-1.3B"]);
    let (red, blue) = (bench.picture("red", 250), bench.picture("blue", 10));
    let run = bench.run("red", &["--image", &red]);
    run.check_whole();
    run.check(&[("/model/variant", "i2v".into()), ("/settings/sample_shift", 3.0.into())]);
    assert_ne!(run.hash(), bench.run("blue", &["--image", &blue]).hash());

    let bench = Bench::new(TinyModel::sky_df(), &["--task", "df-1.3B"]);
    let (red, blue) = (bench.picture("red", 250), bench.picture("blue", 10));
    let run = bench.run("red", &["--image", &red]);
    run.check_whole();
    run.check(&[
        ("/model/variant", "df".into()),
        ("/settings/sample_shift", 8.0.into()),
        ("/settings/sample_guide_scale", 6.0.into()),
    ]);
    check_prefix(&bench, &run, &red, &blue);
}

#[test]
fn a_two_expert_run_from_a_picture_is_reproduced() {
    let bench = Bench::new(TinyModel::i2v_a14b(), &["--task", "i2v-A14B"]);
    let red = bench.picture("red", 250);
    let run = bench.run("first", &["--image", &red, "--base_seed", "-1"]);
    let (sidecar, again) =
        (run.video.with_extension("json"), run.video.with_file_name("again.mp4"));
    let output = wan(&[
        "generate",
        "--progress",
        "quiet",
        "--reproduce",
        sidecar.to_str().unwrap(),
        "--save_file",
        again.to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", error_text(&output));
    assert!(error_text(&output).contains("bit for bit"), "{}", error_text(&output));
    let report: Value =
        serde_json::from_slice(&fs::read(again.with_extension("json")).unwrap()).unwrap();
    for member in ["task", "settings", "defaults", "experts", "latents_hash"] {
        assert_eq!(report[member], run.report[member], "{member}");
    }
}

#[test]
fn without_a_task_the_folder_says_its_shift() {
    let bench = Bench::new(TinyModel::t2v(), &[]);
    let run = bench.run("plain", &[]);
    run.check_whole();
    run.check(&[
        ("/task", Value::Null),
        ("/model/variant", "t2v".into()),
        ("/settings/sample_shift", 7.0.into()),
        ("/defaults/sample_shift", 7.0.into()),
    ]);
}
