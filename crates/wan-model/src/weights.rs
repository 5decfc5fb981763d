//! Reads weight files for the networks' loaders, one tensor at a time.
//!
//! Files are safetensors, GGUF or torch's (`wan-weight-files`); their headers are read once, and each
//! tensor is read when a layer requests it. So the peak is one tensor above the model.
//!
//! Files may have the names of diffusers and transformers, or those of the original publications or
//! llama.cpp (see [`Layout`]), behind the modules that a network was wrapped in (`wrappers`). In all
//! cases tensors are requested by the former. 8-bit numbers with factors beside them come as
//! [`Weight::Scaled`] (`factors`). Formats and families that are not read are refused by name
//! (`refused`).

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use crate::error::{Error, Result};
use crate::original_names::{Layout, Part};

pub(crate) mod factors;
mod fits;
mod holding;
mod kept;
mod refused;
mod shards;
mod source;
mod stored;
mod turns;
mod weight;
mod wrappers;

pub use fits::fits;
pub(crate) use holding::Holding;
pub(crate) use kept::{Kept, at_rest};
pub use source::{AtRest, Scope, Source};
pub use turns::{Held, Streamed};
pub(crate) use turns::{Turns, is_streamed, two_at_a_time};
pub use wan_weight_files::{Encoding, Error as FileError, TensorInfo, WeightFile};
pub(crate) use weight::panel_rows;
pub use weight::{Changed, Quantised, RowChange, Scaled, Weight};

use shards::Index;
use stored::Stored;

/// Ends of names of weight files, the preferred ones first. What a file is, its first bytes tell.
pub const EXTENSIONS: [&str; 6] = ["safetensors", "gguf", "pth", "pt", "ckpt", "bin"];

/// Opens weight files as one set; a `*.safetensors.index.json` stands for its shards. Every float
/// tensor is converted to `dtype` when it is read. A name prefix such as `transformer.` is stripped
/// with [`Scope::pp`].
///
/// # Errors
/// As [`Weights::open`].
pub fn open(paths: &[PathBuf], dtype: DType, device: &Device) -> Result<Scope> {
    Arc::new(Weights::open(paths)?).scope(dtype, device)
}

/// Open weight files and the place of each tensor. Headers are read once, when the files are opened;
/// tensors are read when they are requested.
pub struct Weights {
    /// The paths that were opened.
    paths: Vec<PathBuf>,
    files: Vec<WeightFile>,
    layout: Layout,
    /// Whether the files hold other networks beside this one.
    holds_several: bool,
    tensors: HashMap<String, Stored>,
    /// Factors of 8-bit tensors, by the name of their tensor.
    factors: HashMap<String, Stored>,
}

/// A tensor of a file: number of file and tensor, and its name without wrappers.
struct Listed {
    file: usize,
    number: usize,
    name: String,
}

impl Weights {
    /// Reads the headers of `paths`.
    ///
    /// # Errors
    /// [`Error::WeightFile`] if a file cannot be read, is cut short or of no format that is read;
    /// [`Error::MalformedFile`] if a shard is incomplete, a tensor occurs twice, a factor does not
    /// fit its tensor, the names are behind an unknown prefix, the file holds several networks, or
    /// its number format or family of models is not read.
    pub fn open(paths: &[PathBuf]) -> Result<Self> {
        Self::open_part(paths, None)
    }

