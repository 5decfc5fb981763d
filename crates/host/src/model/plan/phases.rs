//! What each phase of a run holds, line by line.

use std::collections::BTreeMap;
use std::ops::Add;
use std::sync::Arc;

use candle_core::DType;
use wan_model::Numerics;
use wan_model::clip::ClipVisionConfig;
use wan_model::footprint::{self, Cpu, Evaluation, WeightBytes};
use wan_model::lora::FittedLora;
use wan_model::vae::{Half, StreamBytes, Tiling, Vae};
use wan_model::weights::Scope;
use wan_model::work::{self, Work};
use wan_plugin_api::Place;

use crate::checkpoint::loader::Loaded;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::model::plan::counted::Counted;
use crate::model::plan::{PlannedLine, PlannedPhase};
use crate::model::settings::Settings;
use crate::request::memory::EncoderPlace;
use crate::request::precision::Format;
use crate::request::residency::DecodingTime;

/// Tensors of the size of the latents that a round holds: the sample, what the model is given, its
/// velocities with and without guidance, the next sample, and what a sampler remembers.
const LATENT_COPIES: u64 = 8;

/// Bytes of a pixel of the four frames of a latent frame: numbers in f32 three times, then bytes.
const PIXEL_BYTES: u64 = 4 * 3 * (3 * 4 + 1);

/// What is known of a model's parts by their headers.
pub(super) struct ModelBytes<'m> {
    pub(super) files: BTreeMap<String, u64>,
    pub(super) text: WeightBytes,
    /// What the text encoder holds above its weights.
    text_activations: u64,
    pub(super) image: Option<(WeightBytes, &'m ClipVisionConfig)>,
    pub(super) transformers: Vec<WeightBytes>,
    vae: &'m Loaded<Vae>,
}

impl<'m> ModelBytes<'m> {
    /// Reads what is short of the VAE, and no other weight.
    pub(super) fn of(model: &'m Model, settings: &Settings) -> Result<Self> {
        let checkpoint = model.checkpoint();
        let bytes = |part: &str, compute: Format, loras: Vec<Arc<FittedLora>>| {
            let weights = checkpoint.weights(part)?.clone();
            let scope = Scope::shared(weights, DType::F32, model.device()).with_loras(loras);
            let network = checkpoint.network(part)?;
            Ok::<_, Error>(WeightBytes::of(network, &scope, compute.into())?)
        };
        let transformer = |(number, part): (usize, &&str)| {
            bytes(part, settings.precision.dtype, settings.loras.of_expert(number))
        };
        let image = match model.facts().intake().tokens {
            true => {
                let weights = bytes("image_encoder", Format::F32, Vec::new())?;
                Some((weights, checkpoint.image_encoder_config()?))
            }
            false => None,
        };
        let tokens = model.prompt_tokens(settings)?;
        let text = bytes("text_encoder", settings.text_encoder_dtype, Vec::new())?;
        let on = (Cpu::new(model.engine().kernels()), settings.text_encoder_dtype.into());
        let (config, widened) = (checkpoint.text_encoder_config()?, text.is_widened);
        let text_activations = footprint::text_encoder(config, tokens, (on.0, on.1, widened));
        let transformers = checkpoint.experts().iter().enumerate().map(transformer);
        Ok(Self {
            files: model.file_bytes()?,
            text,
            text_activations: text_activations as u64,
            image,
            transformers: transformers.collect::<Result<_>>()?,
            vae: model.vae(settings.vae_dtype)?,
        })
    }
}

/// The phases of a run.
pub(super) struct Phases<'a> {
    pub(super) model: &'a Model,
    pub(super) settings: &'a Settings,
    pub(super) counted: &'a Counted,
    pub(super) bytes: &'a ModelBytes<'a>,
}

/// Lines that are being written.
#[derive(Default)]
struct Lines(Vec<PlannedLine>);

impl Lines {
    fn add(&mut self, place: Place, what: impl Into<String>, bytes: u64) {
        if bytes > 0 {
            self.0.push(PlannedLine { what: what.into(), bytes, place });
        }
    }

    /// Weights of which some layers come and go.
    fn weights(&mut self, place: Place, what: &str, (stays, goes): (u64, u64)) {
        self.add(place, what, stays);
        self.add(place, format!("{what}: two layers at a time"), goes);
    }
}

