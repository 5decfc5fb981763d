//! What a pickle makes: values that are copied, and lists of what they hold that only grow.
//!
//! Nothing owns another value, so nothing is copied in depth, and letting go of all of it is
//! letting go of a few lists.

use std::ops::Range;

use crate::encoding::Encoding;
use crate::torch::pickle::globals::Global;

/// Most items of all tuples.
const TUPLE_ITEMS_MAX: usize = 4 << 20;

/// Most tensors, most storages that are named, and most entries of all dicts.
const OBJECTS_MAX: usize = 1 << 20;

/// A value of a pickle. Its parts lie in [`Objects`].
#[derive(Debug, Clone, Copy)]
pub(in crate::torch) enum Value {
    None,
    Bool,
    Integer(i64),
    Float,
    /// Bytes of the pickle that are UTF-8.
    Text(Span),
    Global(Global),
    /// Items of [`Objects`].
    Tuple(Span),
    /// Its items are not kept: no tensor of a state dict is in a list.
    List,
    Dict(u32),
    Storage(u32),
    Tensor(u32),
}

/// A piece of a list.
#[derive(Debug, Clone, Copy)]
pub(in crate::torch) struct Span {
    start: u32,
    length: u32,
}

impl Span {
    /// None where a pickle would be longer than the longest that is read.
    pub(super) fn new(range: Range<usize>) -> Option<Self> {
        let length = u32::try_from(range.end.checked_sub(range.start)?).ok()?;
        Some(Self { start: u32::try_from(range.start).ok()?, length })
    }

    pub(super) fn range(self) -> Range<usize> {
        self.start as usize..self.start as usize + self.length as usize
    }
}

/// A storage as a pickle names it.
#[derive(Debug, Clone, Copy)]
pub(in crate::torch) struct Storage {
    /// None where it is of bytes.
    pub(in crate::torch) encoding: Option<Encoding>,
    pub(in crate::torch) key: Span,
    /// Its numbers, or bytes.
    pub(in crate::torch) elements: i64,
}

/// A tensor as a pickle describes it: a view of a storage. Nothing of it is checked yet.
#[derive(Debug, Clone, Copy)]
pub(in crate::torch) struct Tensor {
    pub(in crate::torch) storage: u32,
    /// Its number format, where its storage is of bytes.
    pub(in crate::torch) encoding: Option<Encoding>,
    /// Its first number.
    pub(in crate::torch) offset: i64,
    pub(in crate::torch) sizes: Span,
    pub(in crate::torch) strides: Span,
}

/// An entry of a dict.
#[derive(Debug, Clone, Copy)]
pub(in crate::torch) struct DictEntry {
    pub(in crate::torch) dict: u32,
    pub(in crate::torch) key: Value,
    pub(in crate::torch) value: Value,
}

/// What the values of a pickle hold.
#[derive(Default)]
pub(in crate::torch) struct Objects {
    items: Vec<Value>,
    dicts: u32,
    pub(in crate::torch) entries: Vec<DictEntry>,
    pub(in crate::torch) storages: Vec<Storage>,
    pub(in crate::torch) tensors: Vec<Tensor>,
}

impl Objects {
    pub(super) fn new_tuple(&mut self, items: &[Value]) -> Result<Value, String> {
        let start = self.items.len();
        let end = start + items.len();
        if end > TUPLE_ITEMS_MAX {
            return Err(format!("its tuples have more than {TUPLE_ITEMS_MAX} items"));
        }
        self.items.extend_from_slice(items);
        Span::new(start..end).map(Value::Tuple).ok_or_else(|| "its tuples are too long".to_owned())
    }

    pub(super) fn new_dict(&mut self) -> Value {
        let dict = self.dicts;
        self.dicts = self.dicts.saturating_add(1);
        Value::Dict(dict)
    }

    pub(super) fn set(&mut self, entry: DictEntry) -> Result<(), String> {
        push(&mut self.entries, entry, "entries of dicts").map(drop)
    }

    pub(super) fn new_storage(&mut self, storage: Storage) -> Result<Value, String> {
        push(&mut self.storages, storage, "storages").map(Value::Storage)
    }

    pub(super) fn new_tensor(&mut self, tensor: Tensor) -> Result<Value, String> {
        push(&mut self.tensors, tensor, "tensors").map(Value::Tensor)
    }

    /// The items of a tuple.
    pub(in crate::torch) fn items(&self, tuple: Span) -> &[Value] {
        self.items.get(tuple.range()).unwrap_or_default()
    }
}

fn push<T>(list: &mut Vec<T>, object: T, what: &str) -> Result<u32, String> {
    if list.len() >= OBJECTS_MAX {
        return Err(format!("more than {OBJECTS_MAX} {what}"));
    }
    let number = u32::try_from(list.len()).map_err(|_| format!("too many {what}"))?;
    list.push(object);
    Ok(number)
}
