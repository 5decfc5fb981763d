//! The kinds of files, and who reads each.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use wan_border::files::{self, Content, OpenFile};
use wan_cache_lab::calibration::Calibration;
use wan_cache_lab::compare::Runs;
use wan_cache_lab::recording::{Recording, Replay};
use wan_host::parts::{Chosen, Kind as Strategies};
use wan_host::{AllowList, Checkpoint, Request, Sidecar};
use wan_media::{PictureLimits, read_image_within, read_tags, read_video_within};
use wan_model::clip::ClipVisionConfig;
use wan_model::inspect::Network;
use wan_plugin_api::{CacheContext, DType, ModelIdentity, OptionValues, Place, PluginDescription};

use crate::formats::Format;
use crate::seeds::RECORDED_STEPS;
use crate::weight_kinds::{lora, tokenizer, weights};
use crate::world::{CALIBRATED, MODEL, UNCALIBRATED, World};

/// Pixels of a picture, so that what they take is within what a reader may allocate.
const PICTURE: PictureLimits = PictureLimits { side: 4096, pixels: 1 << 22 };

/// Bytes of a clip's frames, for the same reason.
const CLIP_BYTES: u64 = 1 << 25;

/// A kind of file.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// For people.
    pub(crate) what: &'static str,
    pub(crate) format: Format,
    /// Where it lies, in the folder of the [`World`].
    pub(crate) place: &'static str,
    /// Reads it, with all that the program does with what it reads.
    pub(crate) read: fn(&World, &Path) -> Result<()>,
}

macro_rules! kinds {
    ($($name:literal $format:ident $place:literal $read:ident $what:literal;)*) => {
        /// All kinds.
        pub(crate) const KINDS: &[Kind] = &[$(Kind {
            name: $name,
            what: $what,
            format: Format::$format,
            place: $place,
            read: $read,
        }),*];
    };
}

kinds! {
    "sidecar" Json "in.json" sidecar "what stands beside a video";
    "latents" Safetensors "in.latents.safetensors" latents "latents of a run";
    "recording" Safetensors "in.recording.safetensors" recording "evaluations of a run";
    "calibration" Json "in.calibration.json" calibration "numbers that caches need";
    "runs" JsonLines "in.runs.jsonl" runs "runs of a comparison";
    "wan-toml" Text "model/wan.toml" wan_toml "defaults of a model folder";
    "model-index" Json "model/model_index.json" checkpoint "model_index.json";
    "scheduler" Json "model/scheduler/scheduler_config.json" checkpoint "scheduler_config.json";
    "transformer" Json "model/transformer/config.json" checkpoint "config of a transformer";
    "vae" Json "model/vae/config.json" checkpoint "config of a VAE";
    "text-encoder" Json "model/text_encoder/config.json" checkpoint "config of a text encoder";
    "image-encoder" Json "in.config.json" image_encoder "config of an image encoder";
    "tokenizer" Json "in.tokenizer.json" tokenizer "tokenizer.json";
    "safetensors" Safetensors "in.safetensors" weights "weights";
    "shards" Json "in.safetensors.index.json" weights "index of shards";
    "gguf" Gguf "in.gguf" weights "weights in GGUF";
    "torch" Torch "in.pth" weights "weights by torch.save";
    "fp8" Scaled "in.fp8.safetensors" weights "weights in 8 bits with factors";
    "lora" Lora "in.lora.safetensors" lora "LoRAs";
    "spiece" Protobuf "in.spiece.model" tokenizer "spiece.model";
    "mp4" Mp4 "in.mp4" clip "clips";
    "png" Png "in.png" picture "pictures";
    "jpeg" Jpeg "in.jpg" picture "pictures";
    "webp" Webp "in.webp" picture "pictures";
    "allow-list" Text "in.allow" allow_list "libraries that may be loaded";
    "description" Json "in.description.json" description "what a plugin says of itself";
    "job" Json "in.job.json" job "requests";
}

/// The kind of this name.
pub(crate) fn find(name: &str) -> Result<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name).with_context(|| {
        let names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
        format!("there is no kind {name}; there are: {}", names.join(", "))
    })
}

