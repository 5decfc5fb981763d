//! Checkpoint files to a `VarBuilder`, one tensor at a time.
//!
//! candle's memory-mapped loader is `unsafe` and its buffered one keeps the whole file beside
//! the tensors. Here the header is read once, the length of the file is checked against it, and
//! each tensor is read from its place when a layer asks for it, so the peak is one tensor above
//! the model. Tensor names are the file's own (diffusers, transformers).

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::VarBuilder;
use candle_nn::var_builder::SimpleBackend;
use safetensors::tensor::{Metadata, TensorInfo};

use crate::error::{Error, Result};

/// Opens safetensors files as one set of weights. Every float tensor is converted to `dtype`
/// when it is read (half-precision files are widened for f32). A name prefix such as
/// `transformer.` is stripped with [`VarBuilder::pp`].
pub fn open(paths: &[PathBuf], dtype: DType, device: &Device) -> Result<VarBuilder<'static>> {
    let weights = Weights::open(paths)?;
    Ok(VarBuilder::from_backend(Box::new(weights), dtype, device.clone()))
}

/// Open safetensors files and where each tensor lies in them.
pub struct Weights {
    files: Vec<WeightFile>,
    /// Tensor name to the file's position and the tensor's entry in its header.
    tensors: HashMap<String, (usize, TensorInfo)>,
}

struct WeightFile {
    path: PathBuf,
    file: Mutex<File>,
    /// Offset of the first tensor byte: 8 bytes of header length, then the header.
    body: u64,
}

impl Weights {
    /// Reads the headers of `paths` and checks that the files are as long as they say.
    pub fn open(paths: &[PathBuf]) -> Result<Self> {
        let mut weights = Self { files: Vec::new(), tensors: HashMap::new() };
        for path in paths {
            let (file, header) = WeightFile::open(path)?;
            for (name, tensor) in header.tensors() {
                weights.tensors.insert(name, (weights.files.len(), tensor.clone()));
            }
            weights.files.push(file);
        }
        Ok(weights)
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.tensors.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// Shape of a tensor as the file has it.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|(_, tensor)| tensor.shape.as_slice())
    }

    fn find(&self, name: &str) -> Result<(&WeightFile, &TensorInfo)> {
        match self.tensors.get(name) {
            Some((file, tensor)) => Ok((&self.files[*file], tensor)),
            None => {
                let paths: Vec<_> =
                    self.files.iter().map(|file| file.path.display().to_string()).collect();
                Err(Error::MissingTensor { origin: paths.join(", "), name: name.to_owned() })
            }
        }
    }

    fn read(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        let (file, tensor) = self.find(name)?;
        let stored = DType::try_from(tensor.dtype).map_err(Error::from)?;
        let bytes = file.read(tensor)?;
        let read = Tensor::from_raw_buffer(&bytes, stored, &tensor.shape, device)?;
        Ok(read.to_dtype(dtype)?)
    }
}

impl WeightFile {
    fn open(path: &Path) -> Result<(Self, Metadata)> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        let malformed = |reason| Error::MalformedFile { path: path.to_owned(), reason };
        let mut file = File::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        if length < 8 {
            return Err(malformed(format!("{length} bytes are too few for a safetensors file")));
        }
        let mut prefix = [0; 8];
        file.read_exact(&mut prefix).map_err(io)?;
        let header_length = u64::from_le_bytes(prefix);
        if header_length > length - 8 {
            return Err(malformed(format!(
                "the safetensors header should have {header_length} bytes, the file has {length}: \
                 cut short, or another format"
            )));
        }
        let mut header = vec![0; header_length as usize];
        file.read_exact(&mut header).map_err(io)?;
        let header: Metadata = serde_json::from_slice(&header)
            .map_err(|e| malformed(format!("the safetensors header cannot be read: {e}")))?;
        let body = 8 + header_length;
        let expected = body + header.data_len() as u64;
        if length < expected {
            return Err(malformed(format!(
                "cut short: the header describes {expected} bytes, the file has {length}"
            )));
        }
        Ok((Self { path: path.to_owned(), file: Mutex::new(file), body }, header))
    }

    fn read(&self, tensor: &TensorInfo) -> Result<Vec<u8>> {
        let io = |source| Error::Io { path: self.path.clone(), source };
        let (start, end) = tensor.data_offsets;
        let mut bytes = vec![0; end - start];
        // A poisoned lock is harmless: the position is set before every read.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.body + start as u64)).map_err(io)?;
        file.read_exact(&mut bytes).map_err(io)?;
        Ok(bytes)
    }
}

impl SimpleBackend for Weights {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: candle_nn::Init,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let (file, tensor) = self.find(name).map_err(Error::through_candle)?;
        if tensor.shape != shape.dims() {
            let wrong = Error::WrongShape {
                origin: file.path.display().to_string(),
                name: name.to_owned(),
                expected: shape.into_dims(),
                found: tensor.shape.clone(),
            };
            return Err(wrong.through_candle());
        }
        self.read(name, dtype, device).map_err(Error::through_candle)
    }

    fn get_unchecked(
        &self,
        name: &str,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        self.read(name, dtype, device).map_err(Error::through_candle)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn save(folder: &tempfile::TempDir) -> PathBuf {
        let path = folder.path().join("weights.safetensors");
        let weight = Tensor::arange(0f32, 6., &Device::Cpu).unwrap().reshape((2, 3)).unwrap();
        let halved = weight.to_dtype(DType::F16).unwrap();
        candle_core::safetensors::save(
            &HashMap::from([("part.full.weight", weight), ("part.half.weight", halved)]),
            &path,
        )
        .unwrap();
        path
    }

    #[test]
    fn tensors_come_under_a_stripped_prefix_and_half_is_widened() {
        let folder = tempfile::tempdir().unwrap();
        let path = save(&folder);
        let vb = open(&[path], DType::F32, &Device::Cpu).unwrap().pp("part");
        let full = vb.get((2, 3), "full.weight").unwrap();
        let half = vb.get((2, 3), "half.weight").unwrap();
        assert_eq!(half.dtype(), DType::F32);
        assert_eq!(full.to_vec2::<f32>().unwrap(), half.to_vec2::<f32>().unwrap());
        assert_eq!(full.to_vec2::<f32>().unwrap()[1], [3., 4., 5.]);
    }

    #[test]
    fn a_truncated_file_says_so_and_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = save(&folder);
        let bytes = std::fs::read(&path).unwrap();
        for length in [0, 5, 20, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let error = Weights::open(std::slice::from_ref(&path)).err().unwrap().to_string();
            assert!(error.contains("weights.safetensors"), "{length}: {error}");
            assert!(error.contains(&length.to_string()), "{length}: {error}");
        }
    }

    #[test]
    fn wrong_shapes_and_missing_tensors_are_named_with_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = save(&folder);
        let vb = open(&[path], DType::F32, &Device::Cpu).unwrap();
        let error = Error::from(vb.pp("part").get((3, 2), "full.weight").unwrap_err());
        let message = error.to_string();
        assert!(matches!(error, Error::WrongShape { .. }), "{message}");
        for fact in ["weights.safetensors", "part.full.weight", "[2, 3]", "[3, 2]"] {
            assert!(message.contains(fact), "{message}");
        }
        let missing = Error::from(candle_nn::linear(3, 2, vb.pp("gone")).err().unwrap());
        assert!(missing.to_string().contains("`gone.weight` is missing"), "{missing}");
        assert!(missing.to_string().contains("weights.safetensors"), "{missing}");
    }
}
