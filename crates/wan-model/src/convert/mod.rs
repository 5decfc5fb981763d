//! Writes the weights of a network anew: in another container, under other names, in other number
//! formats, with LoRAs in them.
//!
//! Tensors are read, changed and written one at a time: the peak is one tensor in f32 and in its new
//! format. Which tensors become narrow follows the tools whose files are in circulation:
//! ComfyUI-GGUF 795e451 (`convert.py`, `lcpp.patch`) for blocks, Comfy-Org's `fp8_scaled` files for
//! 8 bits.

mod narrow;
mod numbers;
mod outputs;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use wan_weight_files::{Encoding, GgufWriter, SafetensorsWriter, TensorInfo};

use crate::error::{Error, Result};
use crate::inspect::Network;
use crate::lora::{FittedLora, Patched};
use crate::original_names::Layout;
use crate::weights::{Source, Weights, factors};

pub use numbers::WrittenNumbers;

use narrow::narrowed;
use outputs::{Output, outputs};

/// Largest number of e4m3fn.
const F8_MAX: f32 = 448.;

/// Key of a file's metadata that says which program made it.
pub const MADE_BY: &str = "wan.converted_by";

/// The container to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// safetensors.
    Safetensors,
    /// GGUF.
    Gguf,
}

/// Weights, and what they are to become.
pub struct Conversion {
    source: Patched,
    outputs: Vec<Output>,
    container: Container,
    architecture: &'static str,
}

impl Conversion {
    /// The conversion of `weights`, which are those of `network`, with `loras` on them.
    ///
    /// # Errors
    /// [`Error::Config`] for number formats that the container does not hold, or a network that is
    /// not in circulation in it.
    pub fn new(
        network: &Network,
        weights: &Arc<Weights>,
        loras: Vec<Arc<FittedLora>>,
        (container, layout, numbers): (Container, Layout, WrittenNumbers),
    ) -> Result<Self> {
        let architecture = match network {
            Network::Transformer(_) => "wan",
            Network::TextEncoder(_) => "t5encoder",
            other if container == Container::Gguf => {
                let name = other.name();
                return Err(Error::Config(format!("no reader expects a {name} in GGUF")));
            }
            _ => "",
        };
        if !numbers.are_held_by(container) {
            return Err(Error::Config(format!("{container:?} does not hold {numbers}")));
        }
        let outputs = outputs(network, weights, layout, numbers);
        let source = Patched::new(weights.clone(), loras);
        Ok(Self { source, outputs, container, architecture })
    }

    /// Tensors that will be written, factors not counted.
    pub fn tensors(&self) -> usize {
        self.outputs.len()
    }

    /// Bytes of the tensors that will be written.
    pub fn bytes(&self) -> u64 {
        self.infos().iter().map(TensorInfo::bytes).sum()
    }

    /// Writes the file, calling `done` after each tensor with the number that is written.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] and errors of reading; [`Error::Write`] if `out` cannot be written.
    pub fn write<W: Write>(&self, out: W, done: &mut dyn FnMut(usize)) -> Result<W> {
        let factors = self.factors()?;
        let mut writer = Writer::new(self.container, out, &self.infos(), &self.metadata())?;
        if !factors.is_empty() {
            writer.put(&[])?;
            for factor in &factors {
                writer.put(&factor.to_le_bytes())?;
            }
        }
        let mut factors = factors.into_iter();
        for (number, output) in self.outputs.iter().enumerate() {
            let mut numbers = self.read(output)?;
            if output.is_scaled() {
                let factor = factors.next().unwrap_or(1.);
                numbers = (numbers / f64::from(factor))?;
            }
            writer.put(&narrowed(&numbers, output.encoding)?)?;
            done(number + 1);
        }
        writer.finish()
    }