    /// As [`open`](Self::open). Of files that hold several networks, `part` is taken.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_part(paths: &[PathBuf], part: Option<&str>) -> Result<Self> {
        Self::of_files(paths, open_files(paths)?, part)
    }

    /// As [`open_part`](Self::open_part), for files that [`open_files`] has opened at `paths`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn of_files(paths: &[PathBuf], files: Vec<WeightFile>, part: Option<&str>) -> Result<Self> {
        let malformed = |reason| Error::MalformedFile {
            path: paths.first().cloned().unwrap_or_default(),
            reason,
        };
        for file in &files {
            if let Some(reason) = refused::format(file)? {
                return Err(Error::MalformedFile { path: file.path().to_owned(), reason });
            }
        }
        let (listed, holds_several) = list(&files, part).map_err(malformed)?;
        let infos = |listed: &Listed| &files[listed.file].tensors()[listed.number];
        let named = listed.iter().map(|listed| (listed.name.as_str(), infos(listed)));
        if let Some(reason) = refused::family(named) {
            return Err(malformed(reason));
        }
        let layout = Layout::of(listed.iter().map(|listed| listed.name.as_str()));
        let marked = files.iter().any(refused::promises_factors)
            || listed.iter().any(|listed| factors::is_mark(&listed.name));
        let (tensors, factors) = (HashMap::with_capacity(listed.len()), HashMap::new());
        let paths = paths.to_vec();
        let mut weights = Self { paths, files, layout, holds_several, tensors, factors };
        for listed in listed {
            if !factors::is_mark(&listed.name) && !refused::is_layer_format(&listed.name) {
                weights.insert(listed)?;
            }
        }
        match factors::fault(&weights.tensors, &weights.factors, marked) {
            Some((stored, reason)) => Err(weights.malformed(stored, reason)),
            None => Ok(weights),
        }
    }

    fn insert(&mut self, listed: Listed) -> Result<()> {
        let Listed { file, number, name } = listed;
        let info = self.files[file].tensors()[number].clone();
        let malformed =
            |weights: &Self, reason| Error::MalformedFile { path: weights.path(file), reason };
        let owner = factors::owner(&name);
        let is_factor = owner.is_some();
        for (name, part) in self.layout.rename(&owner.unwrap_or(name)) {
            let part = if is_factor { factors::part(part, &info.shape) } else { part };
            if matches!(part, Part::Third(_)) && info.shape.first().is_none_or(|rows| rows % 3 != 0)
            {
                let (name, shape) = (&info.name, &info.shape);
                let reason = format!("tensor `{name}` has shape {shape:?}, not three parts");
                return Err(malformed(self, reason));
            }
            let shape = part.shape(&info.shape);
            let stored = Stored { file, number, info: info.clone(), part, shape };
            let place = if is_factor { &mut self.factors } else { &mut self.tensors };
            if let Some(other) = place.insert(name.clone(), stored) {
                let other = self.path(other.file);
                let other = other.display();
                let reason = format!("tensor `{name}` is also in {other}: open one of the files");
                return Err(malformed(self, reason));
            }
        }
        Ok(())
    }

    fn path(&self, file: usize) -> PathBuf {
        self.files[file].path().to_owned()
    }

    /// The files, in the order in which they were named; of an index, its shards.
    pub fn files(&self) -> &[WeightFile] {
        &self.files
    }

    /// These weights for a network's loader, which gets them in `dtype` on `device`.
    ///
    /// # Errors
    /// [`Error::WeightFile`] if a file was written to after its header was read: its tensors may be
    /// in other places.
    pub fn scope(self: &Arc<Self>, dtype: DType, device: &Device) -> Result<Scope> {
        self.check_unchanged()?;
        Ok(Scope::shared(self.clone(), dtype, device))
    }

    /// Compares the files' lengths and headers with those that were read.
    ///
    /// # Errors
    /// [`Error::WeightFile`] if they differ.
    pub fn check_unchanged(&self) -> Result<()> {
        self.files.iter().try_for_each(|file| Ok(file.check_unchanged()?))
    }

    /// The opened paths, as text for messages.
    pub(crate) fn origin(&self) -> String {
        origin(self.paths.iter().map(PathBuf::as_path))
    }

    /// Whether the files hold other networks, of which [`open_part`](Self::open_part) took one.
    pub fn holds_several(&self) -> bool {
        self.holds_several
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

    /// Number format of a tensor in the file.
    pub fn encoding(&self, name: &str) -> Option<Encoding> {
        self.tensors.get(name).map(|stored| stored.info.encoding)
    }

    /// Bytes that a tensor takes up in the file.
    pub fn bytes(&self, name: &str) -> Option<u64> {
        self.tensors.get(name).map(|stored| stored.place().end - stored.place().start)
    }

    /// Name of a tensor in the file.
    pub fn original_name(&self, name: &str) -> Option<&str> {
        self.tensors.get(name).map(|stored| stored.info.name.as_str())
    }

    /// Reads a tensor as the file has it.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] for an unknown name, [`Error::WeightFile`] if the file cannot be
    /// read, and [`Error::MalformedFile`] for a number that is not finite, or a factor that is not
    /// positive.
    pub fn weight(&self, name: &str) -> Result<Weight> {
        let stored = self.find(name)?;
        let bytes = self.bytes_of(stored)?;
        let (encoding, shape) = (stored.info.encoding, stored.shape.clone());
        if let Some(factors) = self.factors.get(name) {
            let factors = self.factors_of(factors)?;
            return Ok(Weight::Scaled(Scaled { bytes, encoding, shape, factors }));
        }
        if encoding.is_quantised() {
            return Ok(Weight::Quantised(Quantised { bytes, encoding, shape }));
        }
        if encoding.is_8_bit_float() {
            return Ok(Weight::Scaled(Scaled { bytes, encoding, shape, factors: vec![1.] }));
        }
        let Some(dtype) = dtype_of(encoding) else {
            let reason = format!("tensor `{name}` is in {}, which is not read", encoding.name());
            return Err(self.malformed(stored, reason));
        };
        Ok(Weight::Dense(Tensor::from_raw_buffer(&bytes, dtype, &shape, &Device::Cpu)?))
    }

    /// Reads a tensor: floats of 16 bits and more in their own format, others as f32.
    ///
    /// # Errors
    /// As [`weight`](Self::weight).
    pub fn tensor(&self, name: &str, device: &Device) -> Result<Tensor> {
        Ok(self.weight(name)?.wide()?.to_device(device)?)
    }

    fn bytes_of(&self, stored: &Stored) -> Result<Vec<u8>> {
        let bytes = self.files[stored.file].read_part(stored.number, stored.place())?;
        match stored.info.encoding.first_not_finite(&bytes) {
            None => Ok(bytes),
            Some(place) => {
                let name = &stored.info.name;
                let reason = format!(
                    "tensor `{name}` has a number that is not finite (NaN or infinity), number \
                     {place} of {:?}: the file is damaged; download it again",
                    stored.shape
                );
                Err(self.malformed(stored, reason))
            }
        }
    }

    fn factors_of(&self, stored: &Stored) -> Result<Vec<f32>> {
        let bytes = self.files[stored.file].read_part(stored.number, stored.place())?;
        let mut factors = vec![0.; stored.shape.iter().product()];
        let read = stored.info.encoding.widen(&bytes, &mut factors);
        let bad = if read { factors::bad_number(&factors) } else { Some(f32::NAN) };
        if let Some(bad) = bad {
            let name = &stored.info.name;
            let reason = format!("tensor `{name}` has the factor {bad}, expected positive numbers");
            return Err(self.malformed(stored, reason));
        }
        Ok(factors)
    }

    fn malformed(&self, stored: &Stored, reason: String) -> Error {
        Error::MalformedFile { path: self.path(stored.file), reason }
    }

    /// The place of a tensor that has to be of this shape.
    fn fitting(&self, name: &str, shape: &[usize]) -> Result<&Stored> {
        let stored = self.find(name)?;
        if fits(&stored.shape, shape) {
            return Ok(stored);
        }
        Err(Error::WrongShape {
            origin: self.files[stored.file].path().display().to_string(),
            name: name.to_owned(),
            expected: shape.to_owned(),
            found: stored.shape.clone(),
        })
    }

    fn find(&self, name: &str) -> Result<&Stored> {
        self.tensors.get(name).ok_or_else(|| Error::MissingTensor {
            origin: origin(self.files.iter().map(WeightFile::path)),
            name: name.to_owned(),
        })
    }
}

