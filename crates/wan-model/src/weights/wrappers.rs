//! What stands before the names of all tensors of a file: the modules that a network was wrapped in
//! when it was saved.
//!
//! Sources: ComfyUI-GGUF 795e451 `convert.py` and `loader.py`, ComfyUI-WanVideoWrapper
//! (`WanVideoVAELoader`, `_orig_mod.` after the block number), torch's `DataParallel` and `compile`.

use crate::original_names::Layout;

/// Known wrappers. They are taken off in any order.
const KNOWN: [&str; 9] = [
    "model.diffusion_model.",
    "diffusion_model.",
    "model.",
    "module.",
    "_orig_mod.",
    "net.",
    "first_stage_model.",
    "vae.",
    "text_encoders.umt5xxl.transformer.",
];

/// Wrappers that may stand inside one another.
const DEPTH: usize = 4;

/// What `torch.compile` leaves between the number of a block and its layers.
const COMPILED: &str = "._orig_mod.";

/// Beginnings of names in files that hold several networks, and the part that each is.
const COMPONENTS: [(&str, &str); 5] = [
    ("model.diffusion_model.", "transformer"),
    ("vae.", "vae"),
    ("first_stage_model.", "vae"),
    ("text_encoders.umt5xxl.transformer.", "text_encoder"),
    ("text_encoders.umt5xxl.", "text_encoder"),
];

/// A name without what compilers put inside it.
pub(super) fn uncompiled(name: &str) -> String {
    name.replace(COMPILED, ".")
}

/// The parts that a file with these names holds, and where the names of each begin; empty for a file
/// of one network.
pub(super) fn components(names: &[&str]) -> Vec<(&'static str, &'static str)> {
    let mut found: Vec<(&str, &str)> = Vec::new();
    for (start, part) in COMPONENTS {
        let is_new = !found.iter().any(|(_, other)| *other == part);
        if is_new && names.iter().any(|name| name.starts_with(start)) {
            found.push((start, part));
        }
    }
    if found.len() > 1 { found } else { Vec::new() }
}

/// What to take off the names that begin with it, so that they are names of a known network; empty
/// if there is nothing to take off, or no network is known.
///
/// # Errors
/// The beginning of the names, if they are those of a network behind a beginning that is not known.
pub(super) fn of(names: &[&str]) -> Result<String, String> {
    if let Some(known) = known(names, String::new(), DEPTH) {
        return Ok(known);
    }
    match unknown(names) {
        Some(start) => Err(start),
        None => Ok(String::new()),
    }
}

fn known(names: &[&str], start: String, depth: usize) -> Option<String> {
    if is_network(names, &start) {
        return Some(start);
    }
    let longer = KNOWN.iter().map(|wrapper| format!("{start}{wrapper}"));
    longer
        .filter(|longer| depth > 0 && is_before_most(names, longer))
        .find_map(|longer| known(names, longer, depth - 1))
}

fn unknown(names: &[&str]) -> Option<String> {
    // Whatever a file has in front may stand alone.
    let middle = names.get(names.len() / 2)?;
    let dots = middle.match_indices('.').map(|(dot, _)| &middle[..=dot]);
    dots.filter(|start| is_before_most(names, start))
        .find(|start| is_network(names, start))
        .map(str::to_owned)
}

fn is_before_most(names: &[&str], start: &str) -> bool {
    let count = names.iter().filter(|name| name.starts_with(start)).count();
    2 * count > names.len()
}

fn is_network(names: &[&str], start: &str) -> bool {
    let stripped = names.iter().map(|name| name.strip_prefix(start).unwrap_or(name));
    Layout::recognised(stripped).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 3] =
        ["blocks.0.self_attn.q.weight", "blocks.0.modulation", "head.head.weight"];

    fn found(start: &str, beside: &[&str]) -> Result<String, String> {
        let names = NAMES.map(|name| format!("{start}{name}"));
        let names: Vec<&str> = names.iter().map(String::as_str).chain(beside.to_vec()).collect();
        of(&names)
    }

    #[test]
    fn wrappers_come_off_in_any_order_and_leave_what_stands_beside_them() {
        for start in [
            "",
            "model.diffusion_model.",
            "module._orig_mod.",
            "_orig_mod.module.",
            "net.model.module.",
            "model._orig_mod.diffusion_model.",
        ] {
            assert_eq!(found(start, &["scaled_fp8"]), Ok(start.to_owned()), "{start}");
        }
    }

    #[test]
    fn an_unknown_beginning_is_named_and_unknown_networks_are_left_alone() {
        assert_eq!(found("student.core.", &[]), Err("student.core.".to_owned()));
        assert_eq!(of(&["a.b", "a.c"]), Ok(String::new()));
        assert_eq!(of(&[]), Ok(String::new()));
    }

    #[test]
    fn several_networks_in_one_file_are_told_apart() {
        let names = ["model.diffusion_model.a", "first_stage_model.b", "c"];
        let expected = [("model.diffusion_model.", "transformer"), ("first_stage_model.", "vae")];
        assert_eq!(components(&names), expected);
        assert!(components(&names[..1]).is_empty() && components(&[]).is_empty());
        assert_eq!(uncompiled("blocks.3._orig_mod.ffn.0.bias"), "blocks.3.ffn.0.bias");
    }
}
