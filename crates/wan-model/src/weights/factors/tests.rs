//! Factors along the rows, on square matrices too, against loops over plain numbers.

use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};

use crate::testing::{noise, numbers};
use crate::weights::tests::{count, write};
use crate::weights::{Weights, open};

const LAYER: &str = "condition_embedder.time_proj";

/// A file of one 8-bit matrix, what lies beside it, and a mark.
fn file(folder: &tempfile::TempDir, weight: &Tensor, others: &[(&str, Tensor)]) -> [PathBuf; 1] {
    let path = folder.path().join("fp8.safetensors");
    let eighth = weight.to_dtype(DType::F8E4M3).unwrap();
    let mut tensors = vec![("condition_embedder.time_proj.weight", eighth)];
    tensors.extend(others.iter().cloned());
    write(&path, &tensors);
    [path]
}

/// A factor for `LAYER`, of shape `shape`.
fn beside(shape: &[usize], values: Vec<f32>) -> (&'static str, Tensor) {
    let factor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
    ("condition_embedder.time_proj.scale_weight", factor)
}

fn refusal(weight: &Tensor, others: &[(&str, Tensor)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let paths = file(&folder, weight, others);
    let opened =
        Weights::open(&paths).and_then(|w| w.tensor(&format!("{LAYER}.weight"), &Device::Cpu));
    let said = opened.unwrap_err().to_string();
    assert!(said.contains("fp8.safetensors") && said.contains(LAYER), "{said}");
    said
}

#[test]
fn one_factor_a_row_multiplies_its_row() {
    // Powers of two, so that every product is exact.
    let powers = |rows: usize| (0..rows).map(|row| 2f32.powi(row as i32 - 2)).collect::<Vec<_>>();
    for shape in [&[4, 4][..], &[2, 3], &[3, 2], &[1, 5], &[5, 1], &[3, 3, 1, 2, 2]] {
        let weight = noise(1, shape).to_dtype(DType::F8E4M3).unwrap().to_dtype(DType::F32).unwrap();
        let (rows, row_length) = (shape[0], shape[1..].iter().product::<usize>());
        let mut expected = numbers(&weight);
        for (row, factor) in powers(rows).iter().enumerate() {
            for place in 0..row_length {
                expected[row * row_length + place] *= factor;
            }
        }
        for factor_shape in [&[rows][..], &[rows, 1]] {
            for dtype in [DType::F32, DType::BF16, DType::F16] {
                let (name, factor) = beside(factor_shape, powers(rows));
                let folder = tempfile::tempdir().unwrap();
                let factor = factor.to_dtype(dtype).unwrap();
                let paths = file(&folder, &weight, &[(name, factor)]);
                let vb = open(&paths, DType::F32, &Device::Cpu).unwrap().pp(LAYER);
                let loaded = vb.get(shape, "weight").unwrap();
                assert_eq!(numbers(&loaded), expected, "{shape:?} by {factor_shape:?} {dtype:?}");
            }
        }
    }
}

#[test]
fn some_factors_a_row_multiply_its_runs() {
    let weight = noise(1, &[4, 6]).to_dtype(DType::F8E4M3).unwrap().to_dtype(DType::F32).unwrap();
    for (shape, run) in [(&[4, 2, 1][..], 3), (&[4, 3], 2), (&[4, 6], 1), (&[4, 1, 1], 6)] {
        let count: usize = shape.iter().product();
        let factors: Vec<f32> = (0..count).map(|number| 2f32.powi(number as i32 % 5)).collect();
        let mut expected = numbers(&weight);
        for (place, number) in expected.iter_mut().enumerate() {
            *number *= factors[place / run];
        }
        let folder = tempfile::tempdir().unwrap();
        for name in ["scale_weight", "weight_scale"] {
            let factor = Tensor::from_vec(factors.clone(), shape, &Device::Cpu).unwrap();
            let name = format!("{LAYER}.{name}");
            let paths = file(&folder, &weight, &[(&name, factor)]);
            let scope = open(&paths, DType::F32, &Device::Cpu).unwrap().pp(LAYER);
            assert_eq!(numbers(&scope.get((4, 6), "weight").unwrap()), expected, "{shape:?}");
        }
    }
}

#[test]
fn one_number_multiplies_all() {
    for shape in [&[][..], &[1]] {
        let folder = tempfile::tempdir().unwrap();
        let paths = file(&folder, &count(&[3, 3]), &[beside(shape, vec![0.25])]);
        let loaded =
            Weights::open(&paths).unwrap().tensor(&format!("{LAYER}.weight"), &Device::Cpu);
        let quarters: Vec<f32> = (0..9).map(|number| number as f32 / 4.).collect();
        assert_eq!(numbers(&loaded.unwrap()), quarters);
    }
}

#[test]
fn the_thirds_of_a_tensor_have_the_thirds_of_its_factors() {
    let qkv = "visual.transformer.0.attn.to_qkv";
    for (factor_shape, factors) in
        [(&[6][..], [1f32, 2., 4., 8., 16., 32.]), (&[6, 1], [1., 2., 4., 8., 16., 32.])]
    {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clip.safetensors");
        let weight = count(&[6, 2]).to_dtype(DType::F8E4M3).unwrap();
        let factor = Tensor::from_vec(factors.to_vec(), factor_shape, &Device::Cpu).unwrap();
        write(
            &path,
            &[
                ("visual.cls_embedding", count(&[1, 1, 2])),
                (&format!("{qkv}.weight"), weight),
                (&format!("{qkv}.scale_weight"), factor),
            ],
        );
        let vb = open(&[path], DType::F32, &Device::Cpu).unwrap();
        let vb = vb.pp("vision_model.encoder.layers.0.self_attn");
        let third = |name: &str| numbers(&vb.get((2, 2), name).unwrap());
        assert_eq!(third("q_proj.weight"), [0., 1., 4., 6.]);
        assert_eq!(third("k_proj.weight"), [16., 20., 48., 56.]);
        assert_eq!(third("v_proj.weight"), [128., 144., 320., 352.]);
    }
}

#[test]
fn factors_of_another_shape_are_refused_with_both_shapes() {
    // Square ones too: there, a wrong axis would not show.
    for (weight, shape) in [
        ([4, 4], &[1, 4][..]),
        ([4, 4], &[2]),
        ([4, 4], &[1, 1]),
        ([4, 4], &[4, 3, 1]),
        ([4, 4], &[4, 0]),
        ([2, 3], &[3]),
        ([2, 3], &[2, 2]),
        ([2, 3], &[1, 3]),
        ([2, 3], &[0]),
    ] {
        let ones = vec![1.; shape.iter().product()];
        let said = refusal(&count(&weight), &[beside(shape, ones)]);
        let rows = weight[0];
        for fact in [
            format!("`{LAYER}.scale_weight` has shape {shape:?}"),
            format!("`{LAYER}.weight` {weight:?}"),
            format!("[{rows}] or [{rows}, 1]"),
        ] {
            assert!(said.contains(&fact), "{fact}: {said}");
        }
    }
}

#[test]
fn a_factor_that_was_promised_and_is_missing_is_refused() {
    let other = count(&[2, 2]).to_dtype(DType::F8E4M3).unwrap();
    let factor = beside(&[], vec![1.]).1;
    for promise in [
        vec![("scaled_fp8", count(&[2]).to_dtype(DType::F8E4M3).unwrap())],
        vec![("scaled_fp8", count(&[0]))],
        vec![("model.diffusion_model.scaled_fp8", count(&[1]))],
        vec![("proj_out.weight", other), ("proj_out.scale_weight", factor)],
    ] {
        let said = refusal(&count(&[2, 3]), &promise);
        assert!(said.contains(&format!("`{LAYER}.weight` [2, 3]")), "{said}");
        assert!(said.contains(&format!("`{LAYER}.scale_weight`")), "{said}");
    }
}

#[test]
fn where_nothing_is_promised_8_bits_are_what_they_say() {
    let folder = tempfile::tempdir().unwrap();
    let weight = count(&[2, 3]);
    let paths = file(&folder, &weight, &[("proj_out.weight", count(&[2, 2]))]);
    let loaded = Weights::open(&paths).unwrap().tensor(&format!("{LAYER}.weight"), &Device::Cpu);
    let loaded = loaded.unwrap().to_dtype(DType::F32).unwrap();
    assert_eq!(numbers(&loaded), [0., 1., 2., 3., 4., 5.]);
    // A promise is for matrices: biases, norms and what is stored wide need no factor.
    let marked = [
        ("scaled_fp8", count(&[2])),
        beside(&[2], vec![1., 2.]),
        ("condition_embedder.time_proj.bias", count(&[2]).to_dtype(DType::F8E4M3).unwrap()),
        ("blocks.0.norm2.weight", count(&[2]).to_dtype(DType::F8E4M3).unwrap()),
        ("blocks.0.scale_shift_table", count(&[1, 6, 2]).to_dtype(DType::F8E4M3).unwrap()),
        ("proj_out.weight", count(&[2, 2]).to_dtype(DType::BF16).unwrap()),
    ];
    assert_eq!(Weights::open(&file(&folder, &weight, &marked)).unwrap().names().len(), 5);
}

#[test]
fn a_factor_of_nothing_and_factors_that_are_no_positive_numbers_are_refused() {
    let alone = ("proj_out.scale_weight", beside(&[], vec![1.]).1);
    let folder = tempfile::tempdir().unwrap();
    let paths = file(&folder, &count(&[2, 3]), &[alone, beside(&[], vec![1.])]);
    let said = Weights::open(&paths).err().unwrap().to_string();
    assert!(said.contains("`proj_out.scale_weight` is a factor of no tensor"), "{said}");
    for bad in [0., -1., f32::NAN, f32::INFINITY] {
        let said = refusal(&count(&[2, 3]), &[beside(&[2], vec![1., bad])]);
        assert!(said.contains(&format!("has the factor {bad}")), "{said}");
    }
}