impl Source for Weights {
    fn get(&self, name: &str, shape: &[usize]) -> Result<Weight> {
        self.fitting(name, shape)?;
        self.weight(name)?.reshape(shape)
    }

    fn at_rest(&self, name: &str, shape: &[usize]) -> Result<AtRest> {
        let encoding = self.fitting(name, shape)?.info.encoding;
        let factors = self.factors.get(name).map(|stored| stored.shape.iter().product());
        let count: usize = factors.unwrap_or(usize::from(encoding.is_8_bit_float()));
        let columns = shape.iter().skip(1).product();
        let shape = (shape.first().copied().unwrap_or(1), columns);
        Ok(AtRest { encoding, shape, beside: 4 * count as u64 })
    }

    fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }
}

/// Reads tensor `number` of a file in its own number format, which is one that candle has.
///
/// # Errors
/// [`Error::WeightFile`] if it cannot be read, [`Error::MalformedFile`] for another format.
pub fn read_tensor(file: &WeightFile, number: usize) -> Result<Tensor> {
    let info = &file.tensors()[number];
    let Some(dtype) = dtype_of(info.encoding) else {
        let reason = format!("tensor `{}` is in {}", info.name, info.encoding.name());
        return Err(Error::MalformedFile { path: file.path().to_owned(), reason });
    };
    Ok(Tensor::from_raw_buffer(&file.read(number)?, dtype, &info.shape, &Device::Cpu)?)
}

