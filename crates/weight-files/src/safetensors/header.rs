//! The header of a safetensors file, read from its JSON without an intermediate tree: what is made
//! of it takes a few times its bytes, whatever it says.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};

use super::dtype;
use crate::encoding::Encoding;

/// The key that is no tensor.
const METADATA: &str = "__metadata__";

/// Most words that are kept.
const WORDS_MAX: usize = 1 << 16;

/// Most axes of a tensor.
const AXES_MAX: usize = 32;

/// What a header says.
#[derive(Debug, Default)]
pub(super) struct Header {
    pub(super) words: BTreeMap<String, String>,
    pub(super) entries: Vec<Entry>,
}

/// What it says of one tensor.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) encoding: Encoding,
    /// The first byte, and the one behind the last, counted from the end of the header.
    pub(super) bytes: (u64, u64),
}

#[derive(Deserialize)]
struct Description {
    dtype: String,
    #[serde(deserialize_with = "shape")]
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Entries)
    }
}

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("tensors by their names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let (mut header, mut has_words) = (Header::default(), false);
        while let Some(name) = map.next_key::<String>()? {
            if name != METADATA {
                header.entries.push(entry(name, &mut map)?);
            } else if has_words {
                return Err(A::Error::custom(format!("`{METADATA}` is there twice")));
            } else {
                header.words = map.next_value_seed(Words)?;
                has_words = true;
            }
        }
        Ok(header)
    }
}

fn entry<'de, A: MapAccess<'de>>(name: String, map: &mut A) -> Result<Entry, A::Error> {
    let of = |reason: &dyn fmt::Display| A::Error::custom(format!("tensor `{name}`: {reason}"));
    let description = map.next_value::<Description>().map_err(|e| of(&e))?;
    let Description { dtype, shape, data_offsets } = description;
    let Some(encoding) = dtype::encoding(&dtype) else {
        return Err(of(&format!("the dtype `{dtype}` is not known")));
    };
    Ok(Entry { name, shape, encoding, bytes: data_offsets })
}

/// Reads texts by their keys, or null.
struct Words;

impl<'de> DeserializeSeed<'de> for Words {
    type Value = BTreeMap<String, String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Words {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "texts by their keys in `{METADATA}`")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(BTreeMap::new())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut words = BTreeMap::new();
        while let Some((key, text)) = map.next_entry()? {
            words.insert(key, text);
            if words.len() > WORDS_MAX {
                let reason = format!("`{METADATA}` has more than {WORDS_MAX} keys");
                return Err(A::Error::custom(reason));
            }
        }
        Ok(words)
    }
}

fn shape<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<usize>, D::Error> {
    struct Axes;

    impl<'de> Visitor<'de> for Axes {
        type Value = Vec<usize>;

        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("a shape: a list of numbers of elements")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut axes: A) -> Result<Vec<usize>, A::Error> {
            let mut shape = Vec::new();
            while shape.len() < AXES_MAX {
                let Some(axis) = axes.next_element()? else { return Ok(shape) };
                shape.push(axis);
            }
            match axes.next_element::<IgnoredAny>()? {
                None => Ok(shape),
                Some(_) => Err(A::Error::custom(format!("more than {AXES_MAX} axes"))),
            }
        }
    }

    deserializer.deserialize_seq(Axes)
}
