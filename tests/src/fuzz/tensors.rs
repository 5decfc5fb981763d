//! Changes of safetensors files that keep to the format: names, shapes, number formats and numbers
//! become others, and the header fits again. What they mean to each other is what breaks.

use serde_json::{Map, Value, json};

use crate::json;
use wan_tests::dice::Dice;

/// Elements of a tensor that gets another shape, at most.
const ELEMENTS_MAX: usize = 1 << 14;

/// Tensors of a file above which none is added.
const TENSORS_MAX: usize = 400;

/// The member of a header that is no tensor.
const METADATA: &str = "__metadata__";

/// Words that take each other's place in names.
type Words = &'static [&'static [&'static str]];

/// Words of LoRA keys.
pub(crate) const LORA: Words = &[
    &[
        ".lora_A.weight",
        ".lora_B.weight",
        ".lora_A.default.weight",
        ".lora_B.default.weight",
        ".lora_B.bias",
        ".lora_down.weight",
        ".lora_up.weight",
        "_lora.down.weight",
        "_lora.up.weight",
        ".alpha",
        ".diff",
        ".diff_b",
        ".diff_m",
        ".set_weight",
        ".dora_scale",
        ".lora_magnitude_vector",
        ".hada_w1_a",
        ".hada_w1_b",
        ".hada_w2_a",
        ".hada_w2_b",
        ".lokr_w1",
        ".lokr_w1_a",
        ".lokr_w1_b",
        ".lokr_w2",
        ".lokr_w2_a",
        ".lokr_w2_b",
        ".reshape_weight",
        ".lora_mid.weight",
        ".weight",
    ],
    &[
        "base_model.model.",
        "diffusion_model.",
        "transformer_2.",
        "transformer.",
        "lora_unet__",
        "lora_unet_",
        "lora_te_",
        "lycoris_",
        "text_encoder.",
        "model.",
    ],
    &[
        "self_attn.q",
        "self_attn.o",
        "self_attn_k",
        "cross_attn.k_img",
        "attn1.to_q",
        "attn1.to_out.0",
        "ffn.0",
        "ffn_2",
        "norm3",
        "modulation",
    ],
    &["blocks.0", "blocks.1", "blocks.7", "blocks_0", "blocks_1", "head.head", "patch_embedding"],
];

/// Words of 8-bit weights and their factors.
pub(crate) const SCALED: Words = &[
    &[
        ".scale_weight",
        ".weight_scale_2",
        ".weight_scale",
        ".scale_input",
        ".input_scale",
        ".comfy_quant",
        ".pre_quant_scale",
        ".weight",
        ".bias",
    ],
    &["model.diffusion_model.", "diffusion_model.", "model.", "_orig_mod."],
    &["self_attn.q", "self_attn.k", "self_attn.o", "cross_attn.v", "ffn.0", "ffn.2", "norm3"],
    &["blocks.0", "blocks.1", "blocks.7", "head.head", "patch_embedding", "scaled_fp8"],
];

/// Number formats by their names in a header, and bytes of a number.
const FORMATS: [(&str, usize); 10] = [
    ("F8_E4M3", 1),
    ("F8_E5M2", 1),
    ("I8", 1),
    ("U8", 1),
    ("BOOL", 1),
    ("BF16", 2),
    ("F16", 2),
    ("F32", 4),
    ("F64", 8),
    ("I64", 8),
];

#[derive(Clone)]
struct Tensor {
    name: String,
    format: String,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// A safetensors file, taken apart.
pub(crate) struct Tensors {
    metadata: Map<String, Value>,
    tensors: Vec<Tensor>,
    words: Words,
}

impl Tensors {
    /// None where it is no whole file of this format.
    pub(crate) fn of(bytes: &[u8], words: Words) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk::<8>()?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        let (header, data) = rest.split_at_checked(length)?;
        let mut header: Map<String, Value> = serde_json::from_slice(header).ok()?;
        let metadata = header.remove(METADATA);
        let metadata = metadata.and_then(|said| said.as_object().cloned()).unwrap_or_default();
        let number = |value: &Value| usize::try_from(value.as_u64()?).ok();
        let tensor = |(name, said): (String, Value)| {
            let place = number(&said["data_offsets"][0])?..number(&said["data_offsets"][1])?;
            let axes = said["shape"].as_array()?.iter().map(number);
            Some(Tensor {
                name,
                format: said["dtype"].as_str()?.into(),
                shape: axes.collect::<Option<_>>()?,
                bytes: data.get(place)?.to_vec(),
            })
        };
        let tensors = header.into_iter().map(tensor).collect::<Option<Vec<_>>>()?;
        (!tensors.is_empty()).then_some(Self { metadata, tensors, words })
    }

    /// The file, changed so many times.
    pub(crate) fn changed(&self, times: usize, dice: &mut Dice) -> Vec<u8> {
        let (mut metadata, mut tensors) = (self.metadata.clone(), self.tensors.clone());
        for _ in 0..times {
            if dice.one_in(10) {
                change_metadata(&mut metadata, dice);
            } else if !tensors.is_empty() {
                self.change(&mut tensors, dice);
            }
        }
        written(metadata, &tensors)
    }

    fn change(&self, tensors: &mut Vec<Tensor>, dice: &mut Dice) {
        let (one, other) = (dice.below(tensors.len()), dice.below(tensors.len()));
        match dice.below(10) {
            0 | 1 => tensors[one].name = self.renamed(&tensors[one].name, dice),
            2 if tensors.len() < TENSORS_MAX => {
                let name = self.renamed(&tensors[one].name, dice);
                tensors.push(Tensor { name, ..tensors[other].clone() });
            }
            3 => drop(tensors.remove(one)),
            4 | 5 => {
                let shape = shape(&tensors[one].shape, &tensors[other].shape, dice);
                tensors[one].fit(shape, dice);
            }
            6 => {
                let (format, _) = dice.pick(&FORMATS);
                tensors[one].format = (*format).into();
                let shape = tensors[one].shape.clone();
                tensors[one].fit(shape, dice);
            }
            7 => {
                let name = std::mem::take(&mut tensors[one].name);
                tensors[one].name = std::mem::replace(&mut tensors[other].name, name);
            }
            8 => {
                let bytes = &mut tensors[one].bytes;
                let document = serde_json::from_slice::<Value>(bytes);
                match document {
                    Ok(document) if document.is_object() => {
                        *bytes = json::changed(&document, 1, dice).into_bytes();
                        bytes.truncate(ELEMENTS_MAX);
                        tensors[one].shape = vec![tensors[one].bytes.len()];
                    }
                    _ => fill(bytes, dice),
                }
            }
            _ => fill(&mut tensors[one].bytes, dice),
        }
    }

    /// A name in which one word has become another of its kind.
    fn renamed(&self, name: &str, dice: &mut Dice) -> String {
        let words = *dice.pick(self.words);
        let new = *dice.pick(words);
        match words.iter().find(|word| name.contains(*word)) {
            Some(old) => name.replacen(old, new, 1),
            None if new.starts_with('.') => format!("{name}{new}"),
            None => format!("{new}{name}"),
        }
    }
}

impl Tensor {
    /// Takes this shape, with as many of its bytes as that needs, and again from the first.
    fn fit(&mut self, shape: Vec<usize>, dice: &mut Dice) {
        let known = FORMATS.iter().find(|(name, _)| *name == self.format);
        let width = known.map_or(1, |(_, width)| *width);
        let product = shape.iter().try_fold(1usize, |product, axis| product.checked_mul(*axis));
        let elements = product.filter(|elements| *elements <= ELEMENTS_MAX).unwrap_or(0);
        if self.bytes.is_empty() {
            self.bytes.push(dice.byte());
        }
        self.bytes = self.bytes.iter().copied().cycle().take(elements * width).collect();
        self.shape = shape;
    }
}

/// A shape beside this one.
fn shape(old: &[usize], other: &[usize], dice: &mut Dice) -> Vec<usize> {
    let mut shape = old.to_vec();
    let axis = dice.below(shape.len());
    match dice.below(9) {
        0 => shape.clear(),
        1 => shape = other.to_vec(),
        2 => shape.reverse(),
        3 => shape.push(1),
        4 => shape.insert(axis, 1),
        5 => drop(shape.pop()),
        6 if !shape.is_empty() => shape[axis] = *dice.pick(&[0, 1, 2, 3, 64, 1 << 40]),
        7 if !shape.is_empty() => shape[axis] = shape[axis].saturating_sub(1),
        _ if !shape.is_empty() => shape[axis] = shape[axis].saturating_add(1),
        _ => shape.push(2),
    }
    shape
}

/// Numbers that are none, or are at an end of a range, from somewhere on.
fn fill(bytes: &mut [u8], dice: &mut Dice) {
    let from = dice.below(bytes.len());
    let run = 1 << dice.below(6);
    let pattern = *dice.pick(&[0, 0xff, 0x7f, 0x80, 0x7c, 0xfc]);
    bytes.iter_mut().skip(from).take(run).for_each(|byte| *byte = pattern);
}

fn change_metadata(metadata: &mut Map<String, Value>, dice: &mut Dice) {
    let keys: Vec<String> = metadata.keys().cloned().collect();
    if keys.is_empty() {
        return;
    }
    let key = dice.pick(&keys);
    let Some(text) = metadata[key].as_str() else { return };
    let changed = match serde_json::from_str::<Value>(text) {
        Ok(document) => json::changed(&document, 1 + dice.below(3), dice),
        Err(_) => text.repeat(dice.below(3)),
    };
    metadata.insert(key.clone(), changed.into());
}

fn written(metadata: Map<String, Value>, tensors: &[Tensor]) -> Vec<u8> {
    let (mut header, mut data) = (Map::new(), Vec::new());
    if !metadata.is_empty() {
        header.insert(METADATA.into(), metadata.into());
    }
    for tensor in tensors {
        let Tensor { name, format, shape, bytes } = tensor;
        let start = data.len();
        data.extend_from_slice(bytes);
        let said = json!({ "dtype": format, "shape": shape, "data_offsets": [start, data.len()] });
        header.insert(name.clone(), said);
    }
    let header = Value::from(header).to_string();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()
}
