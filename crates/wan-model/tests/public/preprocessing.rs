//! Pictures to CLIP's input, against what Pillow and NumPy made of them
//! (`tools/record_preprocessing`).

use candle_core::{Device, Tensor};
use serde::Deserialize;
use wan_model::clip::{Resizing, preprocess};

const MEAN: [f32; 3] = [0.48145466, 0.4578275, 0.40821073];
const STD: [f32; 3] = [0.26862954, 0.2613026, 0.2757771];

#[derive(Deserialize)]
struct Case {
    height: usize,
    width: usize,
    size: usize,
    picture: Vec<u8>,
    crop: Vec<f32>,
    squash: Vec<f32>,
}

impl Case {
    fn all() -> Vec<Self> {
        serde_json::from_str(include_str!("preprocessing.json")).unwrap()
    }

    /// What this crate makes of the picture.
    fn preprocessed(&self, resizing: Resizing) -> Vec<f32> {
        let pixels: Vec<f32> = self.picture.iter().map(|pixel| f32::from(*pixel) / 255.).collect();
        let shape = (1, 3, self.height, self.width);
        let picture = Tensor::from_vec(pixels, shape, &Device::Cpu).unwrap();
        let square = preprocess(&picture, self.size, resizing).unwrap();
        assert_eq!(square.dims(), [1, 3, self.size, self.size]);
        square.flatten_all().unwrap().to_vec1().unwrap()
    }

    /// Colour, row and column of a number.
    fn place(&self, index: usize) -> (usize, usize, usize) {
        let (size, area) = (self.size, self.size * self.size);
        (index / area, index % area / size, index % size)
    }
}

#[test]
fn a_squashed_picture_is_the_references() {
    for case in Case::all() {
        let found = case.preprocessed(Resizing::Squash);
        assert_eq!(found.len(), case.squash.len());
        for (index, (found, expected)) in found.iter().zip(&case.squash).enumerate() {
            let place = case.place(index);
            assert!((found - expected).abs() < 1e-5, "{place:?}: {found}, not {expected}");
        }
    }
}

#[test]
fn a_cropped_picture_is_the_references_to_one_of_255() {
    for case in Case::all() {
        let found = case.preprocessed(Resizing::Crop);
        assert_eq!(found.len(), case.crop.len());
        let mut off = 0;
        for (index, (found, expected)) in found.iter().zip(&case.crop).enumerate() {
            let place = case.place(index);
            let level = |number: f32| (number * STD[place.0] + MEAN[place.0]) * 255.;
            // Pillow rounds between its passes too.
            let difference = (level(*found) - level(*expected)).abs();
            assert!(difference < 1.001, "{place:?}: {} not {}", level(*found), level(*expected));
            off += usize::from(difference > 0.5);
            assert!((level(*found) - level(*found).round()).abs() < 1e-3, "{place:?}: not 8 bits");
        }
        assert!(off * 5 <= found.len(), "{off} of {} are off", found.len());
    }
}

#[test]
fn the_two_rules_differ_where_a_side_is_longer() {
    let cases = Case::all();
    let distance =
        |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0., f32::max);
    assert!(cases.iter().any(|case| case.height < case.width));
    assert!(cases.iter().any(|case| case.height > case.width));
    for case in cases.iter().filter(|case| case.height != case.width) {
        let [crop, squash] = [Resizing::Crop, Resizing::Squash].map(|r| case.preprocessed(r));
        assert!(distance(&crop, &squash) > 0.1);
    }
}

#[test]
fn what_is_no_picture_is_refused() {
    for shape in [&[1, 4, 6, 6][..], &[3, 6, 6], &[1, 3, 0, 6], &[1, 3, 6, 0]] {
        let zeros = Tensor::zeros(shape, candle_core::DType::F32, &Device::Cpu).unwrap();
        let said = preprocess(&zeros, 4, Resizing::Crop).unwrap_err().to_string();
        assert!(said.contains("pictures: expected [B,3,H,W]"), "{said}");
        assert!(said.contains(&format!("{shape:?}")), "{said}");
    }
}
