//! Options of a strategy: the schema behind `--help`, validation and suggestions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Error, Result};

/// One option of a sampler or a cache.
///
/// The host checks the user's value against this, fills in the default where there is none, and
/// passes a complete set: [`Sampler::new`](crate::Sampler::new) never sees a missing option.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OptionSpec {
    /// Name in `--sampler-option NAME=VALUE` and in the strategy's `Options` struct.
    pub name: String,
    /// Type and range.
    pub kind: OptionKind,
    /// Value when the user gives none.
    pub default: Value,
    /// One line for `--help`.
    pub doc: String,
    /// A command-line flag for this option, without dashes (`ar_step` gives `--ar_step`).
    pub flag: Option<String>,
}

/// Type and range of an option.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum OptionKind {
    /// `true` or `false`.
    Bool,
    /// A whole number, both ends included.
    Int {
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
    },
    /// A number, both ends included.
    Float {
        /// Smallest value.
        min: f64,
        /// Largest value.
        max: f64,
    },
    /// One of these words.
    Choice(Vec<String>),
    /// Numbers separated by commas, optionally in square brackets; may be empty.
    FloatList,
    /// A JSON file. The host reads it: the value is `null` or the object in the file, and is kept
    /// with the settings of the run.
    Document,
}

impl OptionSpec {
    fn new(name: &str, kind: OptionKind, default: Value, doc: &str) -> Self {
        Self { name: name.into(), kind, default, doc: doc.into(), flag: None }
    }

    /// A switch.
    pub fn bool(name: &str, default: bool, doc: &str) -> Self {
        Self::new(name, OptionKind::Bool, json!(default), doc)
    }

    /// A whole number in `range`, both ends included.
    pub fn int(name: &str, default: i64, range: (i64, i64), doc: &str) -> Self {
        Self::new(name, OptionKind::Int { min: range.0, max: range.1 }, json!(default), doc)
    }

    /// A number in `range`, both ends included.
    pub fn float(name: &str, default: f64, range: (f64, f64), doc: &str) -> Self {
        Self::new(name, OptionKind::Float { min: range.0, max: range.1 }, json!(default), doc)
    }

    /// One of `choices`; the first is the default.
    pub fn choice(name: &str, choices: &[&str], doc: &str) -> Self {
        let words = choices.iter().map(|c| c.to_string()).collect();
        Self::new(name, OptionKind::Choice(words), json!(choices[0]), doc)
    }

    /// A list of numbers, empty by default.
    pub fn float_list(name: &str, doc: &str) -> Self {
        Self::new(name, OptionKind::FloatList, json!([]), doc)
    }

    /// A JSON file, none by default.
    pub fn document(name: &str, doc: &str) -> Self {
        Self::new(name, OptionKind::Document, Value::Null, doc)
    }

    /// Adds a command-line flag for the option.
    pub fn flag(mut self, flag: &str) -> Self {
        self.flag = Some(flag.into());
        self
    }

    /// Parses a value from the command line; of a [`Document`](OptionKind::Document), the content
    /// of the file.
    ///
    /// # Errors
    /// `Invalid`, naming the option, the given text and what is allowed.
    pub fn parse(&self, text: &str) -> Result<Value> {
        let text = text.trim();
        let value = match &self.kind {
            OptionKind::Bool => text.parse::<bool>().ok().map(Value::from),
            OptionKind::Int { .. } => text.parse::<i64>().ok().map(Value::from),
            OptionKind::Float { .. } => text.parse::<f64>().ok().map(Value::from),
            OptionKind::Choice(_) => Some(Value::from(text)),
            OptionKind::FloatList => parse_list(text),
            OptionKind::Document => {
                let document: Value = serde_json::from_str(text)
                    .map_err(|e| Error::invalid(format!("option {}: no JSON: {e}", self.name)))?;
                // Only a default is none.
                if document.is_null() {
                    return Err(self.refusal(text));
                }
                Some(document)
            }
        };
        self.check(value.as_ref().unwrap_or(&Value::Null))
            .map_err(|_| self.refusal(text))
            .map(|()| value.unwrap_or_default())
    }

    /// Checks a JSON value, such as a default from a model folder.
    ///
    /// # Errors
    /// `Invalid`, naming the option, the given value and what is allowed.
    pub fn check(&self, value: &Value) -> Result<()> {
        let fits = match &self.kind {
            OptionKind::Bool => value.is_boolean(),
            OptionKind::Int { min, max } => {
                value.as_i64().is_some_and(|v| (min..=max).contains(&&v))
            }
            OptionKind::Float { min, max } => {
                value.as_f64().is_some_and(|v| (min..=max).contains(&&v))
            }
            OptionKind::Choice(words) => {
                value.as_str().is_some_and(|v| words.iter().any(|w| w == v))
            }
            OptionKind::FloatList => {
                value.as_array().is_some_and(|list| list.iter().all(Value::is_number))
            }
            OptionKind::Document => value.is_object() || value.is_null(),
        };
        if fits { Ok(()) } else { Err(self.refusal(&value.to_string())) }
    }

