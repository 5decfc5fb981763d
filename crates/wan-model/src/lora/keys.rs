//! One key of a LoRA file: a prefix, the name of a module, and what the tensor is to it.

/// What a tensor is to its module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Role {
    /// First factor of a low-rank change, `[r, in]`.
    Down,
    /// Second factor, `[out, r]`.
    Up,
    /// A number: the change is multiplied by it over the rank.
    Alpha,
    /// Added to the weight.
    Diff,
    /// Added to the bias.
    BiasDiff,
    /// The bias of the second factor, which is scaled as the factor is.
    UpBias,
    /// Added to the modulation of the module.
    ModulationDiff,
    /// Takes the place of the weight.
    Whole,
    /// Length of each row, or column, of the changed weight (DoRA).
    Magnitude,
    /// Factors of a product by elements (LoHa): `w1_a`, `w1_b`, `w2_a`, `w2_b`.
    Hada1A,
    Hada1B,
    Hada2A,
    Hada2B,
    /// Factors of a Kronecker product (LoKr), each whole or as a product.
    Kron1,
    Kron1A,
    Kron1B,
    Kron2,
    Kron2A,
    Kron2B,
}

/// A key, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// A change to a module of a transformer. `low_noise`: of the second of two experts alone.
    Module { name: String, role: Role, low_noise: bool },
    /// A change to a text encoder.
    TextEncoder,
    /// A form that is not read, by its name.
    NotRead(&'static str),
    /// No key of a LoRA.
    Other,
}

/// Prefixes with dots, which may stand inside one another.
const PREFIXES: [&str; 8] = [
    "base_model.model.",
    "model.diffusion_model.",
    "diffusion_model.",
    "transformer.",
    "pipe.dit.",
    "model.",
    "unet.",
    "module.",
];

/// Prefixes of names in which underscores stand for dots.
const UNDERSCORED: [&str; 4] = ["lora_unet__", "lora_unet_", "lora_transformer_", "lycoris_"];

/// Prefix of diffusers' second transformer.
const LOW_NOISE: &str = "transformer_2.";

const TEXT_ENCODERS: [&str; 5] =
    ["lora_te", "text_encoder.", "text_encoders.", "text_encoder_2.", "conditioner."];

/// Ends of keys. Longer ones come before those that they end in.
const ROLES: [(&str, Role); 28] = [
    (".lora_linear_layer.down.weight", Role::Down),
    (".lora_linear_layer.up.weight", Role::Up),
    (".lora.down.weight", Role::Down),
    (".lora.up.weight", Role::Up),
    ("_lora.down.weight", Role::Down),
    ("_lora.up.weight", Role::Up),
    (".lora_down.weight", Role::Down),
    (".lora_up.weight", Role::Up),
    (".lora_down", Role::Down),
    (".lora_up", Role::Up),
    (".alpha", Role::Alpha),
    (".diff_b", Role::BiasDiff),
    (".b_norm", Role::BiasDiff),
    (".diff_m", Role::ModulationDiff),
    (".w_norm", Role::Diff),
    (".diff", Role::Diff),
    (".set_weight", Role::Whole),
    (".dora_scale", Role::Magnitude),
    (".hada_w1_a", Role::Hada1A),
    (".hada_w1_b", Role::Hada1B),
    (".hada_w2_a", Role::Hada2A),
    (".hada_w2_b", Role::Hada2B),
    (".lokr_w1", Role::Kron1),
    (".lokr_w1_a", Role::Kron1A),
    (".lokr_w1_b", Role::Kron1B),
    (".lokr_w2", Role::Kron2),
    (".lokr_w2_a", Role::Kron2A),
    (".lokr_w2_b", Role::Kron2B),
];

/// PEFT's words between module and `weight`, which may have the adapter's name behind them.
const PEFT: [(&str, Role); 3] =
    [(".lora_A", Role::Down), (".lora_B", Role::Up), (".lora_magnitude_vector", Role::Magnitude)];

/// Parts of keys in forms that are not read.
const NOT_READ: [(&str, &str); 9] = [
    (".reshape_weight", "a control LoRA (reshape_weight), which widens the patch embedding"),
    (".lora_mid.", "a Tucker decomposition (lora_mid)"),
    (".hada_t1", "LoHa in Tucker form (hada_t1)"),
    (".hada_t2", "LoHa in Tucker form (hada_t2)"),
    (".lokr_t2", "LoKr in Tucker form (lokr_t2)"),
    (".oft_", "OFT"),
    (".boft_", "BOFT"),
    (".a1.weight", "GLoRA"),
    (".lora_embedding_", "an embedding's LoRA"),
];

impl Key {
    /// Takes a key apart. Names with underscores keep them: a transformer's own list tells where
    /// dots stood.
    pub(super) fn of(key: &str) -> Self {
        let (bare, low_noise) = without_prefixes(key);
        let not_read = NOT_READ.iter().find(|(part, _)| key.contains(part));
        let split = split(&bare);
        if (split.is_some() || not_read.is_some())
            && TEXT_ENCODERS.iter().any(|start| key.starts_with(start) || bare.starts_with(start))
        {
            return Self::TextEncoder;
        }
        if let Some((_, form)) = not_read {
            return Self::NotRead(form);
        }
        match split {
            Some((name, role)) => Self::Module { name: name.to_owned(), role, low_noise },
            None => Self::Other,
        }
    }
}