/// Opens files, and the shards of indices. Each header is read once.
///
/// # Errors
/// As [`Weights::open`].
pub fn open_files(paths: &[PathBuf]) -> Result<Vec<WeightFile>> {
    let mut files = Vec::new();
    for path in paths {
        let Some(index) = Index::open(path)? else {
            files.push(WeightFile::open(path)?);
            continue;
        };
        let mut found = HashSet::new();
        for shard in index.shards(path) {
            let file = WeightFile::open(&shard)?;
            found.extend(file.tensors().iter().map(|info| info.name.clone()));
            files.push(file);
        }
        index.check(path, &found)?;
    }
    Ok(files)
}

/// All tensors by their names without wrappers; of files with several networks, those of `part`.
/// Also whether there are several.
fn list(files: &[WeightFile], part: Option<&str>) -> Result<(Vec<Listed>, bool), String> {
    let mut listed = Vec::new();
    for (file, opened) in files.iter().enumerate() {
        let names = opened.tensors().iter().map(|info| wrappers::uncompiled(&info.name));
        listed.extend(names.enumerate().map(|(number, name)| Listed { file, number, name }));
    }
    let names: Vec<&str> = listed.iter().map(|listed| listed.name.as_str()).collect();
    let components = wrappers::components(&names);
    if !components.is_empty() {
        let held: Vec<_> =
            components.iter().map(|(start, part)| format!("{part} ({start}...)")).collect();
        let taken = components.iter().find(|(_, held)| Some(*held) == part);
        let Some((start, _)) = taken else {
            return Err(format!("holds several networks: {}; name one of them", held.join(", ")));
        };
        listed.retain(|listed| listed.name.starts_with(start));
    }
    let names: Vec<&str> = listed.iter().map(|listed| listed.name.as_str()).collect();
    let wrapper = wrappers::of(&names).map_err(|start| {
        format!("its names begin with `{start}`, which is no prefix that is known; behind it are those of a network of Wan's")
    })?;
    for listed in &mut listed {
        if let Some(name) = listed.name.strip_prefix(&wrapper) {
            listed.name = name.to_owned();
        }
    }
    Ok((listed, !components.is_empty()))
}

fn origin<'a>(paths: impl Iterator<Item = &'a Path>) -> String {
    paths.map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// candle's format of the same numbers.
fn dtype_of(encoding: Encoding) -> Option<DType> {
    match encoding {
        Encoding::F64 => Some(DType::F64),
        Encoding::F32 => Some(DType::F32),
        Encoding::F16 => Some(DType::F16),
        Encoding::BF16 => Some(DType::BF16),
        Encoding::I64 => Some(DType::I64),
        Encoding::I32 => Some(DType::I32),
        Encoding::I16 => Some(DType::I16),
        Encoding::U8 | Encoding::Bool => Some(DType::U8),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