fn sidecar(world: &World, path: &Path) -> Result<()> {
    let sidecar = Sidecar::read(path)?;
    world.model()?.settle_again(&sidecar)?;
    Ok(())
}

fn latents(_: &World, path: &Path) -> Result<()> {
    Sidecar::read_latents(path)?;
    Ok(())
}

fn recording(world: &World, path: &Path) -> Result<()> {
    let recording = Recording::open(path)?;
    for id in UNCALIBRATED {
        let chosen = world.engine.registry().choose(Strategies::Cache, id, &OptionValues::new())?;
        // What a cache refuses may still be calibrated from.
        let _ = Replay::of(&recording, &chosen);
    }
    Calibration::of(&[recording])?;
    Ok(())
}

fn calibration(world: &World, path: &Path) -> Result<()> {
    let registry = world.engine.registry();
    for id in CALIBRATED {
        let none = registry.choose(Strategies::Cache, id, &OptionValues::new())?;
        let path = path.to_str().context("a path in UTF-8")?;
        let options = OptionValues::from([none.read_option("calibration", path)?]);
        let chosen: Chosen = registry.choose(Strategies::Cache, id, &options)?;
        chosen.cache(&context())?;
    }
    Ok(())
}

/// A stream of the tiny model.
pub(crate) fn context() -> CacheContext {
    CacheContext {
        branch: "cond".into(),
        expert: 0,
        evaluations: RECORDED_STEPS,
        evaluations_before: 0,
        evaluations_after: 0,
        steps: RECORDED_STEPS,
        experts: 1,
        model: ModelIdentity {
            variant: "t2v".into(),
            dim: 24,
            layers: 2,
            in_channels: 16,
            hash: String::new(),
        },
        frames: 2,
        frame_tokens: 4,
        timesteps_max: 1,
        dtype: DType::F32,
        signal_dtype: DType::F32,
        frame_output_elements: 256,
        keep: Place::Device,
    }
}

fn runs(_: &World, path: &Path) -> Result<()> {
    Runs::open(path)?;
    Ok(())
}

fn wan_toml(world: &World, _: &Path) -> Result<()> {
    let request = Request { cache: Some("none".into()), ..Request::new("a red ball") };
    world.opened_model()?.settle(&request)?;
    Ok(())
}

fn checkpoint(world: &World, _: &Path) -> Result<()> {
    let checkpoint = Checkpoint::open(&world.folder.join(MODEL))?;
    checkpoint.family()?;
    checkpoint.boundary_timestep()?;
    checkpoint.check()?;
    Ok(())
}

fn image_encoder(_: &World, path: &Path) -> Result<()> {
    let config: ClipVisionConfig = files::json(path, Content::Settings)?;
    let network = Network::ImageEncoder(config);
    network.check()?;
    ensure!(!network.tensors().is_empty(), "no tensors");
    Ok(())
}

fn clip(_: &World, path: &Path) -> Result<()> {
    let tags = read_tags(path);
    read_video_within(&mut OpenFile::open(path)?, CLIP_BYTES)?;
    tags?;
    Ok(())
}

fn picture(_: &World, path: &Path) -> Result<()> {
    read_image_within(&mut OpenFile::open(path)?, PICTURE)?;
    Ok(())
}

fn allow_list(_: &World, path: &Path) -> Result<()> {
    let list = AllowList::find(Some(path))?.context("a list")?;
    let _ = list.admit(path, "00");
    Ok(())
}

fn description(_: &World, path: &Path) -> Result<()> {
    let description: PluginDescription = files::json(path, Content::Settings)?;
    let named = description.check_names();
    for option in description.caches.iter().chain(&description.samplers).flat_map(|s| &s.options) {
        for written in ["1", "-1e999", "x", "true", "18446744073709551616", "[1,2]"] {
            let _ = option.parse(written);
        }
        let _ = (option.allowed(), option.check(&json!(1)));
    }
    Ok(named?)
}

fn job(world: &World, path: &Path) -> Result<()> {
    let request: Request = files::json(path, Content::Settings)?;
    world.model()?.settle(&request)?;
    Ok(())
}
