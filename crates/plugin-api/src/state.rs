//! The extension [`STATE`]: saves a strategy's state, and loads it in another process.
//!
//! The host saves a sampler between two rounds, and a cache between two evaluations. Later it makes
//! a **fresh object with the same options** by `new` and loads the state into it. Everything that
//! follows must then be equal, to the bit, to the run without interruption. A strategy that does
//! not list the extension starts afresh when a run is resumed.
//!
//! ```
//! use wan_plugin_api::extensions::STATE;
//! use wan_plugin_api::state::{self, Bits, Saved, State};
//! use wan_plugin_api::*;
//!
//! struct Mine {
//!     sum: f64,
//!     residual: Option<Tensor>,
//! }
//!
//! impl State for Mine {
//!     fn save(&self) -> Result<Saved> {
//!         let mut saved = Saved::default();
//!         saved.put("sum", Bits(self.sum))?;
//!         saved.put_tensors("residual", &self.residual);
//!         Ok(saved)
//!     }
//!
//!     fn load(&mut self, saved: &mut Saved) -> Result<()> {
//!         self.sum = saved.take::<Bits>("sum")?.0;
//!         self.residual = saved.take_tensor("residual")?;
//!         Ok(())
//!     }
//! }
//!
//! // In `impl Cache for Mine` or `impl Sampler for Mine`:
//! fn extensions() -> Vec<String> {
//!     vec![STATE.into()]
//! }
//!
//! // ... and `extension`, which is given the host's operations too:
//! fn extension(mine: &mut Mine, id: &str, message: Message) -> Result<Message> {
//!     state::answer("mine", mine, id, message)
//! }
//!
//! # let mut object = Mine { sum: f64::NEG_INFINITY, residual: None };
//! # let saved = state::save(|id, message| extension(&mut object, id, message)).unwrap();
//! # let mut fresh = Mine { sum: 0.0, residual: None };
//! # state::load(saved, |id, message| extension(&mut fresh, id, message)).unwrap();
//! # assert_eq!((fresh.sum, extensions().len()), (f64::NEG_INFINITY, 1));
//! ```
//!
//! Save the counters, sums and tensors that later calls depend on. Do not save what `new` derives
//! from options, request and context, or what is local to a call. A handle that two fields share
//! becomes two tensors after a load and counts twice; save it once where that matters.

use serde::de::{DeserializeOwned, Error as _, Unexpected};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::extensions::STATE;
use crate::{Error, Message, Result, Tensor};

/// Question of [`STATE`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateQuestion {
    /// Comes without tensors. The answer is a [`StateDocument`] and its tensors. Changes nothing.
    Save,
    /// Comes with the document and the tensors of an earlier answer, to a fresh object with the
    /// same options and the same request or context. The answer is an empty document without
    /// tensors. After an error the object is not used.
    Load(StateDocument),
}

/// Answer of [`STATE`] to [`StateQuestion::Save`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StateDocument {
    /// Id of the strategy.
    pub strategy: String,
    /// Name of each tensor of the message, in their order; several may be equal.
    pub tensors: Vec<String>,
    /// All other values, by the strategy's own names.
    pub fields: Map<String, Value>,
}

/// A strategy whose state can be saved.
pub trait State {
    /// Everything that later calls depend on, except for what `new` makes.
    ///
    /// # Errors
    /// `Failed` if a value cannot be written.
    fn save(&self) -> Result<Saved>;

    /// Loads what [`save`](Self::save) returned into an object that `new` has just made.
    ///
    /// # Errors
    /// `Invalid` for a state of another strategy or other options. ([`answer`] also refuses a state
    /// of which something was not taken.)
    fn load(&mut self, saved: &mut Saved) -> Result<()>;
}

/// A state: named values, and named tensors.
#[derive(Debug, Default)]
pub struct Saved {
    fields: Map<String, Value>,
    tensors: Vec<(String, Tensor)>,
}

impl Saved {
    /// Adds a value. Wrap floats in [`Bits`]: JSON numbers lose infinities and NaN.
    ///
    /// # Errors
    /// `Failed` if it cannot be written.
    pub fn put(&mut self, field: &str, value: impl Serialize) -> Result<()> {
        let value = serde_json::to_value(value)
            .map_err(|e| Error::failed(format!("state, field {field}: {e}")))?;
        self.fields.insert(field.into(), value);
        Ok(())
    }

