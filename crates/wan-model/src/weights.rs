//! Reads checkpoint files into a `VarBuilder`, one tensor at a time.
//!
//! candle's memory-mapped loader is `unsafe`, and its buffered loader keeps the whole file beside
//! the tensors. Here the header is read once, the length of the file is compared with it, and each
//! tensor is read when a layer requests it. So the peak is one tensor above the model.
//!
//! Files may have the names of diffusers and transformers, or those of the original publications
//! (see [`Layout`]). In both cases tensors are requested by the former. 8-bit floats with a
//! `scale_weight` beside each matrix, as in ComfyUI's files, are multiplied by it (`scales`).

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::VarBuilder;
use candle_nn::var_builder::SimpleBackend;
use safetensors::tensor::TensorInfo;

use crate::error::{Error, Result};
use crate::original_names::{self, Layout, Part};

mod file;
mod scales;
mod shards;
mod stored;

pub use file::WeightFile;
use shards::Index;
use stored::Stored;

/// Opens safetensors files as one set of weights; a `*.safetensors.index.json` stands for its
/// shards. Every float tensor is converted to `dtype` when it is read (half-precision files are
/// widened for f32). A name prefix such as `transformer.` is stripped with [`VarBuilder::pp`].
///
/// # Errors
/// As [`Weights::open`].
pub fn open(paths: &[PathBuf], dtype: DType, device: &Device) -> Result<VarBuilder<'static>> {
    Ok(Arc::new(Weights::open(paths)?).opened(dtype, device)?.weights)
}

/// Weights for a network's loader, and a count of the bytes that were handed out.
pub struct Opened {
    /// The input of the loader.
    pub weights: VarBuilder<'static>,
    handed_out: Arc<AtomicU64>,
}

impl Opened {
    /// Bytes of the tensors handed out so far, in the requested formats. After loading, this is
    /// what the network holds.
    pub fn bytes(&self) -> u64 {
        self.handed_out.load(Relaxed)
    }
}

/// Open safetensors files and the place of each tensor. Headers are read once, when the files are
/// opened; tensors are read when they are requested.
pub struct Weights {
    /// The paths that were opened.
    paths: Vec<PathBuf>,
    files: Vec<WeightFile>,
    layout: Layout,
    tensors: HashMap<String, Stored>,
    /// Factors of 8-bit tensors, by the name of their tensor.
    scales: HashMap<String, Stored>,
}

/// The backend of the `VarBuilder`.
struct Source {
    weights: Arc<Weights>,
    /// See [`Opened::bytes`].
    handed_out: Arc<AtomicU64>,
}

impl Weights {
    /// Reads the headers of `paths`.
    ///
    /// # Errors
    /// [`Error::File`] if a file cannot be read. [`Error::MalformedFile`] if a file is shorter than
    /// its header says, a shard is incomplete, a tensor occurs twice, or a factor does not fit its
    /// tensor.
    pub fn open(paths: &[PathBuf]) -> Result<Self> {
        let (mut files, mut stored) = (Vec::new(), Vec::new());
        for path in paths {
            let index = Index::open(path)?;
            let shards = index.as_ref().map_or(vec![path.clone()], |index| index.shards(path));
            let mut found = HashSet::new();
            for shard in shards {
                let (file, header) = WeightFile::open(&shard)?;
                for (name, info) in header.tensors() {
                    if index.is_some() {
                        found.insert(name.clone());
                    }
                    stored.push((name, info.clone(), files.len()));
                }
                files.push(file);
            }
            if let Some(index) = index {
                index.check(path, &found)?;
            }
        }
        let names = stored.iter().map(|(name, ..)| original_names::without_prefix(name));
        let (layout, paths) = (Layout::of(names), paths.to_vec());
        let (tensors, scales) = (HashMap::with_capacity(stored.len()), HashMap::new());
        let mut weights = Self { paths, files, layout, tensors, scales };
        let mut marked = false;
        for (name, info, file) in stored {
            if scales::is_mark(&name) {
                marked = true;
            } else {
                weights.insert(name, info, file)?;
            }
        }
        match scales::fault(&weights.tensors, &weights.scales, marked) {
            Some((stored, reason)) => Err(weights.malformed(stored, reason)),
            None => Ok(weights),
        }
    }

    fn insert(&mut self, original: String, info: TensorInfo, file: usize) -> Result<()> {
        let name = original_names::without_prefix(&original);
        let (name, is_scale) = scales::owner(name);
        for (name, part) in self.layout.rename(&name) {
            let part = if is_scale { scales::part(part, &info.shape) } else { part };
            if matches!(part, Part::Third(_)) && info.shape.first().is_none_or(|rows| rows % 3 != 0)
            {
                let path = self.files[file].path.clone();
                let reason =
                    format!("tensor `{original}` has shape {:?}, not three parts", info.shape);
                return Err(Error::MalformedFile { path, reason });
            }
            let shape = part.shape(&info.shape);
            let stored =
                Stored { file, original: original.clone(), info: info.clone(), part, shape };
            let place = if is_scale { &mut self.scales } else { &mut self.tensors };
            if let Some(other) = place.insert(name.clone(), stored) {
                let path = self.files[file].path.clone();
                let other = self.files[other.file].path.display();
                let reason = format!("tensor `{name}` is also in {other}: open one of the files");
                return Err(Error::MalformedFile { path, reason });
            }
        }
        Ok(())
    }