/// The key without prefixes, and whether one of them was that of the second transformer.
fn without_prefixes(key: &str) -> (String, bool) {
    let (mut bare, mut low_noise) = (key, false);
    loop {
        let prefix = PREFIXES.iter().chain(&UNDERSCORED).find(|prefix| bare.starts_with(**prefix));
        if let Some(prefix) = prefix {
            bare = &bare[prefix.len()..];
        } else if let Some(rest) = bare.strip_prefix(LOW_NOISE) {
            (bare, low_noise) = (rest, true);
        } else {
            return (bare.replace("._orig_mod.", ".").replace(".processor.", "."), low_noise);
        }
    }
}

fn split(key: &str) -> Option<(&str, Role)> {
    if let Some(found) = PEFT.iter().find_map(|(word, role)| peft(key, word, *role)) {
        return Some(found);
    }
    ROLES.iter().find_map(|(end, role)| Some((key.strip_suffix(end)?, *role)))
}

/// `NAME{word}`, `NAME{word}.weight`, `NAME{word}.ADAPTER.weight`, and the same with `bias`.
fn peft<'k>(key: &'k str, word: &str, role: Role) -> Option<(&'k str, Role)> {
    let place = key.rfind(word)?;
    let (name, rest) = (&key[..place], &key[place + word.len()..]);
    let last = match rest.strip_prefix('.').map(|rest| rest.rsplit_once('.')) {
        None if rest.is_empty() => "weight",
        None => return None,
        Some(None) => &rest[1..],
        Some(Some((_, last))) => last,
    };
    match (last, role) {
        ("bias", Role::Up) => Some((name, Role::UpBias)),
        ("bias", _) => None,
        _ => Some((name, role)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(key: &str) -> (String, Role, bool) {
        match Key::of(key) {
            Key::Module { name, role, low_noise } => (name, role, low_noise),
            other => panic!("{key}: {other:?}"),
        }
    }

    #[test]
    fn every_prefix_and_end_is_taken_off() {
        for (key, name, role) in [
            ("diffusion_model.blocks.0.ffn.0.lora_A.weight", "blocks.0.ffn.0", Role::Down),
            ("transformer.blocks.0.attn1.to_q.lora_B.weight", "blocks.0.attn1.to_q", Role::Up),
            ("base_model.model.blocks.0.ffn.0.lora_A.default.weight", "blocks.0.ffn.0", Role::Down),
            ("base_model.model.diffusion_model.x.lora_B.mine.weight", "x", Role::Up),
            ("lora_unet_blocks_0_self_attn_q.lora_down.weight", "blocks_0_self_attn_q", Role::Down),
            ("lora_unet__blocks_0_ffn_2.lora_up.weight", "blocks_0_ffn_2", Role::Up),
            ("lycoris_blocks_0_ffn_2.lokr_w2_a", "blocks_0_ffn_2", Role::Kron2A),
            ("blocks.0.self_attn.q.lora_A", "blocks.0.self_attn.q", Role::Down),
            (
                "pipe.dit.blocks.0.self_attn.q.lora_B.default.weight",
                "blocks.0.self_attn.q",
                Role::Up,
            ),
            ("unet.blocks.0.attn1.to_out_lora.down.weight", "blocks.0.attn1.to_out", Role::Down),
            ("blocks.0.attn1.processor.to_q_lora.up.weight", "blocks.0.attn1.to_q", Role::Up),
            ("x.lora_linear_layer.up.weight", "x", Role::Up),
            ("diffusion_model.head.diff_m", "head", Role::ModulationDiff),
            ("diffusion_model.blocks.1.norm3.diff_b", "blocks.1.norm3", Role::BiasDiff),
            ("x.lora_B.bias", "x", Role::UpBias),
            ("x.lora_magnitude_vector.default.weight", "x", Role::Magnitude),
            ("x.dora_scale", "x", Role::Magnitude),
            ("x.alpha", "x", Role::Alpha),
        ] {
            assert_eq!(module(key), (name.to_owned(), role, false), "{key}");
        }
        assert!(module("transformer_2.blocks.0.attn1.to_q.lora_A.weight").2);
    }

    #[test]
    fn what_is_not_read_is_told_by_name() {
        assert_eq!(Key::of("lora_te1_layers_0.lora_up.weight"), Key::TextEncoder);
        assert_eq!(Key::of("text_encoders.umt5xxl.x.lora_A.weight"), Key::TextEncoder);
        assert!(matches!(Key::of("patch_embedding.reshape_weight"), Key::NotRead(_)));
        assert!(matches!(Key::of("x.oft_blocks"), Key::NotRead("OFT")));
        assert_eq!(Key::of("blocks.0.self_attn.q.weight"), Key::Other);
        assert_eq!(Key::of("text_encoders.umt5xxl.shared.weight"), Key::Other);
    }
}
