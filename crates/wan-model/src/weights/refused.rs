//! What is not read, by its name: number formats, other families of models, other architectures.
//!
//! Keys of formats: ComfyUI `ops.py` and `QUANTIZATION.md`, LightX2V f8aee98, stable-diffusion.cpp
//! 97d2990 `docs/int8_convrot.md`. Keys of families: ComfyUI `model_detection.py`.

use serde::Deserialize;
use wan_weight_files::{TensorInfo, WeightFile};

/// Parts of tensors' names, and the format that has them.
const FORMATS: [(&str, &str); 10] = [
    (".weight_scale_2", "nvfp4"),
    (".pre_quant_scale", "8-bit weights with a pre_quant_scale"),
    (".wscales", "nunchaku's SVDQuant"),
    (".proj_down", "nunchaku's SVDQuant"),
    (".smooth_factor", "nunchaku's SVDQuant"),
    (".absmax", "bitsandbytes"),
    (".quant_map", "bitsandbytes"),
    (".quant_state.bitsandbytes", "bitsandbytes"),
    (".qzeros", "GPTQ or AWQ"),
    (".qweight", "GPTQ, AWQ or SVDQuant"),
];

/// Beginnings of tensors' names, and the family of models that has them. The first that fits counts.
const FAMILIES: [(&str, &str); 16] = [
    ("vace_patch_embedding.", "VACE"),
    ("vace_blocks.", "VACE (a module beside a transformer)"),
    ("ref_conv.", "Wan Fun-Control"),
    ("control_adapter.", "Wan Fun-Camera"),
    ("casual_audio_encoder.", "Wan S2V"),
    ("trainable_cond_mask.", "Wan S2V"),
    ("face_adapter.", "Wan Animate"),
    ("motion_encoder.", "Wan Animate"),
    ("pose_patch_embedding.", "Wan Animate"),
    ("audio_proj.audio_proj_glob_1.", "HuMo"),
    ("audio_proj.", "MultiTalk, InfiniteTalk or FantasyTalking"),
    ("dwpose_embedding.", "UniAnimate"),
    ("blocks.0.cam_encoder.", "ReCamMaster"),
    ("blocks.0.projector.", "ReCamMaster"),
    ("blocks.0.audio_cross_attn.", "MultiTalk or InfiniteTalk"),
    ("double_blocks.", "Flux or HunyuanVideo"),
];

/// Parts of tensors' names that only changes of weights have.
const OF_CHANGES: [&str; 8] = [
    ".lora_A",
    ".lora_B",
    ".lora_down",
    ".lora_up",
    ".lora.down",
    "_lora.down",
    ".lokr_w",
    ".hada_w",
];

/// Architectures that GGUF files of Wan's networks name. `pig` and `cow` are those of calcuis'
/// tools, whatever the network is.
const ARCHITECTURES: [&str; 7] = ["wan", "pig", "cow", "t5", "t5encoder", "umt5", "vae"];

/// Channels that Fun-Control's transformers take, with [`CONTROL_OUT`] numbers out of each token.
const CONTROL_IN: [usize; 2] = [48, 52];
const CONTROL_OUT: usize = 64;

/// What [`comfy_quant`] documents and the header's metadata say of one layer.
#[derive(Deserialize)]
struct Quantisation {
    format: String,
    #[serde(default)]
    convrot: serde_json::Value,
}

/// The header's words on all layers.
#[derive(Deserialize)]
struct HeaderQuantisation {
    #[serde(default)]
    layers: serde_json::Map<String, serde_json::Value>,
}

/// Key of [`HeaderQuantisation`] in a file's metadata.
const QUANTISATION: &str = "_quantization_metadata";

/// End of the name of a tensor that holds a layer's number format as JSON.
const LAYER_FORMAT: &str = ".comfy_quant";

/// Longest such document, in bytes.
const DOCUMENT_MAX: u64 = 4096;