    /// The allowed values, as text.
    pub fn allowed(&self) -> String {
        match &self.kind {
            OptionKind::Bool => "true or false".into(),
            OptionKind::Int { min, max } => format!("a whole number from {min} to {max}"),
            OptionKind::Float { min, max } => format!("a number from {min} to {max}"),
            OptionKind::Choice(words) => words.join(" | "),
            OptionKind::FloatList => "numbers separated by commas".into(),
            OptionKind::Document => "a JSON file".into(),
        }
    }

    fn refusal(&self, given: &str) -> Error {
        Error::invalid(format!("option {}: {given} is not {}", self.name, self.allowed()))
    }
}

/// `1,2,3` or `[1, 2, 3]`.
fn parse_list(text: &str) -> Option<Value> {
    let inner = text.trim_start_matches('[').trim_end_matches(']').trim();
    if inner.is_empty() {
        return Some(json!([]));
    }
    inner
        .split(',')
        .map(|n| n.trim().parse::<f64>().ok())
        .collect::<Option<Vec<_>>>()
        .map(Value::from)
}

/// A set of options by name, as JSON; a complete set deserialises into a strategy's `Options`.
pub type OptionValues = BTreeMap<String, Value>;

/// Completes `given` with the defaults of `specs`.
///
/// # Errors
/// `Invalid` for an unknown name, with the nearest known one, and for a value outside its range.
pub fn complete(owner: &str, specs: &[OptionSpec], given: &OptionValues) -> Result<OptionValues> {
    let mut values: OptionValues =
        specs.iter().map(|s| (s.name.clone(), s.default.clone())).collect();
    for (name, value) in given {
        find(owner, specs, name)?.check(value)?;
        values.insert(name.clone(), value.clone());
    }
    Ok(values)
}

/// The option called `name`.
///
/// # Errors
/// `Invalid` for an unknown name, with the nearest known one.
pub fn find<'a>(owner: &str, specs: &'a [OptionSpec], name: &str) -> Result<&'a OptionSpec> {
    specs.iter().find(|s| s.name == name).ok_or_else(|| {
        let names = specs.iter().map(|s| s.name.as_str());
        Error::invalid(format!("{owner} has no option {name}{}", did_you_mean(name, names)))
    })
}

/// `; did you mean X?` for the nearest of `known`; the list of all where none is near.
pub fn did_you_mean<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    let nearest = known
        .iter()
        .map(|k| (strsim::damerau_levenshtein(word, k), k))
        .filter(|(distance, k)| *distance <= 1 + k.len() / 3)
        .min();
    match nearest {
        Some((_, k)) => format!("; did you mean {k}?"),
        None if known.is_empty() => "; there are none".into(),
        None => format!("; there are: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specs() -> Vec<OptionSpec> {
        vec![
            OptionSpec::float("threshold", 0.1, (0.0, 10.0), "how far"),
            OptionSpec::choice("mode", &["e", "e0"], "which signal"),
            OptionSpec::int("retention", 1, (0, 100), "how many"),
            OptionSpec::float_list("coefficients", "polynomial"),
        ]
    }

    #[test]
    fn what_a_user_writes_becomes_typed_or_is_refused_with_the_range() {
        let specs = specs();
        assert_eq!(specs[0].parse("0.25").unwrap(), json!(0.25));
        assert_eq!(specs[3].parse("[1, -2.5]").unwrap(), json!([1.0, -2.5]));
        assert_eq!(specs[3].parse("").unwrap(), json!([]));
        for (spec, text) in [(0, "11"), (0, "NaN"), (0, "x"), (1, "e1"), (2, "1.5"), (3, "1,x")] {
            let error = specs[spec].parse(text).unwrap_err();
            assert!(error.message.contains(&specs[spec].name), "{error}");
            assert!(error.message.contains(text), "{error}");
        }
    }

    #[test]
    fn an_unknown_option_names_the_nearest() {
        let given = [("treshold".to_string(), json!(0.1))].into();
        let error = complete("teacache", &specs(), &given).unwrap_err();
        assert_eq!(error.message, "teacache has no option treshold; did you mean threshold?");
    }

    #[test]
    fn a_word_like_no_other_is_met_with_all_there_are() {
        let says = |specs: &[OptionSpec]| find("x", specs, "zzzzzz").unwrap_err().message;
        assert_eq!(says(&[]), "x has no option zzzzzz; there are none");
        let all = "x has no option zzzzzz; there are: threshold, mode, retention, coefficients";
        assert_eq!(says(&specs()), all);
    }

    #[test]
    fn both_ends_of_a_range_are_in_it_and_what_is_beyond_is_not() {
        let specs = specs();
        let (float, int) = (&specs[0], &specs[2]);
        for value in [json!(0.0), json!(10.0), json!(10)] {
            float.check(&value).unwrap();
        }
        for value in [json!(-1e-9), json!(10.000001), json!("1"), json!(null), json!([1.0])] {
            assert!(float.check(&value).is_err(), "{value}");
        }
        for value in [json!(0), json!(100)] {
            int.check(&value).unwrap();
        }
        for value in [json!(-1), json!(101), json!(1.5), json!(true)] {
            assert!(int.check(&value).is_err(), "{value}");
        }
    }

    #[test]
    fn defaults_fill_what_was_not_given() {
        let given = [("mode".to_string(), json!("e0"))].into();
        let values = complete("teacache", &specs(), &given).unwrap();
        assert_eq!(values["mode"], "e0");
        assert_eq!(values["threshold"], 0.1);
    }
}
