//! Formulas against loops over plain numbers, and what fits what.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use tempfile::TempDir;

use super::*;
use crate::config::WanConfig;
use crate::inspect::Network;
use crate::testing::{distance, noise, numbers, transformer};
use crate::weights::Source;

/// A transformer of two blocks and width 12.
fn network() -> Network {
    Network::Transformer(WanConfig {
        num_attention_heads: 1,
        attention_head_dim: 12,
        ffn_dim: 16,
        text_dim: 8,
        freq_dim: 4,
        num_layers: 2,
        ..transformer("t2v-1.3B")
    })
}

fn save(folder: &TempDir, tensors: &[(&str, Tensor)]) -> PathBuf {
    let path = folder.path().join("lora.safetensors");
    let tensors: HashMap<_, _> = tensors.iter().cloned().collect();
    candle_core::safetensors::save(&tensors, &path).unwrap();
    path
}

/// What a LoRA of these tensors makes of the weight `name`, which is `base`.
fn changed(tensors: &[(&str, Tensor)], strength: f64, name: &str, base: &Tensor) -> Tensor {
    let folder = tempfile::tempdir().unwrap();
    let lora = Arc::new(Lora::open(&save(&folder, tensors)).unwrap());
    let fitted = FittedLora::new(&lora, &network(), strength, Expert::Only).unwrap();
    let source: HashMap<String, Tensor> = HashMap::from([(name.to_owned(), base.clone())]);
    let patched = Patched::new(Arc::new(source), vec![Arc::new(fitted)]);
    let changed = patched.get(name, base.dims()).unwrap();
    let told = patched.at_rest(name, base.dims()).unwrap();
    assert_eq!(told.unpacked_bytes(DType::F32), changed.bytes(), "{changed:?}");
    changed.wide().unwrap()
}

