//! The file: written evaluation by evaluation, read tensor by tensor.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use safetensors::{Dtype, View};
use serde_json::json;
use wan_border::files;
use wan_host::{Error, Result};
use wan_model::weights::{WeightFile, read_tensor};
use wan_outputs::Claim;

use super::{Contents, METADATA, SCHEMA, checks};

/// Collects tensors in a file without a name, so that a long run needs no memory for them.
pub(super) struct Writer {
    claim: Claim,
    data: File,
    written: u64,
    header: BTreeMap<String, serde_json::Value>,
}

impl Writer {
    pub(super) fn create(claim: Claim) -> Result<Self> {
        let data = claim.scratch().map_err(Error::io(claim.path()))?;
        Ok(Self { claim, data, written: 0, header: BTreeMap::new() })
    }

    pub(super) fn put(&mut self, name: &str, tensor: &Tensor) -> Result<()> {
        let tensor = tensor.contiguous()?;
        let view = &tensor;
        let bytes = View::data(&view);
        self.data.write_all(&bytes).map_err(Error::io(self.claim.path()))?;
        let end = self.written + bytes.len() as u64;
        let dtype: Dtype = View::dtype(&view);
        let entry = json!({
            "dtype": dtype, "shape": tensor.dims(), "data_offsets": [self.written, end],
        });
        self.header.insert(name.into(), entry);
        self.written = end;
        Ok(())
    }

    /// Writes header and data under the final name.
    pub(super) fn finish(mut self, contents: &Contents) -> Result<u64> {
        let contents =
            serde_json::to_string(contents).map_err(|e| Error::invalid(e.to_string()))?;
        self.header.insert("__metadata__".into(), json!({ METADATA: contents }));
        let mut header =
            serde_json::to_vec(&self.header).map_err(|e| Error::invalid(e.to_string()))?;
        // The format wants the data aligned to 8 bytes.
        header.resize(header.len().next_multiple_of(8), b' ');
        let path = self.claim.path().to_path_buf();
        self.assemble(&header).map_err(Error::io(&path))?;
        self.claim.keep()?;
        Ok(8 + header.len() as u64 + self.written)
    }

    /// Length of the header, header, data.
    fn assemble(&mut self, header: &[u8]) -> std::io::Result<()> {
        let whole = self.claim.file();
        whole.write_all(&(header.len() as u64).to_le_bytes())?;
        whole.write_all(header)?;
        self.data.rewind()?;
        std::io::copy(&mut self.data, whole)?;
        Ok(())
    }
}

/// A recording, its tensors read when they are asked for.
pub struct Recording {
    path: PathBuf,
    file: WeightFile,
    contents: Contents,
}

impl Recording {
    /// Opens a recording.
    ///
    /// # Errors
    /// If it is missing, truncated, of another program or of another schema.
    pub fn open(path: &Path) -> Result<Self> {
        let wrong = |why: String| Error::invalid(format!("{}: {why}", path.display()));
        // In the format of weights, and no file of the model.
        let file = WeightFile::open(path).map_err(|error| Error::invalid(error.to_string()))?;
        let contents = file.metadata().get(METADATA);
        let contents =
            contents.ok_or_else(|| wrong("not a recording of `wan cache record`".into()))?;
        let contents: Contents =
            files::parse_json(contents).map_err(|said| wrong(format!("its contents: {said}")))?;
        if contents.schema != SCHEMA {
            return Err(wrong(format!("schema {}, this program reads {SCHEMA}", contents.schema)));
        }
        checks::check(&contents, &file).map_err(wrong)?;
        Ok(Self { path: path.into(), file, contents })
    }

    /// Whether a file is a recording, of whatever schema.
    pub fn is_one(path: &Path) -> bool {
        WeightFile::open(path).is_ok_and(|file| file.metadata().contains_key(METADATA))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it holds.
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// A tensor of evaluation `number`.
    ///
    /// # Errors
    /// If it was not recorded.
    pub fn tensor(&self, number: usize, name: &str) -> Result<Tensor> {
        let name = format!("{number:04}.{name}");
        let number = self.file.find(&name).ok_or_else(|| {
            Error::invalid(format!("{}: {name} was not recorded", self.path.display()))
        })?;
        Ok(read_tensor(&self.file, number)?)
    }
}
