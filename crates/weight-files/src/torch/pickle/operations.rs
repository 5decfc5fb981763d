//! The operations of a pickle: a stack of values, marks on it, and numbered values (the memo).

use std::collections::BTreeMap;

use crate::torch::pickle::calls;
use crate::torch::pickle::globals::Global;
use crate::torch::pickle::objects::{DictEntry, Objects, Value};
use crate::torch::pickle::stream::Stream;

/// Most operations. A 14B model's pickle has 30,000.
const OPERATIONS_MAX: u64 = 10_000_000;

/// Highest stack, and most marks on it.
const STACK_MAX: usize = 1 << 20;

/// Most numbered values.
const MEMO_MAX: usize = 4 << 20;

/// The protocol that `torch.save` writes.
const PROTOCOL: u8 = 2;

/// Characters of a name that a message quotes.
const QUOTED_MAX: usize = 80;

/// A pickle that is being read.
pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    stream: Stream<'a>,
    stack: Vec<Value>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: BTreeMap<u32, Value>,
    objects: Objects,
}

impl<'a> Machine<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            stream: Stream::new(bytes),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: BTreeMap::new(),
            objects: Objects::default(),
        }
    }

    /// Reads all of it.
    ///
    /// # Errors
    /// With the reason and the place, if it is no pickle of tensors.
    pub(super) fn run(mut self) -> Result<(Objects, Value), String> {
        for _ in 0..OPERATIONS_MAX {
            let at = self.stream.at();
            let operation = self.stream.byte()?;
            let told = |reason| format!("{reason} (operation {operation:#04x} at byte {at})");
            if operation == b'.' {
                let top = self.pop().map_err(told)?;
                if !self.stack.is_empty() || !self.marks.is_empty() || !self.stream.is_at_end() {
                    return Err("it goes on after its end, or leaves values behind".to_owned());
                }
                return Ok((self.objects, top));
            }
            self.step(operation).map_err(told)?;
            if self.stack.len() > STACK_MAX || self.marks.len() > STACK_MAX {
                return Err(format!("its stack has more than {STACK_MAX} values"));
            }
        }
        Err(format!("more than {OPERATIONS_MAX} operations"))
    }

    fn step(&mut self, operation: u8) -> Result<(), String> {
        let value = match operation {
            0x80 => return self.protocol(),
            b'(' => {
                self.marks.push(self.stack.len());
                return Ok(());
            }
            b'q' => {
                let number = u32::from(self.stream.byte()?);
                return self.remember(number);
            }
            b'r' => {
                let number = u32::from_le_bytes(self.stream.array()?);
                return self.remember(number);
            }
            b's' | b'u' | b'a' | b'e' => return self.fill(operation),
            b'b' => return self.build(),
            b'h' => {
                let number = u32::from(self.stream.byte()?);
                self.remembered(number)?
            }
            b'j' => {
                let number = u32::from_le_bytes(self.stream.array()?);
                self.remembered(number)?
            }
            b'c' => Value::Global(self.global()?),
            b'R' => self.call()?,
            b'Q' => {
                let id = self.pop()?;
                calls::storage(self.bytes, &mut self.objects, id)?
            }
            b')' | b't' | 0x85..=0x87 => self.tuple(operation)?,
            b'}' => self.objects.new_dict(),
            b']' => Value::List,
            _ => self.constant(operation)?,
        };
        self.stack.push(value);
        Ok(())
    }

    /// A value that stands in the pickle itself.
    fn constant(&mut self, operation: u8) -> Result<Value, String> {
        Ok(match operation {
            b'X' => {
                let length = u32::from_le_bytes(self.stream.array()?);
                Value::Text(self.stream.text(length)?)
            }
            b'J' => Value::Integer(i32::from_le_bytes(self.stream.array()?).into()),
            b'K' => Value::Integer(self.stream.byte()?.into()),
            b'M' => Value::Integer(u16::from_le_bytes(self.stream.array()?).into()),
            0x8a => Value::Integer(self.long()?),
            0x88 | 0x89 => Value::Bool,
            b'N' => Value::None,
            b'G' => {
                self.stream.array::<8>()?;
                Value::Float
            }
            _ => return Err("torch.save writes no such operation for tensors".to_owned()),
        })
    }

    fn protocol(&mut self) -> Result<(), String> {
        let protocol = self.stream.byte()?;
        if protocol == PROTOCOL {
            return Ok(());
        }
        Err(format!(
            "a pickle of protocol {protocol}, {PROTOCOL} is read, what torch.save writes if it is \
             given none"
        ))
    }

    /// A number of at most 8 bytes.
    fn long(&mut self) -> Result<i64, String> {
        let length = usize::from(self.stream.byte()?);
        if length > 8 {
            return Err(format!("a number of {length} bytes, at most 8 are read"));
        }
        let bytes = self.stream.take(length)?;
        let is_negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut number = [if is_negative { 0xff } else { 0 }; 8];
        number[..length].copy_from_slice(bytes);
        Ok(i64::from_le_bytes(number))
    }

    fn global(&mut self) -> Result<Global, String> {
        let (module, name) = (self.stream.line()?, self.stream.line()?);
        Global::find(module, name).ok_or_else(|| {
            let quoted = |text: &str| -> String { text.escape_debug().take(QUOTED_MAX).collect() };
            format!(
                "{}.{}: this file would run a program; only tensors are read. If you trust it, \
                 load it in torch and save the dict of tensors alone",
                quoted(module),
                quoted(name)
            )
        })
    }

    fn call(&mut self) -> Result<Value, String> {
        let (arguments, callee) = (self.pop()?, self.pop()?);
        let (Value::Tuple(arguments), Value::Global(callee)) = (arguments, callee) else {
            return Err("a call of what cannot be called".to_owned());
        };
        calls::call(&mut self.objects, callee, arguments)
    }

    fn tuple(&mut self, operation: u8) -> Result<Value, String> {
        let start = match operation {
            b')' => self.stack.len(),
            b't' => self.marks.pop().ok_or("a tuple without a mark")?,
            _ => {
                let count = usize::from(operation - 0x84);
                let start = self.stack.len().checked_sub(count);
                start.filter(|start| *start >= self.floor()).ok_or("a tuple of too few values")?
            }
        };
        let tuple = self.objects.new_tuple(&self.stack[start..]);
        self.stack.truncate(start);
        tuple
    }

    /// Puts values into a dict or a list that lies below them.
    fn fill(&mut self, operation: u8) -> Result<(), String> {
        let start = match operation {
            b's' => self.stack.len().checked_sub(2),
            b'a' => self.stack.len().checked_sub(1),
            _ => Some(self.marks.pop().ok_or("items without a mark")?),
        };
        let start = start.filter(|start| *start > self.floor()).ok_or("items of nothing")?;
        let values = &self.stack[start..];
        match (self.stack[start - 1], operation) {
            (Value::List, b'a' | b'e') => {}
            (Value::Dict(dict), b's' | b'u') => {
                let (pairs, rest) = values.as_chunks::<2>();
                if !rest.is_empty() {
                    return Err("a key without a value".to_owned());
                }
                for [key, value] in pairs {
                    self.objects.set(DictEntry { dict, key: *key, value: *value })?;
                }
            }
            _ => return Err("items of what holds none".to_owned()),
        }
        self.stack.truncate(start);
        Ok(())
    }

    /// What a module says of itself (`_metadata`) is put on its dict, and is not needed.
    fn build(&mut self) -> Result<(), String> {
        let state = self.pop()?;
        let built = self.pop()?;
        let (Value::Dict(_), Value::Dict(_)) = (state, built) else {
            return Err("a state that is put on something else than a dict".to_owned());
        };
        self.stack.push(built);
        Ok(())
    }

    fn remember(&mut self, number: u32) -> Result<(), String> {
        let top = self.stack.last().filter(|_| self.stack.len() > self.floor());
        let top = *top.ok_or("nothing to number")?;
        self.memo.insert(number, top);
        if self.memo.len() > MEMO_MAX {
            return Err(format!("more than {MEMO_MAX} numbered values"));
        }
        Ok(())
    }

    fn remembered(&self, number: u32) -> Result<Value, String> {
        self.memo.get(&number).copied().ok_or_else(|| format!("there is no value number {number}"))
    }

    fn pop(&mut self) -> Result<Value, String> {
        if self.stack.len() <= self.floor() {
            return Err("a value is missing".to_owned());
        }
        self.stack.pop().ok_or_else(|| "a value is missing".to_owned())
    }

    /// What lies below the last mark is out of reach.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }
}