impl Phases<'_> {
    /// All of them, in order.
    pub(super) fn all(&self) -> Vec<PlannedPhase> {
        let mut phases = vec![self.encode_text()];
        phases.extend(self.encode_image());
        phases.extend(self.encode_frames());
        for number in 0..self.counted.experts.len() {
            phases.extend(self.denoise(number));
        }
        if !self.settings.latents_only {
            if self.counted.windows > 1 && self.settings.residency.decoding != DecodingTime::AtEnd {
                phases.push(self.decode_between());
            }
            phases.push(self.decode());
        }
        phases
    }

    /// Where the device's memory is not main memory, what is in that.
    fn host(&self) -> Place {
        if self.model.device().is_cpu() { Place::Device } else { Place::Host }
    }

    fn cpu(&self) -> Cpu {
        Cpu::new(self.model.engine().kernels())
    }

    fn phase(&self, name: &'static str, mut lines: Lines) -> PlannedPhase {
        lines.add(Place::Device, "VAE: norms and biases", self.bytes.vae.bytes());
        PlannedPhase { name, lines: lines.0 }
    }

    fn encode_text(&self) -> PlannedPhase {
        let place = match self.settings.text_encoder_device {
            EncoderPlace::Device => Place::Device,
            EncoderPlace::Cpu => self.host(),
        };
        let mut lines = Lines::default();
        let weights = self.bytes.text.resident(self.settings.residency.streamed_text_layers);
        lines.weights(place, "text encoder", weights);
        lines.add(place, "activations", self.bytes.text_activations);
        lines.add(Place::Device, "prompts", self.prompt_bytes());
        self.phase("encode text", lines)
    }

    fn encode_image(&self) -> Option<PlannedPhase> {
        let (weights, config) = self.bytes.image.as_ref()?;
        let mut lines = Lines::default();
        let weights = weights.resident(self.settings.residency.streamed_image_layers);
        lines.weights(Place::Device, "image encoder", weights);
        let pictures = if self.model.facts().intake().both_ends { 2 } else { 1 };
        let activations = footprint::image_encoder(config, pictures, self.cpu());
        lines.add(Place::Device, "activations", activations as u64);
        lines.add(Place::Device, "prompts", self.prompt_bytes());
        Some(self.phase("encode image", lines))
    }

    fn encode_frames(&self) -> Option<PlannedPhase> {
        let (settings, facts) = (self.settings, self.model.facts());
        if settings.given_frames.is_empty() {
            return None;
        }
        let mut lines = Lines::default();
        self.vae(&mut lines, Half::Encoder);
        let size = (settings.height.get(), settings.width.get());
        let frames = match facts.intake().channels {
            true => settings.frame_num.get(),
            false => settings.given_frames.count(),
        };
        let bytes = self.bytes.vae.encoder_bytes((frames, size.0, size.1));
        match frames {
            1 => lines.add(Place::Device, "activations of the VAE", bytes.single as u64),
            _ => self.stream(&mut lines, bytes),
        }
        // Bytes, numbers, and the order that the network takes.
        let pixels = 3 * (frames * size.0 * size.1) as u64;
        lines.add(Place::Device, "pixels", pixels * (1 + 4 + 4));
        lines.add(Place::Device, "prompts", self.prompt_bytes());
        Some(self.phase("encode frames", lines))
    }

    fn denoise(&self, number: usize) -> Option<PlannedPhase> {
        if self.counted.experts[number].branches == 0 {
            return None;
        }
        let mut lines = Lines::default();
        self.transformers(&mut lines, number);
        let count = &self.counted.experts[number];
        let bytes = self.evaluation(number);
        lines.add(Place::Device, "streams between blocks", bytes.streams as u64);
        lines.add(Place::Device, "queries, keys and values", bytes.attention as u64);
        lines.add(Place::Device, "workspace of attention and layers", bytes.workspace as u64);
        lines.add(Place::Device, "time signals", count.signal_bytes);
        match self.settings.residency.decoding {
            DecodingTime::Kept if self.counted.windows > 1 => {
                self.vae(&mut lines, Half::Decoder);
            }
            DecodingTime::AtEnd => {
                let latents = self.model.latent_bytes(self.settings);
                lines.add(Place::Device, "latents until the end", latents);
            }
            _ => {}
        }
        let name = match (number, self.counted.experts.len()) {
            (_, 1) => "denoise",
            (0, _) => "denoise, high noise",
            _ => "denoise, low noise",
        };
        Some(self.phase(name, lines))
    }

    /// Transformer `number` with what a run keeps for it, and what is beside it.
    fn transformers(&self, lines: &mut Lines, number: usize) {
        let settings = self.settings;
        let residency = settings.residency;
        let all = self.bytes.transformers.iter().enumerate();
        for (other, weights) in all.filter(|(o, _)| *o == number || !residency.one_expert) {
            let what = if other == 0 { "transformer" } else { "transformer_2" };
            lines.weights(Place::Device, what, weights.resident(residency.streamed_blocks));
        }
        let count = &self.counted.experts[number];
        let context = self.evaluation(number).context as u64 * count.branches;
        lines.add(Place::Device, "keys and values of prompts", context);
        let place = match settings.cache_device {
            Place::Device => Place::Device,
            Place::Host => self.host(),
        };
        lines.add(place, "cache", count.cache_bytes);
        let window = count.window as u64 * self.model.latent_bytes(settings)
            / settings.size.frames.max(1) as u64;
        lines.add(
            Place::Device,
            "latents, velocities, the sampler's history",
            LATENT_COPIES * window,
        );
        lines.add(Place::Device, "conditions", self.prompt_bytes() + self.channel_bytes());
    }

    /// Tokens of the pictures that transformer `number` is given.
    fn image_tokens(&self, number: usize) -> usize {
        let of_both = self.model.facts().configs[number].pos_embed_seq_len;
        let of_one = self.bytes.image.as_ref().map(|(_, config)| config.tokens());
        of_both.or(of_one).unwrap_or(0)
    }

    fn evaluation(&self, number: usize) -> footprint::EvaluationBytes {
        let (facts, settings) = (self.model.facts(), self.settings);
        let config = &facts.configs[number];
        let window = self.counted.experts[number].window;
        let evaluation = Evaluation {
            tokens: facts.frame_tokens(settings.size) * window,
            text_tokens: self.model.checkpoint().max_sequence_length().get(),
            image_tokens: config.image_dim.map_or(0, |_| self.image_tokens(number)),
            on: self.cpu(),
            is_widened: self.bytes.transformers[number].is_widened,
        };
        evaluation.bytes(config, Numerics::from(settings.precision))
    }

    /// What the transformers compute: all evaluations, and the context of each prompt once an expert.
    /// What a cache would save is not taken off.
    pub(super) fn denoising(&self) -> Work {
        let text = self.model.checkpoint().max_sequence_length().get();
        let (facts, size) = (self.model.facts(), self.settings.size);
        let given = |number: usize| {
            let config = &facts.configs[number];
            let image = config.image_dim.map_or(0, |_| self.image_tokens(number));
            (config, (text, image))
        };
        let evaluations = self.counted.passes.iter().map(|((number, window), evaluations)| {
            let (config, given) = given(*number);
            work::evaluation(config, facts.frame_tokens(size) * window, given) * *evaluations
        });
        let contexts = self.counted.experts.iter().enumerate().map(|(number, expert)| {
            let (config, given) = given(number);
            work::context(config, given) * expert.branches
        });
        evaluations.chain(contexts).fold(Work::default(), Work::add)
    }

    /// What the VAE computes to decode the latents, without what tiles overlap.
    pub(super) fn decoding(&self) -> Work {
        let size = self.settings.latent_size();
        match self.settings.latents_only {
            true => Work::default(),
            false => self.bytes.vae.decoding((size.frames, size.height, size.width)),
        }
    }

    fn decode_between(&self) -> PlannedPhase {
        let mut lines = Lines::default();
        let busiest = (0..self.counted.experts.len())
            .max_by_key(|number| self.counted.experts[*number].cache_bytes)
            .unwrap_or(0);
        self.transformers(&mut lines, busiest);
        self.decoder(&mut lines);
        self.phase("decode between windows", lines)
    }

    fn decode(&self) -> PlannedPhase {
        let mut lines = Lines::default();
        self.decoder(&mut lines);
        lines.add(Place::Device, "latents", self.model.latent_bytes(self.settings));
        lines.add(Place::Device, "conditions", self.prompt_bytes() + self.channel_bytes());
        self.phase("decode", lines)
    }

    fn decoder(&self, lines: &mut Lines) {
        self.vae(lines, Half::Decoder);
        let size = self.settings.size;
        let tiling = self.settings.vae_tiling.then(Tiling::default);
        self.stream(lines, self.bytes.vae.decoder_bytes((size.height, size.width), tiling));
        let pixels = (self.settings.width.get() * self.settings.height.get()) as u64;
        lines.add(self.host(), "frames", PIXEL_BYTES * pixels);
    }

    fn vae(&self, lines: &mut Lines, half: Half) {
        let (two, all) = self.bytes.vae.turn_bytes(half);
        let what = if half == Half::Decoder { "VAE decoder" } else { "VAE encoder" };
        match self.settings.residency.streamed_vae {
            true => lines.weights(Place::Device, what, (0, two)),
            false => lines.weights(Place::Device, what, (all, 0)),
        }
    }

    fn stream(&self, lines: &mut Lines, bytes: StreamBytes) {
        let tiles = if self.settings.vae_tiling { ", of all tiles" } else { "" };
        let what = format!("frames that convolutions remember{tiles}");
        lines.add(Place::Device, what, bytes.held as u64);
        lines.add(Place::Device, "activations of the VAE", bytes.working as u64);
    }

    /// Prompts of all branches, `[1, T, text_dim]` each.
    fn prompt_bytes(&self) -> u64 {
        let config = &self.model.facts().configs[0];
        let tokens = self.model.checkpoint().max_sequence_length().get();
        let branches = self.counted.experts.iter().map(|expert| expert.branches).max();
        4 * branches.unwrap_or(1) * (tokens * config.text_dim) as u64
    }

    /// What is appended to the latents, `[1, Cc, F, H, W]`.
    fn channel_bytes(&self) -> u64 {
        let facts = self.model.facts();
        let channels = facts.configs[0].in_channels.saturating_sub(facts.vae.z_dim) as u64;
        self.model.latent_bytes(self.settings) / facts.vae.z_dim as u64 * channels
    }
}
