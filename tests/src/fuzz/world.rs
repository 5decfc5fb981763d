//! What readers need around the file: a tiny model, strategies, and a folder that is a process's
//! own.

use std::cell::OnceCell;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use wan_host::{DeviceChoice, Engine, Model};
use wan_tests::tiny_model::TinyModel;

use crate::weight_kinds::Base;

wan_plugin_api::plugin! {
    struct Linked {
        samplers: [],
        caches: [
            wan_cache::TeaCache,
            wan_cache::MagCache,
            wan_cache::EasyCache,
            wan_cache::Forecast,
            wan_cache::FirstBlockCache,
        ],
    }
}

/// Caches that a calibration is for.
pub(crate) const CALIBRATED: [&str; 2] = ["teacache", "magcache"];

/// Caches that need none.
pub(crate) const UNCALIBRATED: [&str; 3] = ["easycache", "forecast", "first-block"];

/// The model's defaults.
const DEFAULTS: &str = r#"
[generate]
prompt = "a red ball"
negative_prompt = ""
size = "64*64"
frame_num = 33
sample_steps = 25
sample_shift = 3.0
sample_guide_scale = 3.0
fps = 16
sampler = "dpm++"
cache = "easycache"

[generate.sample_shift_of_size]
"832*480" = 3.0

[cache_options]
threshold = 0.1
"#;

/// Name of the model's folder.
pub(crate) const MODEL: &str = "model";

/// Surroundings of a reader.
pub(crate) struct World {
    pub(crate) folder: PathBuf,
    pub(crate) engine: Engine,
    model: OnceCell<Model>,
    base: OnceCell<Base>,
}

impl World {
    /// Lays a model into an empty folder.
    pub(crate) fn make(folder: &Path) -> Result<Self> {
        let model = folder.join(MODEL);
        TinyModel::least().write(&model)?;
        fs::write(model.join("wan.toml"), DEFAULTS)?;
        Self::open(folder)
    }

    /// A folder that has a model.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let engine = Engine::builder().device(DeviceChoice::Cpu).plugin::<Linked>().build()?;
        Ok(Self { folder: folder.into(), engine, model: OnceCell::new(), base: OnceCell::new() })
    }

    /// The model, for readers of files that are none of its own: it is opened once.
    pub(crate) fn model(&self) -> Result<&Model> {
        if let Some(model) = self.model.get() {
            return Ok(model);
        }
        let opened = self.opened_model()?;
        Ok(self.model.get_or_init(|| opened))
    }

    /// What LoRAs are put on: it is opened once.
    pub(crate) fn base(&self) -> Result<&Base> {
        if let Some(base) = self.base.get() {
            return Ok(base);
        }
        let opened = Base::open()?;
        Ok(self.base.get_or_init(|| opened))
    }

    /// The model as its folder is now.
    pub(crate) fn opened_model(&self) -> Result<Model> {
        Ok(self.engine.open(self.folder.join(MODEL))?)
    }
}