fn refusal(tensors: &[(&str, Tensor)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let opened = Lora::open(&save(&folder, tensors));
    let fitted =
        opened.and_then(|lora| FittedLora::new(&Arc::new(lora), &network(), 1., Expert::Only));
    fitted.err().expect("refused").to_string()
}

fn number(value: f32) -> Tensor {
    Tensor::new(value, &Device::Cpu).unwrap()
}

const QUERY: &str = "blocks.1.attn1.to_q.weight";

/// `factor a b` by loops.
fn multiplied(factor: f32, a: &Tensor, b: &Tensor) -> Vec<f32> {
    let (rows, inner) = a.dims2().unwrap();
    let columns = b.dims2().unwrap().1;
    let (a, b) = (numbers(a), numbers(b));
    let mut result = vec![0.; rows * columns];
    for (place, number) in result.iter_mut().enumerate() {
        let (row, column) = (place / columns, place % columns);
        let terms = (0..inner).map(|k| f64::from(a[row * inner + k] * b[k * columns + column]));
        *number = factor * terms.sum::<f64>() as f32;
    }
    result
}

fn check(found: &Tensor, base: &Tensor, added: &[f32]) {
    let expected: Vec<f32> = numbers(base).iter().zip(added).map(|(a, b)| a + b).collect();
    let expected = Tensor::from_vec(expected, base.shape(), &Device::Cpu).unwrap();
    assert!(distance(found, &expected) < 2e-6, "{}", distance(found, &expected));
}

#[test]
fn low_rank_changes_are_scaled_by_strength_and_by_alpha_over_rank_whatever_its_format() {
    let (base, down, up) = (noise(1, &[12, 12]), noise(2, &[3, 12]), noise(3, &[12, 3]));
    let keys = [
        "lora_unet_blocks_1_self_attn_q.lora_down.weight",
        "lora_unet_blocks_1_self_attn_q.lora_up.weight",
        "lora_unet_blocks_1_self_attn_q.alpha",
    ];
    for dtype in
        [DType::F32, DType::F16, DType::BF16, DType::F64, DType::I64, DType::I32, DType::U8]
    {
        let alpha = number(6.).to_dtype(dtype).unwrap();
        let tensors = [(keys[0], down.clone()), (keys[1], up.clone()), (keys[2], alpha)];
        let found = changed(&tensors, -0.5, QUERY, &base);
        check(&found, &base, &multiplied(-0.5 * 6. / 3., &up, &down));
    }
    let found = changed(&[(keys[0], down.clone()), (keys[1], up.clone())], 0.25, QUERY, &base);
    check(&found, &base, &multiplied(0.25, &up, &down));
}

#[test]
fn an_hadamard_and_a_kronecker_product_by_hand() {
    let base = noise(1, &[12, 12]);
    let [a, b] = [noise(2, &[12, 2]), noise(3, &[2, 12])];
    let [c, d] = [noise(4, &[12, 2]), noise(5, &[2, 12])];
    let module = "diffusion_model.blocks.1.self_attn.q";
    let key = |end: &str| format!("{module}.{end}");
    let names = ["hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "alpha"].map(key);
    let tensors = [&a, &b, &c, &d, &number(4.)];
    let tensors: Vec<_> =
        names.iter().map(String::as_str).zip(tensors.into_iter().cloned()).collect();
    let products = multiplied(1., &a, &b).into_iter().zip(multiplied(1., &c, &d));
    let added: Vec<f32> = products.map(|(x, y)| 0.5 * 4. / 2. * x * y).collect();
    check(&changed(&tensors, 0.5, QUERY, &base), &base, &added);

    let (first, second_a, second_b) = (noise(6, &[3, 4]), noise(7, &[4, 2]), noise(8, &[2, 3]));
    let names = ["lokr_w1", "lokr_w2_a", "lokr_w2_b", "alpha"].map(key);
    let tensors = [&first, &second_a, &second_b, &number(1.)];
    let tensors: Vec<_> =
        names.iter().map(String::as_str).zip(tensors.into_iter().cloned()).collect();
    let (w1, w2) = (numbers(&first), multiplied(1., &second_a, &second_b));
    let added: Vec<f32> = (0..144)
        .map(|place| {
            let (row, column) = (place / 12, place % 12);
            0.5 * w1[row / 4 * 4 + column / 3] * w2[row % 4 * 3 + column % 3]
        })
        .collect();
    check(&changed(&tensors, 1., QUERY, &base), &base, &added);
}

#[test]
fn a_magnitude_gives_every_row_of_what_comes_out_its_length() {
    let (base, down, up) = (noise(1, &[12, 12]), noise(2, &[2, 12]), noise(3, &[12, 2]));
    let lengths: Vec<f32> = (1..13).map(|row| row as f32).collect();
    let module = "transformer.blocks.1.attn1.to_q";
    let names = ["lora_A.weight", "lora_B.weight", "dora_scale"].map(|e| format!("{module}.{e}"));
    for (shape, by_rows) in [(vec![12], true), (vec![12, 1], true), (vec![1, 12], false)] {
        let magnitude = Tensor::from_vec(lengths.clone(), shape, &Device::Cpu).unwrap();
        let tensors = [down.clone(), up.clone(), magnitude];
        let tensors: Vec<_> = names.iter().map(String::as_str).zip(tensors).collect();
        let whole = changed(&tensors, 1., QUERY, &base);
        let whole = if by_rows { whole.clone() } else { whole.t().unwrap().contiguous().unwrap() };
        for (row, length) in whole.to_vec2::<f32>().unwrap().iter().zip(&lengths) {
            let found = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            assert!((found - length).abs() < 1e-4, "{found} {length}");
        }
        // Half the strength is half the way.
        let half = changed(&tensors, 0.5, QUERY, &base);
        let way = |x: &Tensor| (x - &base).unwrap();
        let whole = changed(&tensors, 1., QUERY, &base);
        assert!(distance(&(way(&half) * 2.).unwrap(), &way(&whole)) < 1e-4);
    }
}

#[test]
fn several_loras_add_up_in_any_order_and_leave_other_weights_alone() {
    let folder = tempfile::tempdir().unwrap();
    let open = |name: &str, seed: u64| {
        let path = folder.path().join(name);
        let tensors = HashMap::from([
            ("blocks.1.self_attn.q.lora_A.weight", noise(seed, &[2, 12])),
            ("blocks.1.self_attn.q.lora_B.weight", noise(seed + 1, &[12, 2])),
            ("blocks.1.diff_m", noise(seed + 2, &[1, 6, 12])),
        ]);
        candle_core::safetensors::save(&tensors, &path).unwrap();
        let lora = Arc::new(Lora::open(&path).unwrap());
        Arc::new(FittedLora::new(&lora, &network(), 0.7, Expert::Only).unwrap())
    };
    let (a, b) = (open("a.safetensors", 5), open("b.safetensors", 9));
    assert_eq!((a.modules(), a.warnings().len()), (2, 0));
    let (query, table) = (noise(1, &[12, 12]), noise(2, &[1, 6, 12]));
    let other = "blocks.0.attn1.to_q.weight";
    let source: Arc<dyn Source> = Arc::new(HashMap::from([
        (QUERY.to_owned(), query.clone()),
        (other.to_owned(), query.clone()),
        ("blocks.1.scale_shift_table".to_owned(), table),
    ]));
    let get = |loras: &[&Arc<FittedLora>], name: &str, shape: &[usize]| {
        let loras = loras.iter().map(|lora| Arc::clone(lora)).collect();
        Patched::new(source.clone(), loras).get(name, shape).unwrap().wide().unwrap()
    };
    for (name, shape) in [(QUERY, &[12, 12][..]), ("blocks.1.scale_shift_table", &[1, 6, 12])] {
        let (both, swapped) = (get(&[&a, &b], name, shape), get(&[&b, &a], name, shape));
        assert!(distance(&both, &swapped) < 1e-6);
        let (alone, plain) = (get(&[&a], name, shape), get(&[], name, shape));
        assert!(distance(&both, &alone) > 0.1 && distance(&alone, &plain) > 0.1);
    }
    assert_eq!(numbers(&get(&[&a, &b], other, &[12, 12])), numbers(&query));
}

#[test]
fn what_does_not_fit_is_refused_and_named() {
    let (down, up) = (noise(1, &[2, 12]), noise(2, &[12, 2]));
    let pair = |module: &str, down: &Tensor, up: &Tensor| {
        refusal(&[
            (&format!("{module}.lora_A.weight"), down.clone()),
            (&format!("{module}.lora_B.weight"), up.clone()),
        ])
    };
    let said = pair("double_blocks.0.img_attn", &down, &up);
    assert!(said.contains("another model") && said.contains("double_blocks.0.img_attn"), "{said}");
    let said = pair("blocks.7.self_attn.q", &down, &up);
    assert!(said.contains("blocks.7.self_attn.q") && said.contains("deeper"), "{said}");
    let said = pair("blocks.0.self_attn.q", &noise(1, &[2, 11]), &up);
    assert!(said.contains("[12, 11]") && said.contains("[12, 12]"), "{said}");
    let said = pair("blocks.0.self_attn.q", &noise(1, &[3, 12]), &up);
    assert!(said.contains("unequal ranks"), "{said}");
    let said = refusal(&[("blocks.0.self_attn.q.lora_A.weight", down.clone())]);
    assert!(said.contains("lora_A") && said.contains("without its lora_B"), "{said}");
    let said = refusal(&[("lora_te1_x.lora_up.weight", up.clone())]);
    assert!(said.contains("text encoder"), "{said}");
    let said = refusal(&[("blocks.0.self_attn.q.weight", up.clone())]);
    assert!(said.contains("a whole network rather than a LoRA"), "{said}");
    let said = refusal(&[("something.else", up.clone())]);
    assert!(said.contains("no LoRA"), "{said}");
    let said = refusal(&[("blocks.0.self_attn.q.oft_blocks", up)]);
    assert!(said.contains("OFT"), "{said}");
}

#[test]
fn keys_of_the_second_transformer_are_for_low_noise_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (down, up) = (noise(1, &[2, 12]), noise(2, &[12, 2]));
    let path = save(
        &folder,
        &[
            ("transformer.blocks.0.attn1.to_q.lora_A.weight", down.clone()),
            ("transformer.blocks.0.attn1.to_q.lora_B.weight", up.clone()),
            ("transformer_2.blocks.1.attn1.to_out.lora_A.weight", down),
            ("transformer_2.blocks.1.attn1.to_out.lora_B.weight", up),
        ],
    );
    let lora = Arc::new(Lora::open(&path).unwrap());
    let fit = |expert| FittedLora::new(&lora, &network(), 1., expert).unwrap();
    let (first, second) = ("blocks.0.attn1.to_q.weight", "blocks.1.attn1.to_out.0.weight");
    for expert in [Expert::Only, Expert::HighNoise] {
        assert!(fit(expert).changes(first) && !fit(expert).changes(second));
    }
    let low = fit(Expert::LowNoise);
    assert!(!low.changes(first) && low.changes(second));
}