    /// The factor of each 8-bit matrix: its largest number over that of e4m3fn. A matrix of zeros has 1.
    fn factors(&self) -> Result<Vec<f32>> {
        let scaled = self.outputs.iter().filter(|output| output.is_scaled());
        scaled
            .map(|output| {
                let most = self.read(output)?.abs()?.max_all()?.to_scalar::<f32>()?;
                Ok(if most > 0. { most / F8_MAX } else { 1. })
            })
            .collect()
    }

    /// What is written, in order. Factors come first: readers want numbers of four bytes at multiples
    /// of four.
    fn infos(&self) -> Vec<TensorInfo> {
        let scaled: Vec<_> = self.outputs.iter().filter(|output| output.is_scaled()).collect();
        let mut infos = Vec::new();
        if !scaled.is_empty() {
            let (name, shape) = (factors::MARK.to_owned(), vec![0]);
            infos.push(TensorInfo { name, shape, encoding: Encoding::F8E4M3 });
        }
        infos.extend(scaled.iter().map(|output| TensorInfo {
            name: factors::name_of(&output.name),
            shape: Vec::new(),
            encoding: Encoding::F32,
        }));
        infos.extend(self.outputs.iter().map(Output::info));
        infos
    }

    fn metadata(&self) -> BTreeMap<String, String> {
        let pairs: &[(&str, &str)] = match self.container {
            Container::Safetensors => &[("format", "pt")],
            Container::Gguf => &[
                ("general.architecture", self.architecture),
                ("general.quantization_version", "2"),
            ],
        };
        let made_by = (MADE_BY, env!("CARGO_PKG_VERSION"));
        let pairs = pairs.iter().chain([&made_by]);
        pairs.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    /// A tensor as it is to be written, in f32.
    fn read(&self, output: &Output) -> Result<Tensor> {
        let parts = output
            .sources
            .iter()
            .map(|(name, shape)| self.source.get(name, shape)?.to_tensor(DType::F32, &Device::Cpu));
        let parts = parts.collect::<Result<Vec<_>>>()?;
        let whole = match parts.as_slice() {
            [one] => one.clone(),
            several => Tensor::cat(several, 0)?,
        };
        Ok(whole.reshape(output.shape.as_slice())?)
    }
}

/// A safetensors file of these tensors, in f32.
///
/// # Errors
/// If a tensor cannot be read.
pub fn to_safetensors(tensors: &BTreeMap<String, Tensor>) -> Result<Vec<u8>> {
    let info = |(name, tensor): (&String, &Tensor)| TensorInfo {
        name: name.clone(),
        shape: tensor.dims().to_vec(),
        encoding: Encoding::F32,
    };
    let infos: Vec<_> = tensors.iter().map(info).collect();
    let mut writer = Writer::new(Container::Safetensors, Vec::new(), &infos, &BTreeMap::new())?;
    for tensor in tensors.values() {
        writer.put(&narrowed(&tensor.to_dtype(DType::F32)?, Encoding::F32)?)?;
    }
    writer.finish()
}

/// A file that is being written.
enum Writer<W: Write> {
    Safetensors(SafetensorsWriter<W>),
    Gguf(GgufWriter<W>),
}

impl<W: Write> Writer<W> {
    fn new(
        container: Container,
        out: W,
        infos: &[TensorInfo],
        metadata: &BTreeMap<String, String>,
    ) -> Result<Self> {
        match container {
            Container::Safetensors => {
                SafetensorsWriter::new(out, infos, metadata).map(Self::Safetensors)
            }
            Container::Gguf => GgufWriter::new(out, infos, metadata).map(Self::Gguf),
        }
        .map_err(Error::Write)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        let put: io::Result<()> = match self {
            Self::Safetensors(writer) => writer.put(bytes),
            Self::Gguf(writer) => writer.put(bytes),
        };
        put.map_err(Error::Write)
    }

    fn finish(self) -> Result<W> {
        match self {
            Self::Safetensors(writer) => writer.finish(),
            Self::Gguf(writer) => writer.finish(),
        }
        .map_err(Error::Write)
    }
}
