//! Runs that end with latents: what is looked at before any pixel is made.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use candle_core::{Device, Tensor};
use safetensors::SafeTensors;
use serde_json::Value;

use crate::support::{error_text, program};

/// Latents of a run and the report in their file.
pub(crate) struct Latents {
    pub(crate) tensor: Tensor,
    pub(crate) report: Value,
}

/// A folder for runs that end with latents, all with the same flags.
pub(crate) struct LatentsBench {
    folder: tempfile::TempDir,
    flags: Vec<String>,
}

impl LatentsBench {
    pub(crate) fn new(flags: &[&str]) -> Self {
        let flags = flags.iter().map(|flag| flag.to_string()).collect();
        Self { folder: tempfile::tempdir().unwrap(), flags }
    }

    /// The same folder, with flags more.
    pub(crate) fn with_flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|flag| flag.to_string()));
        self
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a JSON document; gives its path.
    pub(crate) fn document(&self, name: &str, value: &Value) -> String {
        let path = self.folder.path().join(name).with_extension("json");
        fs::write(&path, value.to_string()).unwrap();
        path.display().to_string()
    }

    /// Path of the latents of the run `name`.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name).with_extension("latents.safetensors")
    }

    fn command(&self, name: &str, flags: &[&str]) -> Command {
        let video = self.folder.path().join(name).with_extension("mp4");
        let mut command = Command::new(program());
        command.args(["generate", "--progress", "quiet", "--latents_only", "--save_file"]);
        command.arg(video).args(&self.flags).args(flags);
        command
    }

    /// A run with these flags more, under way.
    pub(crate) fn start(&self, name: &str, flags: &[&str]) -> Child {
        let mut command = self.command(name, flags);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Exit code and what was said of a run with these flags more.
    pub(crate) fn try_run(&self, name: &str, flags: &[&str]) -> (Option<i32>, String) {
        let output = self.command(name, flags).output().unwrap();
        (output.status.code(), error_text(&output))
    }

    /// A run with these flags more, which must succeed.
    pub(crate) fn run(&self, name: &str, flags: &[&str]) -> Latents {
        let (code, text) = self.try_run(name, flags);
        assert_eq!(code, Some(0), "{flags:?}: {text}");
        Latents::read(&self.path(name))
    }
}

impl Latents {
    pub(crate) fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let metadata: &HashMap<String, String> = header.metadata().as_ref().unwrap();
        let mut tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).unwrap();
        let report = serde_json::from_str(&metadata["wan"]).unwrap();
        Self { tensor: tensors.remove("latents").unwrap(), report }
    }

    /// Writes a file like the one that was read.
    pub(crate) fn write(&self, path: &Path) {
        let metadata = [("wan".to_string(), self.report.to_string())].into();
        let bytes = safetensors::serialize([("latents", &self.tensor)], Some(metadata)).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Bits of latent frames, in order.
    pub(crate) fn bits_of(&self, first: usize, frames: usize) -> Vec<u32> {
        let part = self.tensor.narrow(2, first, frames).unwrap();
        let values = part.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        values.into_iter().map(f32::to_bits).collect()
    }

    /// Bits of all latent frames.
    pub(crate) fn bits(&self) -> Vec<u32> {
        self.bits_of(0, self.tensor.dims()[2])
    }

    /// `|a - b| / |b|`, Euclidean.
    pub(crate) fn distance_from(&self, other: &Self) -> f64 {
        distance(&self.tensor, &other.tensor)
    }

    pub(crate) fn evaluations(&self) -> &[Value] {
        self.report["evaluations"].as_array().unwrap()
    }
}

/// `|a - b| / |b|`, Euclidean.
pub(crate) fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let norm = |t: &Tensor| {
        let sum = t.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
        f64::from(sum).sqrt()
    };
    norm(&(a - b).unwrap()) / norm(b)
}
