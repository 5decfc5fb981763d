//! Which dict of a pickle is the one of the tensors.

use std::collections::{BTreeMap, HashSet};

use crate::torch::pickle::{Pickle, Tensor, Value};

/// Names under which trainers save the dict of tensors beside others: self-forcing and CausVid
/// (`generator_ema`, `generator`), Lightning and others.
const NAMES: [&str; 6] = ["state_dict", "model", "module", "generator_ema", "generator", "params"];

/// Longest name of a tensor, in bytes.
const NAME_MAX: usize = 512;

/// Names that a message lists.
const LISTED_MAX: usize = 8;

/// The tensors of the dict that holds a model, in its order, with their names.
///
/// # Errors
/// With the reason, if there is no such dict, or more than one.
pub(super) fn tensors<'a>(pickle: &Pickle<'a>) -> Result<Vec<(&'a str, Tensor)>, String> {
    let Value::Dict(top) = pickle.top else {
        return Err("it holds no dict of tensors".to_owned());
    };
    let dict = choose(pickle, top)?;
    let mut tensors = Vec::new();
    let mut seen = HashSet::new();
    for (_, key, value) in pickle.entries().filter(|entry| entry.0 == dict) {
        let Value::Tensor(number) = value else { continue };
        let Value::Text(key) = key else {
            return Err("a tensor whose name is no text".to_owned());
        };
        let name = pickle.text(key);
        if name.is_empty() || name.len() > NAME_MAX {
            return Err(format!(
                "a tensor's name has {} bytes, 1 to {NAME_MAX} are read",
                name.len()
            ));
        }
        if !seen.insert(name) {
            return Err(format!("tensor {name:?} is there twice"));
        }
        let tensor = pickle.tensor(number).ok_or("a tensor that was never made")?;
        tensors.push((name, tensor));
    }
    Ok(tensors)
}

/// The dict of the tensors: the top, or one below it.
fn choose(pickle: &Pickle<'_>, top: u32) -> Result<u32, String> {
    let with_tensors: HashSet<u32> = pickle
        .entries()
        .filter(|(_, _, value)| matches!(value, Value::Tensor(_)))
        .map(|(dict, ..)| dict)
        .collect();
    let below = dicts_below(pickle, top, &with_tensors);
    if with_tensors.contains(&top) {
        return alone(top, &below);
    }
    let known: Vec<(&str, u32)> =
        NAMES.iter().filter_map(|name| Some((*name, *below.get(name)?))).collect();
    let dicts: HashSet<u32> = known.iter().map(|(_, dict)| *dict).collect();
    match known.as_slice() {
        [(_, dict), ..] if dicts.len() == 1 => {
            alone(*dict, &dicts_below(pickle, *dict, &with_tensors))
        }
        [(first, _), ..] => Err(format!(
            "it holds {} dicts of tensors, under {}; {}",
            known.len(),
            listed(known.iter().map(|(name, _)| *name)),
            save_one(first)
        )),
        [] => Err(match below.keys().next() {
            None => "it holds no dict of tensors".to_owned(),
            Some(first) => format!(
                "it holds dicts of tensors under {}, and is read if one is under {}; {}",
                listed(below.keys().copied()),
                listed(NAMES.into_iter()),
                save_one(first)
            ),
        }),
    }
}

/// The dicts of tensors in a dict, by name. Of two under one name the last counts, as in Python.
fn dicts_below<'a>(
    pickle: &Pickle<'a>,
    above: u32,
    with_tensors: &HashSet<u32>,
) -> BTreeMap<&'a str, u32> {
    let inside = pickle.entries().filter(|entry| entry.0 == above);
    let named = inside.filter_map(|(_, key, value)| match (key, value) {
        (Value::Text(key), Value::Dict(dict)) => Some((pickle.text(key), dict)),
        _ => None,
    });
    named.filter(|(_, dict)| *dict != above && with_tensors.contains(dict)).collect()
}

/// A dict of tensors is read if no other lies in it.
fn alone(dict: u32, below: &BTreeMap<&str, u32>) -> Result<u32, String> {
    match below.keys().next() {
        None => Ok(dict),
        Some(first) => Err(format!(
            "it holds tensors, and beside them dicts of tensors under {}; {}",
            listed(below.keys().copied()),
            save_one(first)
        )),
    }
}

fn save_one(name: &str) -> String {
    let name = name.chars().take(NAME_MAX).collect::<String>();
    format!("save one of them alone: torch.save(torch.load(FILE)[{name:?}], NEW)")
}

fn listed<'n>(names: impl ExactSizeIterator<Item = &'n str>) -> String {
    let more = names.len().saturating_sub(LISTED_MAX);
    let mut text =
        names.take(LISTED_MAX).map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}