    /// Adds tensors under one name, in their order: an `&Option<Tensor>`, or any number of tensors.
    pub fn put_tensors<'a>(&mut self, name: &str, tensors: impl IntoIterator<Item = &'a Tensor>) {
        self.tensors.extend(tensors.into_iter().map(|tensor| (name.into(), tensor.clone())));
    }

    /// Removes a value and returns it.
    ///
    /// # Errors
    /// `Invalid` if it is missing or of another type.
    pub fn take<T: DeserializeOwned>(&mut self, field: &str) -> Result<T> {
        let value = self.fields.remove(field).ok_or_else(|| misfit(field, "a value", "none"))?;
        serde_json::from_value(value)
            .map_err(|e| Error::invalid(format!("saved state, field {field}: {e}")))
    }

    /// Removes the tensor of this name, if there is one, and returns it.
    ///
    /// # Errors
    /// `Invalid` if there are several.
    pub fn take_tensor(&mut self, name: &str) -> Result<Option<Tensor>> {
        let mut tensors = self.take_tensors(name);
        match tensors.len() {
            0 | 1 => Ok(tensors.pop()),
            several => Err(misfit(name, "at most 1 tensor", several)),
        }
    }

    /// Removes all tensors of this name and returns them in the order in which they were added.
    pub fn take_tensors(&mut self, name: &str) -> Vec<Tensor> {
        let (taken, left) =
            std::mem::take(&mut self.tensors).into_iter().partition(|t| t.0 == name);
        self.tensors = left;
        let taken: Vec<(String, Tensor)> = taken;
        taken.into_iter().map(|(_, tensor)| tensor).collect()
    }

    /// `Invalid` if a value or a tensor was not taken.
    fn is_taken(&self) -> Result<()> {
        let fields = self.fields.keys();
        match fields.chain(self.tensors.iter().map(|(name, _)| name)).next() {
            Some(left) => Err(misfit(left, "nothing of this name", "it")),
            None => Ok(()),
        }
    }
}

/// The error for a saved field that does not fit.
pub fn misfit(field: &str, expected: impl std::fmt::Display, got: impl std::fmt::Display) -> Error {
    Error::invalid(format!("saved state, field {field}: expected {expected}, got {got}"))
}

/// A float that is serialised by its 64 bits, as 16 hexadecimal digits. Infinities, NaN and the
/// sign of zero are preserved.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bits(pub f64);

impl Bits {
    /// Wraps a list of floats.
    pub fn all(floats: &[f64]) -> Vec<Self> {
        floats.iter().copied().map(Self).collect()
    }

    /// Unwraps a list of floats.
    pub fn floats(bits: &[Self]) -> Vec<f64> {
        bits.iter().map(|bits| bits.0).collect()
    }
}

impl Serialize for Bits {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:016x}", self.0.to_bits()))
    }
}

impl<'de> Deserialize<'de> for Bits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let is_written = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        match u64::from_str_radix(&text, 16) {
            Ok(bits) if is_written => Ok(Self(f64::from_bits(bits))),
            _ => Err(D::Error::invalid_value(Unexpected::Str(&text), &"16 hexadecimal digits")),
        }
    }
}

/// Answers [`STATE`] for a strategy. To be called from its method `extension`.
///
/// # Errors
/// `Unsupported` for any other id, `Invalid` for a state of another strategy, and the errors of
/// [`State`].
pub fn answer(
    strategy: &str,
    object: &mut impl State,
    id: &str,
    message: Message,
) -> Result<Message> {
    if id != STATE {
        return Err(Error::unsupported(format!("{strategy} has no extension {id}")));
    }
    let question = serde_json::from_str(&message.document);
    match question.map_err(|e| Error::invalid(format!("{STATE} of {strategy}: {e}")))? {
        StateQuestion::Save => saved_message(strategy, object.save()?),
        StateQuestion::Load(document) => {
            if document.strategy != strategy {
                return Err(misfit("strategy", strategy, document.strategy));
            }
            let (named, given) = (document.tensors.len(), message.tensors.len());
            if named != given {
                return Err(misfit("tensors", format!("{named} that are named"), given));
            }
            let tensors = document.tensors.into_iter().zip(message.tensors).collect();
            let mut saved = Saved { fields: document.fields, tensors };
            object.load(&mut saved)?;
            saved.is_taken()?;
            Ok(Message::default())
        }
    }
}

fn saved_message(strategy: &str, saved: Saved) -> Result<Message> {
    let (names, tensors) = saved.tensors.into_iter().unzip();
    let document =
        StateDocument { strategy: strategy.into(), tensors: names, fields: saved.fields };
    Ok(Message { document: written(&document)?, tensors })
}

/// Saves an object's state. The document of the returned message is a [`StateDocument`].
///
/// `extension` is the object's method of that name.
///
/// # Errors
/// The error of the object; `Failed` if its document names another number of tensors than came.
pub fn save(mut extension: impl FnMut(&str, Message) -> Result<Message>) -> Result<Message> {
    let document = written(&StateQuestion::Save)?;
    let answer = extension(STATE, Message { document, tensors: Vec::new() })?;
    let (named, given) = (read(&answer.document)?.tensors.len(), answer.tensors.len());
    if named != given {
        return Err(Error::failed(format!("{STATE}: {named} tensors are named, {given} came")));
    }
    Ok(answer)
}

/// Loads a state that [`save`] returned into an object.
///
/// `extension` is the object's method of that name.
///
/// # Errors
/// The error of the object; `Failed` if the document is not a [`StateDocument`].
pub fn load(
    saved: Message,
    mut extension: impl FnMut(&str, Message) -> Result<Message>,
) -> Result<()> {
    let document = written(&StateQuestion::Load(read(&saved.document)?))?;
    extension(STATE, Message { document, tensors: saved.tensors }).map(|_| ())
}

fn read(document: &str) -> Result<StateDocument> {
    serde_json::from_str(document).map_err(|e| Error::failed(format!("{STATE}: {e}")))
}

fn written(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::failed(format!("{STATE}: {e}")))
}

#[cfg(test)]
mod tests;
