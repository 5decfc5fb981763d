//! What is fitted to recordings: ratios and a polynomial that are known beforehand are found again.

use std::path::Path;

use candle_core::Tensor;
use serde_json::json;

use crate::recordings::{Recorded, extension};
use crate::support::{done, json_file, refused, wan};

#[test]
fn ratios_are_means_over_the_tokens_that_move() {
    let folder = tempfile::tempdir().unwrap();
    let path = extension(folder.path());
    let mut recorded = Recorded::read(&path);
    // Residuals whose size follows a known table in the frames that move, and another in those
    // that rest; every token a little apart from it.
    let factor = |number: usize, frame: usize| match frame {
        0 | 1 => 3.0 + number as f64,
        _ => 1.0 + 0.01 * number as f64,
    };
    for branch in ["cond", "uncond"] {
        let first = recorded.tensors[&format!("0000.{branch}.residual")].clone();
        for number in 0..8 {
            let frames: Vec<Tensor> = (0..5)
                .map(|frame| {
                    let part = first.narrow(1, frame * 16, 16).unwrap();
                    part.affine(factor(number, frame), 0.0).unwrap()
                })
                .collect();
            let whole = Tensor::cat(&frames, 1).unwrap();
            recorded.tensors.insert(format!("{number:04}.{branch}.residual"), whole);
        }
    }
    recorded.write(&path);
    let out = folder.path().join("calibration.json");
    let (file, out_file) = (path.to_str().unwrap(), out.to_str().unwrap());
    let output = wan(&["cache", "calibrate", file, "--out", out_file]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("ratios of cond") && said.contains("in the file"), "{said}");
    let calibration = json_file(&out);
    for branch in ["cond", "uncond"] {
        let ratios = calibration["ratios"][branch].as_array().unwrap();
        assert_eq!(ratios.len(), 8);
        assert_eq!(ratios[0], 1.0);
        for (number, ratio) in ratios.iter().enumerate().skip(1) {
            let expected = factor(number, 2) / factor(number - 1, 2);
            let ratio = ratio.as_f64().unwrap();
            assert!((ratio - expected).abs() < 1e-5, "{number}: {ratio} and {expected}");
        }
    }
    let context = &recorded.contents["streams"][0]["context"];
    for name in ["dim", "layers", "in_channels", "hash"] {
        assert_eq!(calibration["model"][name], context["model"][name], "{name}");
    }
    assert_eq!(calibration["steps"], 8);
    assert_eq!(calibration["shift"], 3.0);
}

#[test]
fn a_polynomial_that_is_known_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.safetensors");
    let flags = ["cache", "record", "--frame_num", "5", "--sample_steps", "16", "--progress"];
    done(&[&flags[..], &["quiet", "--out", path.to_str().unwrap()]].concat());
    let mut recorded = Recorded::read(&path);
    let truth = |x: f64| 0.02 + 0.7 * x - 0.4 * x * x;
    for signal in ["e", "e0"] {
        for number in 1..16 {
            let change = truth(recorded.signal_change(number, signal));
            for branch in 0..2 {
                let of = &mut recorded.contents["evaluations"][number]["branches"][branch];
                of["residual_change"] = json!([change, change]);
            }
        }
        recorded.write(&path);
        let out = folder.path().join("calibration.json");
        let files = [path.to_str().unwrap(), "--out", out.to_str().unwrap()];
        let said = done(&[&["cache", "calibrate"], &files[..]].concat());
        let calibration = json_file(&out);
        let fits = calibration["fits"].as_array().unwrap();
        let fit = fits.iter().find(|f| f["what"] == format!("polynomial of {signal}")).unwrap();
        assert_eq!(fit["points"], 30, "15 pairs in two branches");
        assert!(fit["r_squared"].as_f64().unwrap() > 1.0 - 1e-6, "{fit}");
        assert!(fit["held_out"].as_f64().unwrap() < 1e-3, "{fit}");
        assert!(said.contains(&format!("polynomial of {signal}")), "{said}");
        let coefficients = calibration["polynomials"][signal]["coefficients"].as_array().unwrap();
        let coefficients: Vec<f64> = coefficients.iter().map(|c| c.as_f64().unwrap()).collect();
        assert_eq!(coefficients.len(), 5);
        for number in 1..16 {
            let x = recorded.signal_change(number, signal);
            let power = |(place, c): (usize, &f64)| c * x.powi(4 - place as i32);
            let value: f64 = coefficients.iter().enumerate().map(power).sum();
            assert!((value - truth(x)).abs() < 1e-4 * truth(x), "{signal} at {x}: {value}");
        }
    }
    // What does not follow the signal is left out, and said.
    for number in 1..16 {
        let odd = if number % 2 == 0 { 0.5 } else { 0.1 };
        for branch in 0..2 {
            let of = &mut recorded.contents["evaluations"][number]["branches"][branch];
            of["residual_change"] = json!([odd, odd]);
        }
    }
    recorded.write(&path);
    let out = folder.path().join("calibration.json");
    let files = [path.to_str().unwrap(), "--out", out.to_str().unwrap()];
    let output = wan(&[&["cache", "calibrate"], &files[..]].concat());
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("not good enough, left out"), "{said}");
    let calibration = json_file(&out);
    assert_eq!(calibration["polynomials"], json!({}), "{said}");
}

#[test]
fn recordings_that_cannot_be_calibrated_from_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let record = |name: &str, flags: &[&str]| {
        let out = folder.path().join(name).display().to_string();
        let base = ["cache", "record", "--frame_num", "9", "--progress", "quiet", "--out", &out];
        done(&[&base[..], flags].concat());
        out
    };
    let out = folder.path().join("never.json").display().to_string();
    let wave = record("wave.safetensors", &["--sample_steps", "8", "--ar_step", "2"]);
    refused(&["cache", "calibrate", &wave, "--out", &out], "move at different times");
    let eight = record("eight.safetensors", &["--sample_steps", "8"]);
    let nine = record("nine.safetensors", &["--sample_steps", "9"]);
    refused(&["cache", "calibrate", &eight, &nine, "--out", &out], "another number of steps");
    let windows = ["--sample_steps", "8", "--base_num_frames", "5", "--overlap_history", "1"];
    let windows = record("windows.safetensors", &windows);
    refused(&["cache", "calibrate", &windows, "--out", &out], "windows or experts");
    let few = record("few.safetensors", &["--sample_steps", "3"]);
    refused(&["cache", "calibrate", &few, "--out", &out], "too few for a polynomial");
    assert!(!Path::new(&out).exists());
    // A recording of another schema, and latents, are no recordings.
    let mut recorded = Recorded::read(Path::new(&eight));
    recorded.contents["schema"] = json!(2);
    recorded.write(Path::new(&eight));
    refused(&["cache", "replay", &eight, "--candidate", "teacache"], "schema 2");
}
