//! One weight file, whatever its format.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use crate::container::{Container, Reader};
use crate::error::{Error, Result};
use crate::file_bytes::{Description, FileBytes};
use crate::tensor_info::TensorInfo;
use crate::{first_bytes, gguf, safetensors, torch};

/// All readers of formats.
const READERS: &[Reader] = &[gguf::READER, safetensors::READER, torch::READER];

/// Bytes by which a format is recognised.
const FIRST: u64 = 512;

/// An open weight file.
pub struct WeightFile {
    file: FileBytes,
    format: &'static str,
    container: Box<dyn Container>,
    description: Description,
}

impl WeightFile {
    /// Recognises the format by the first bytes, and reads what describes the tensors.
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be opened, [`Error::Malformed`] if it is of no format that
    /// is read (the error says of which it is), is cut short, or contradicts itself.
    pub fn open(path: &Path) -> Result<Self> {
        let file = FileBytes::open(path)?;
        let first = file.first(FIRST)?;
        let reader = READERS.iter().find(|reader| (reader.recognises)(&first, file.length()));
        let Some(reader) = reader else {
            return Err(file.malformed(first_bytes::what_it_is(&first, file.length(), path)));
        };
        let container = (reader.open)(&file)?;
        let description = file.described();
        Ok(Self { file, format: reader.name, container, description })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Name of its format: `safetensors`, `GGUF`, `torch`.
    pub fn format(&self) -> &'static str {
        self.format
    }

    /// The tensors, in the order of the file.
    pub fn tensors(&self) -> &[TensorInfo] {
        self.container.tensors()
    }

    /// The number of the tensor of this name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.tensors().iter().position(|info| info.name == name)
    }

    /// What else the file says of itself, as text: GGUF's fields, the words in a safetensors header.
    /// Lists are left out.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        self.container.metadata()
    }

    /// The bytes of tensor `number`, in row-major order.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, [`Error::Malformed`] if it contradicts what
    /// describes it.
    pub fn read(&self, number: usize) -> Result<Vec<u8>> {
        self.read_part(number, 0..self.tensors()[number].bytes())
    }

    /// Bytes `range` of tensor `number`, counted from its first number.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_part(&self, number: usize, range: Range<u64>) -> Result<Vec<u8>> {
        self.container.read(&self.file, number, range)
    }

    /// Bytes of the whole file, as it was opened.
    pub fn length(&self) -> u64 {
        self.file.length()
    }

    /// At most `count` bytes of the file from byte `start` on, whatever they are.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read.
    pub fn bytes_at(&self, start: u64, count: u64) -> Result<Vec<u8>> {
        self.file.at_most(start, count)
    }

    /// Compares its length, and what describes its tensors, with what it was when it was opened.
    ///
    /// # Errors
    /// [`Error::Changed`] if they differ, [`Error::Io`] if the file cannot be read.
    pub fn check_unchanged(&self) -> Result<()> {
        let path = || self.path().to_owned();
        let (then, now) = (self.length(), self.file.length_now()?);
        if then != now {
            let difference = format!("{then} bytes then, {now} now");
            return Err(Error::Changed { path: path(), difference });
        }
        if !self.file.is_described(&self.description)? {
            return Err(Error::Changed { path: path(), difference: "another header".to_owned() });
        }
        Ok(())
    }

    /// Its path, if it was written to since it was opened; what it holds may be the same all the
    /// same.
    ///
    /// # Errors
    /// [`Error::Io`] if the system does not say.
    pub fn written_to(&self) -> Result<Option<&Path>> {
        Ok(self.file.is_written_to()?.then_some(self.path()))
    }
}