    /// The files, in the order in which they were named; of an index, its shards.
    pub fn files(&self) -> &[WeightFile] {
        &self.files
    }

    /// A `VarBuilder` over these weights. Tensors are converted to the requested format, or to
    /// `dtype`.
    ///
    /// # Errors
    /// [`Error::ChangedFile`] if a file was written to after its header was read: its tensors may
    /// be in other places.
    pub fn opened(self: &Arc<Self>, dtype: DType, device: &Device) -> Result<Opened> {
        self.files.iter().try_for_each(WeightFile::check_unchanged)?;
        let handed_out = Arc::<AtomicU64>::default();
        let source = Source { weights: self.clone(), handed_out: handed_out.clone() };
        let weights = VarBuilder::from_backend(Box::new(source), dtype, device.clone());
        Ok(Opened { weights, handed_out })
    }

    /// The opened paths, as text for messages.
    pub(crate) fn origin(&self) -> String {
        let paths = self.paths.iter().map(|path| path.display().to_string());
        paths.collect::<Vec<_>>().join(", ")
    }

    /// The naming scheme of the files.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The loaders' names of all tensors, sorted.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.tensors.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// Shape of a tensor, or of its part where the file has it as part of another.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|stored| stored.shape.as_slice())
    }

    /// Number format of a tensor in the file, in the format's spelling (`F32`, `BF16`).
    pub fn dtype(&self, name: &str) -> Option<String> {
        self.tensors.get(name).map(|stored| format!("{:?}", stored.info.dtype))
    }

    /// Bytes that a tensor takes up in the file.
    pub fn bytes(&self, name: &str) -> Option<usize> {
        self.tensors.get(name).map(|stored| stored.place().len())
    }

    /// Name of a tensor in the file.
    pub fn original_name(&self, name: &str) -> Option<&str> {
        self.tensors.get(name).map(|stored| stored.original.as_str())
    }

    /// Reads a tensor in its own number format; an 8-bit tensor with a factor becomes f32.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] for an unknown name, [`Error::Io`] if the file cannot be read, and
    /// [`Error::MalformedFile`] for a factor that is not positive.
    pub fn tensor(&self, name: &str, device: &Device) -> Result<Tensor> {
        let stored = self.find(name)?;
        let tensor = self.read(stored, device)?;
        match self.scales.get(name) {
            Some(scale) => self.scaled(&tensor, scale),
            None => Ok(tensor),
        }
    }

    fn scaled(&self, tensor: &Tensor, scale: &Stored) -> Result<Tensor> {
        let factor = self.read(scale, tensor.device())?.to_dtype(DType::F32)?;
        if let Some(bad) = scales::bad_number(&factor)? {
            let name = &scale.original;
            let reason = format!("tensor `{name}` has the factor {bad}, expected positive numbers");
            return Err(self.malformed(scale, reason));
        }
        scales::multiplied(tensor, &factor)
    }

    fn malformed(&self, stored: &Stored, reason: String) -> Error {
        Error::MalformedFile { path: self.files[stored.file].path.clone(), reason }
    }

    fn find(&self, name: &str) -> Result<&Stored> {
        self.tensors.get(name).ok_or_else(|| {
            let paths = self.files.iter().map(|file| file.path.display().to_string());
            let origin = paths.collect::<Vec<_>>().join(", ");
            Error::MissingTensor { origin, name: name.to_owned() }
        })
    }

    fn read(&self, stored: &Stored, device: &Device) -> Result<Tensor> {
        let dtype = DType::try_from(stored.info.dtype).map_err(Error::from)?;
        let bytes = self.files[stored.file].read(stored.place())?;
        Ok(Tensor::from_raw_buffer(&bytes, dtype, &stored.shape, device)?)
    }
}

impl SimpleBackend for Source {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: candle_nn::Init,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let stored = self.weights.find(name).map_err(Error::through_candle)?;
        if stored.shape != shape.dims() {
            let wrong = Error::WrongShape {
                origin: self.weights.files[stored.file].path.display().to_string(),
                name: name.to_owned(),
                expected: shape.into_dims(),
                found: stored.shape.clone(),
            };
            return Err(wrong.through_candle());
        }
        self.get_unchecked(name, dtype, device)
    }

    fn get_unchecked(
        &self,
        name: &str,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let stored = self.weights.find(name).map_err(Error::through_candle)?;
        // candle 0.11.1 requests casts of 8-bit floats from CUDA under names that its kernels do
        // not have, so these tensors are widened on the CPU.
        let is_8_bit = stored.info.dtype == safetensors::Dtype::F8_E4M3;
        let cast_on = if is_8_bit { &Device::Cpu } else { device };
        let tensor = self.weights.tensor(name, cast_on).map_err(Error::through_candle)?;
        let tensor = tensor.to_dtype(dtype)?.to_device(device)?;
        let bytes = tensor.elem_count() * dtype.size_in_bytes();
        self.handed_out.fetch_add(bytes as u64, Relaxed);
        Ok(tensor)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.weights.tensors.contains_key(name)
    }
}

#[cfg(test)]
mod tests;
