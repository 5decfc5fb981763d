//! From a given picture to what the model sees: cut in the middle, resized with antialiasing, each
//! channel in its place and range, against pictures that Pillow made of the same ones
//! (`tools/record_fitted_pictures`).

use candle_core::{Device, Tensor};
use image::RgbImage;
use wan_host::Checkpoint;
use wan_tests::checkout::checkout;
use wan_tests::tiny_model::TinyModel;

use crate::latents::{LatentsBench, distance};
use crate::support::demo_folder;

const NAMES: [&str; 3] = ["wide", "tall", "small"];

pub(crate) fn file(name: &str) -> String {
    checkout().join("tests/it/pictures").join(name).with_extension("png").display().to_string()
}

/// The first latent frame, which is the encoded picture; nothing is sampled of it.
fn encoded(bench: &LatentsBench, picture: &str) -> Tensor {
    bench.run("run", &["--image", picture]).tensor.narrow(2, 0, 1).unwrap()
}

/// What the VAE makes of a picture whose pixels, 0 to 255, are put into -1 to 1 here.
fn by_hand(picture: &str) -> Tensor {
    let picture: RgbImage = image::open(picture).unwrap().to_rgb8();
    let values: Vec<f32> = picture.iter().map(|v| 2.0 * f32::from(*v) / 255.0 - 1.0).collect();
    let pixels = Tensor::from_vec(values, (64, 64, 3), &Device::Cpu).unwrap(); // [H, W, 3]
    let pixels = pixels.permute((2, 0, 1)).unwrap().unsqueeze(1).unwrap().unsqueeze(0).unwrap();
    let vae = Checkpoint::open(&demo_folder()).unwrap().load_vae(&Device::Cpu).unwrap();
    vae.normalise(&vae.encode(&pixels.contiguous().unwrap()).unwrap().mean).unwrap()
}

#[test]
fn a_picture_becomes_the_latents_of_what_pillow_makes_of_it() {
    let bench = LatentsBench::new(&["--frame_num", "5", "--sample_steps", "1", "--cache", "none"]);
    for name in NAMES {
        let reference = encoded(&bench, &file(&format!("{name}_64x64")));
        let range = distance(&reference, &by_hand(&file(&format!("{name}_64x64"))));
        assert!(range < 1e-5, "{name}: {range}");
        let ours = distance(&encoded(&bench, &file(name)), &reference);
        let nearest = encoded(&bench, &file(&format!("{name}_64x64_nearest")));
        let without = distance(&nearest, &reference);
        assert!(ours < 0.03, "{name}: {ours}");
        assert!(ours < without / 5.0, "{name}: {ours}, without antialiasing {without}");
    }
}

/// The picture with one channel changed by a little, or two channels changed over.
fn changed(bench: &LatentsBench, change: impl Fn(&mut [u8; 3])) -> String {
    let mut picture: RgbImage = image::open(file("wide_64x64")).unwrap().to_rgb8();
    picture.pixels_mut().for_each(|pixel| change(&mut pixel.0));
    let path = bench.folder().join("changed.png");
    picture.save(&path).unwrap();
    path.display().to_string()
}

#[test]
fn every_channel_of_a_picture_reaches_image_to_video_models() {
    let bench = LatentsBench::new(&[]);
    let root = bench.folder().join("model");
    TinyModel::i2v().write(&root).unwrap();
    let model =
        ["--ckpt_dir", root.to_str().unwrap(), "--task", "i2v-14B", "--prompt", "a red ball"];
    let short = ["--negative_prompt", "a box", "--size", "64*64", "--frame_num", "5"];
    let bench = bench.with_flags(&[&model[..], &short, &["--sample_steps", "2"]].concat());
    let run = |picture: &str| bench.run("run", &["--image", picture]);
    let reference = run(&file("wide_64x64"));
    // Tokens of CLIP and channels of the VAE are both made of the fitted picture.
    let ours = run(&file("wide")).distance_from(&reference);
    let without = run(&file("wide_64x64_nearest")).distance_from(&reference);
    assert!(ours < without / 3.0, "{ours}, without antialiasing {without}");
    for channel in 0..3 {
        let other = run(&changed(&bench, |rgb| rgb[channel] = rgb[channel].saturating_add(20)));
        assert!(other.distance_from(&reference) > 1e-6, "channel {channel} has no effect");
    }
    let turned = run(&changed(&bench, |rgb| rgb.swap(0, 2)));
    assert!(turned.distance_from(&reference) > 1e-5);
}

#[test]
fn pictures_come_as_png_jpeg_and_webp_and_by_what_they_hold() {
    let bench = LatentsBench::new(&["--frame_num", "5", "--sample_steps", "1", "--cache", "none"]);
    let reference = encoded(&bench, &file("wide_64x64"));
    let picture: RgbImage = image::open(file("wide_64x64")).unwrap().to_rgb8();
    for (name, most) in [("a.png", 0.0), ("a.webp", 0.0), ("a.jpg", 0.1)] {
        let path = bench.folder().join(name);
        picture.save(&path).unwrap();
        // The name is no promise: it is read by its first bytes.
        let other = bench.folder().join(format!("{name}.bin"));
        std::fs::rename(&path, &other).unwrap();
        let away = distance(&encoded(&bench, other.to_str().unwrap()), &reference);
        assert!(away <= most, "{name}: {away}");
    }
}
