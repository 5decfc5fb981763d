//! The extension [`STATE`]: a strategy's state between two evaluations, to go on from in another
//! process.
//!
//! The host saves a sampler between two rounds, and a cache between two evaluations. Later it makes
//! a **fresh object of the same options** with `new`, loads the state into it, and all that follows
//! must have the bits that it would have had. A strategy that does not list the extension runs as
//! ever, and is begun again where a run goes on.
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
//! What to save: counters, sums and tensors that later calls depend on. What not: what `new` makes
//! of options, request and context, and what a call makes for itself. A handle that two fields share
//! is two tensors after a load, and counted twice; save it once where that matters.

use serde::de::{DeserializeOwned, Error as _, Unexpected};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::extensions::STATE;
use crate::{Error, Message, Result, Tensor};

/// Question of [`STATE`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateQuestion {
    /// Comes without tensors. The answer is a [`StateDocument`] and its tensors; it changes nothing.
    Save,
    /// Comes with the document and the tensors of an earlier answer, to an object that was made
    /// with the same options, and request or context, and was asked nothing else. The answer is an
    /// empty document without tensors. After an error the object is not used.
    Load(StateDocument),
}

/// Answer of [`STATE`] to [`StateQuestion::Save`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StateDocument {
    /// Id of the strategy.
    pub strategy: String,
    /// What each tensor of the message is, in their order; several may be the same.
    pub tensors: Vec<String>,
    /// All else, as the strategy calls it.
    pub fields: Map<String, Value>,
}

/// A strategy whose state can be saved.
pub trait State {
    /// All that later calls depend on, but for what `new` makes.
    ///
    /// # Errors
    /// If a value cannot be written.
    fn save(&self) -> Result<Saved>;

    /// Takes over what [`save`](Self::save) gave, into an object that `new` has just made.
    ///
    /// # Errors
    /// `Invalid` for a state that is not of this strategy and these options. What is not taken of
    /// `saved` is such an error as well; [`answer`] sees to that.
    fn load(&mut self, saved: &mut Saved) -> Result<()>;
}

/// A state: named values, and named tensors.
#[derive(Debug, Default)]
pub struct Saved {
    fields: Map<String, Value>,
    tensors: Vec<(String, Tensor)>,
}

impl Saved {
    /// Adds a value. A float goes in as [`Bits`]: as a number of JSON, infinities and NaN are lost.
    ///
    /// # Errors
    /// `Failed` if it cannot be written.
    pub fn put(&mut self, field: &str, value: impl Serialize) -> Result<()> {
        let value = serde_json::to_value(value)
            .map_err(|e| Error::failed(format!("state, field {field}: {e}")))?;
        self.fields.insert(field.into(), value);
        Ok(())
    }

    /// Adds tensors of one name, in their order: an `&Option<Tensor>`, or any number.
    pub fn put_tensors<'a>(&mut self, name: &str, tensors: impl IntoIterator<Item = &'a Tensor>) {
        self.tensors.extend(tensors.into_iter().map(|tensor| (name.into(), tensor.clone())));
    }

    /// Takes a value out.
    ///
    /// # Errors
    /// `Invalid` if it is missing, or is something else.
    pub fn take<T: DeserializeOwned>(&mut self, field: &str) -> Result<T> {
        let value = self.fields.remove(field).ok_or_else(|| misfit(field, "a value", "none"))?;
        serde_json::from_value(value)
            .map_err(|e| Error::invalid(format!("saved state, field {field}: {e}")))
    }

    /// Takes the tensor of this name out, if there is one.
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

    /// Takes all tensors of this name out, in the order in which they were put in.
    pub fn take_tensors(&mut self, name: &str) -> Vec<Tensor> {
        let (taken, left) =
            std::mem::take(&mut self.tensors).into_iter().partition(|t| t.0 == name);
        self.tensors = left;
        let taken: Vec<(String, Tensor)> = taken;
        taken.into_iter().map(|(_, tensor)| tensor).collect()
    }

    /// Whether all of it was taken.
    fn is_taken(&self) -> Result<()> {
        let fields = self.fields.keys();
        match fields.chain(self.tensors.iter().map(|(name, _)| name)).next() {
            Some(left) => Err(misfit(left, "nothing of this name", "it")),
            None => Ok(()),
        }
    }
}

/// The error of a state that does not fit: the facts, in one form.
pub fn misfit(field: &str, expected: impl std::fmt::Display, got: impl std::fmt::Display) -> Error {
    Error::invalid(format!("saved state, field {field}: expected {expected}, got {got}"))
}

/// A float that is written as its 64 bits, in 16 hexadecimal digits: infinities, NaN and the sign of
/// zero come back as they were.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bits(pub f64);

impl Bits {
    /// Many of them.
    pub fn all(floats: &[f64]) -> Vec<Self> {
        floats.iter().copied().map(Self).collect()
    }

    /// And back.
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

/// A strategy's answer to [`STATE`], for its method `extension`.
///
/// # Errors
/// `Unsupported` for any other id, `Invalid` for a state that is not of this strategy, and what its
/// [`State`] says.
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

/// Asks an object for its state: the document is that of a [`StateDocument`].
///
/// `extension` is the object's method of that name.
///
/// # Errors
/// What the object says, and `Failed` for a document that names another number of tensors than came.
pub fn save(mut extension: impl FnMut(&str, Message) -> Result<Message>) -> Result<Message> {
    let document = written(&StateQuestion::Save)?;
    let answer = extension(STATE, Message { document, tensors: Vec::new() })?;
    let (named, given) = (read(&answer.document)?.tensors.len(), answer.tensors.len());
    match named == given {
        true => Ok(answer),
        false => Err(Error::failed(format!("{STATE}: {named} tensors are named, {given} came"))),
    }
}

/// Hands an object the state that [`save`] gave.
///
/// `extension` is the object's method of that name.
///
/// # Errors
/// What the object says, and `Failed` for a document that is none.
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