/// Why a file is not read, if it is not: by its format of numbers.
///
/// # Errors
/// If a document in the file cannot be read.
pub(super) fn format(file: &WeightFile) -> wan_weight_files::Result<Option<String>> {
    let architecture = file.metadata().get("general.architecture");
    if let Some(other) = architecture.filter(|name| !ARCHITECTURES.contains(&name.as_str())) {
        return Ok(Some(format!(
            "its general.architecture is {other:?}, expected \"wan\", or \"t5encoder\" for UMT5: \
             this is another model"
        )));
    }
    let kind = file.metadata().get("general.type");
    if let Some(other) = kind.filter(|kind| ["clip-vision", "mmproj"].contains(&kind.as_str())) {
        return Ok(Some(format!("its general.type is {other:?}, which is not read")));
    }
    for info in file.tensors() {
        if OF_CHANGES.iter().any(|part| info.name.contains(part)) {
            let name = &info.name;
            return Ok(Some(format!(
                "a LoRA rather than a network (`{name}`); give it with `lora`"
            )));
        }
        let named = FORMATS.iter().find(|(part, _)| info.name.contains(part));
        if let Some((_, format)) = named {
            return Ok(Some(unread(&info.name, format)));
        }
    }
    if let Some(reason) = file.metadata().get(QUANTISATION).and_then(|text| in_header(text)) {
        return Ok(Some(reason));
    }
    for (number, info) in file.tensors().iter().enumerate() {
        if is_layer_format(&info.name) && info.bytes() <= DOCUMENT_MAX {
            let document = serde_json::from_slice::<Quantisation>(&file.read(number)?);
            let Ok(document) = document else {
                return Ok(Some(format!("tensor `{}` is no document in JSON", info.name)));
            };
            if let Some(reason) = document.refusal(&info.name) {
                return Ok(Some(reason));
            }
        }
    }
    Ok(None)
}

/// Whether a tensor only holds the number format of its layer.
pub(super) fn is_layer_format(name: &str) -> bool {
    name.ends_with(LAYER_FORMAT)
}

fn in_header(text: &str) -> Option<String> {
    let Ok(header) = serde_json::from_str::<HeaderQuantisation>(text) else {
        return Some(format!("{QUANTISATION} of its header is no document that is known"));
    };
    header.layers.into_iter().find_map(|(layer, said)| {
        match serde_json::from_value::<Quantisation>(said) {
            Ok(said) => said.refusal(&layer),
            Err(error) => Some(format!("{QUANTISATION} of its header, `{layer}`: {error}")),
        }
    })
}

/// Whether the header says that its 8-bit matrices have factors.
pub(super) fn promises_factors(file: &WeightFile) -> bool {
    file.metadata().contains_key(QUANTISATION)
        || file.tensors().iter().any(|info| is_layer_format(&info.name))
}

impl Quantisation {
    fn refusal(&self, layer: &str) -> Option<String> {
        let is_rotated =
            !matches!(self.convrot, serde_json::Value::Null | serde_json::Value::Bool(false));
        if is_rotated || self.format.contains("convrot") {
            return Some(unread(layer, "int8 rotated by convrot"));
        }
        let read = ["float8_e4m3fn", "float8_e5m2", "int8_tensorwise", "int8"];
        (!read.contains(&self.format.as_str())).then(|| unread(layer, &self.format))
    }
}

fn unread(name: &str, format: &str) -> String {
    format!(
        "`{name}` says {format}, a format that is not read; take the fp8 (e4m3fn), bf16 or GGUF \
         file of this model"
    )
}

/// Why tensors are not read, if they are not: they are of another family of models. Names are without
/// wrappers.
pub(super) fn family<'a>(
    tensors: impl Iterator<Item = (&'a str, &'a TensorInfo)>,
) -> Option<String> {
    let (mut found, mut inputs, mut outputs) = (None::<usize>, 0, 0);
    for (name, info) in tensors {
        // A module alone is no network that is known, so wrappers may still be there.
        let is_of = |start: &str| {
            name.match_indices(start).any(|(at, _)| at == 0 || name[..at].ends_with('.'))
        };
        let place = FAMILIES.iter().position(|(start, _)| is_of(start));
        found = found.into_iter().chain(place).min();
        match name {
            "patch_embedding.weight" => inputs = info.shape.get(1).copied().unwrap_or(0),
            "head.head.weight" | "proj_out.weight" => {
                outputs = info.shape.first().copied().unwrap_or(0);
            }
            _ => {}
        }
    }
    let family = match found {
        Some(place) => FAMILIES[place].1,
        None if CONTROL_IN.contains(&inputs) && outputs == CONTROL_OUT => "Wan Fun-Control",
        None => return None,
    };
    Some(format!(
        "the weights of {family}, which is not built here; Wan 2.1 and 2.2 T2V, I2V and TI2V and \
         SkyReels-V2 are"
    ))
}
