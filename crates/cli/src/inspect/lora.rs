//! What a LoRA is.

use serde_json::json;
use wan_model::lora::{Distilled, Lora};

use super::Described;

pub(super) fn describe(name: &str, lora: &Lora) -> Described {
    let facts = lora.facts();
    let forms: Vec<&str> = facts.forms.iter().copied().collect();
    let ranks: Vec<String> =
        facts.ranks.iter().map(|(rank, modules)| format!("{rank} ({modules})")).collect();
    let ranks = if ranks.is_empty() { "none".into() } else { ranks.join(", ") };
    let mut lines = vec![
        name.to_owned(),
        format!("  a LoRA ({}), for --lora", forms.join(", ")),
        format!("  {} modules, {} tensors, ranks {ranks}", facts.modules, facts.tensors),
        format!("  keys as {}", facts.key),
    ];
    if facts.text_encoder_keys > 0 {
        lines.push(format!("  {} keys of text encoders, left out", facts.text_encoder_keys));
    }
    let distilled = Distilled::of(lora);
    if let Some(distilled) = &distilled {
        lines.push(format!("  few-step distillation: {}", distilled.title));
    }
    let json = json!({
        "path": name,
        "kind": "lora",
        "forms": forms,
        "modules": facts.modules,
        "tensors": facts.tensors,
        "ranks": facts.ranks,
        "key": facts.key,
        "text_encoder_keys": facts.text_encoder_keys,
        "distilled": distilled.map(|distilled| distilled.title),
    });
    Described { lines, json, problems: 0 }
}
