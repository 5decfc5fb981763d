//! Sets of options: each option alone at its ends, and many at random.

use serde_json::{Value, json};
use wan_plugin_api::{OptionKind, OptionSpec, OptionValues};

use super::dice::Dice;
use super::subject::plain_request;

/// How far from the lower end of a range numbers still decide something in a short run.
const NEAR: i64 = 3;

/// The defaults with one option at another value: each option at every word, at both ends of its
/// range, and next to the lower one.
pub(super) fn one_by_one(specs: &[OptionSpec], defaults: &OptionValues) -> Vec<OptionValues> {
    let with = |spec: &OptionSpec, value| {
        let mut options = defaults.clone();
        options.insert(spec.name.clone(), value);
        options
    };
    let of = |spec| -> Vec<OptionValues> {
        notable(spec).into_iter().map(|value| with(spec, value)).collect()
    };
    specs.iter().flat_map(of).collect()
}

/// What an option can be, other than its default.
fn notable(spec: &OptionSpec) -> Vec<Value> {
    let mut values: Vec<Value> = match &spec.kind {
        OptionKind::Bool => vec![json!(false), json!(true)],
        OptionKind::Choice(words) => words.iter().map(|word| json!(word)).collect(),
        OptionKind::Int { min, max } => {
            let near = (1..=NEAR).map(|by| min.saturating_add(by)).filter(|near| near < max);
            [*min].into_iter().chain(near).chain([*max]).map(Value::from).collect()
        }
        OptionKind::Float { min, max } => vec![json!(min), json!((min + max) / 2.0), json!(max)],
        OptionKind::FloatList => vec![json!([]), falling()],
        OptionKind::Document => Vec::new(),
    };
    values.dedup();
    values.retain(|value| *value != spec.default);
    values
}

/// Numbers from 1 to 0, one for each step of a plain request and one more.
fn falling() -> Value {
    let steps = plain_request().steps;
    (0..=steps).map(|step| f64::from(steps - step) / f64::from(steps)).collect()
}

/// The defaults with some options at random values; in every fourth set, with most of them.
pub(super) fn at_random(
    specs: &[OptionSpec],
    defaults: &OptionValues,
    dice: &mut Dice,
) -> OptionValues {
    let mut options = defaults.clone();
    let most = dice.below(4) == 0;
    for spec in specs {
        let is_set = if most { dice.below(3) > 0 } else { dice.below(specs.len()) < 2 };
        if is_set {
            options.insert(spec.name.clone(), value(spec, dice));
        }
    }
    options
}

/// A value that the option allows; its ends among them.
fn value(spec: &OptionSpec, dice: &mut Dice) -> Value {
    match &spec.kind {
        OptionKind::Bool => json!(dice.below(2) == 1),
        OptionKind::Choice(words) if !words.is_empty() => json!(dice.one_of(words)),
        OptionKind::Int { min, max } => match dice.below(5) {
            0 => json!(min),
            1 => json!(max),
            2 | 3 => json!(min.saturating_add(dice.below(24) as i64).min(*max)),
            _ => {
                let span = max.abs_diff(*min).saturating_add(1);
                json!(min.saturating_add_unsigned(dice.bits() % span.max(1)))
            }
        },
        OptionKind::Float { min, max } => match dice.below(4) {
            0 => json!(min),
            1 => json!(max),
            _ => json!(min + dice.unit() * (max - min)),
        },
        OptionKind::FloatList => {
            let count = dice.below(6);
            json!((0..count).map(|_| 4.0 * dice.unit() - 2.0).collect::<Vec<_>>())
        }
        OptionKind::Choice(_) | OptionKind::Document => spec.default.clone(),
    }
}

/// The options of a set that are not at their defaults, as JSON.
pub(super) fn changes(options: &OptionValues, defaults: &OptionValues) -> Value {
    let changed = options.iter().filter(|(name, value)| defaults.get(*name) != Some(value));
    changed.map(|(name, value)| (name.clone(), value.clone())).collect()
}
