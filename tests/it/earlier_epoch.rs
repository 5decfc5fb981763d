//! A plugin that was built for an earlier epoch goes on to work in today's host.
//!
//! `Plugin0` is all that a host has to keep of an epoch: its frozen types, and their translation
//! into today's.

use std::path::Path;

use abi_stable::library::lib_header_from_path;
use abi_stable::sabi_trait::prelude::TD_Opaque;
use abi_stable::sabi_types::RMut;
use abi_stable::std_types::{RErr, ROk, RString};
use wan_host::parts::{Kind, Registry};
use wan_plugin_api::library::{
    AnyLibrary, AnySampler, CacheInstance, Epoch, Library, OpenError, SamplerInstance,
};
use wan_plugin_api::manifest::{FLAVOUR_RUST, Manifest};
use wan_plugin_api::{
    Attention, CacheContext, Denoise, Error, FrameLevel, Message, OptionValues, PluginDescription,
    Result, Round, SampleRequest, Schedule, Step, Strategy, Tensor, TensorOps, term,
};
use wan_plugin_epoch0::{self as epoch0, Answer, PluginModule, SamplerBox, TensorHandle};

use crate::support::{
    choice, demo_model_with, fixture, latent_bits, registry, short_request, with_cache,
    with_sampler,
};

const EPOCH_0: Epoch = Epoch { number: 0, flavour: FLAVOUR_RUST, open };

fn open(path: &Path, _: &Manifest) -> std::result::Result<Library, OpenError> {
    lib_header_from_path(path)
        .and_then(|header| header.init_root_module::<PluginModule>())
        .map(|module| Library::new(Plugin0(module)))
        .map_err(|e| OpenError { summary: "another layout".into(), report: e.to_string() })
}

struct Plugin0(PluginModule);

impl AnyLibrary for Plugin0 {
    fn describe(&self) -> Result<PluginDescription> {
        let sampler = Strategy {
            id: self.0.id()().into(),
            doc: "a sampler of epoch 0".into(),
            options: Vec::new(),
            extensions: Vec::new(),
        };
        Ok(PluginDescription {
            name: "fixture".into(),
            version: "0.1.0".into(),
            licence: "Apache-2.0".into(),
            samplers: vec![sampler],
            caches: Vec::new(),
            solvers: Vec::new(),
        })
    }

    fn create_sampler(
        &self,
        _: &str,
        _: &OptionValues,
        request: &SampleRequest,
    ) -> Result<SamplerInstance> {
        if request.prefix_frames > 0 {
            return Err(Error::invalid("a sampler of epoch 0 knows no given frames"));
        }
        let sampler = from_epoch0(self.0.create()(request.steps, request.shift))?;
        Ok(Box::new(Sampler0 { sampler, frames: request.frames }))
    }

    fn create_cache(&self, id: &str, _: &OptionValues, _: &CacheContext) -> Result<CacheInstance> {
        Err(Error::unsupported(format!("epoch 0 has no caches, {id} neither")))
    }
}

struct Sampler0 {
    sampler: SamplerBox,
    frames: u32,
}

impl AnySampler for Sampler0 {
    fn schedule_from(&self, _: usize) -> Result<Schedule> {
        let round = |level: &epoch0::Level| Round {
            levels: (0..self.frames)
                .map(|f| FrameLevel::moving(f, level.timestep, level.sigma, level.sigma_next))
                .collect(),
            attention: Attention::Bidirectional,
            evaluations: 1,
        };
        Ok(self.sampler.levels().iter().map(round).collect::<Vec<_>>().into())
    }

    fn step(
        &mut self,
        sample: &Tensor,
        step: &Step<'_>,
        model: &mut dyn Denoise,
        ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        let mut host = Host0 { model, ops, levels: &step.round.levels };
        let host = epoch0::Host_TO::from_ptr(RMut::new(&mut host), TD_Opaque);
        let stepped = self.sampler.step(&handle(sample.clone()), step.index as u32, host);
        tensor(&from_epoch0(stepped)?).cloned()
    }

    fn extension(&mut self, id: &str, _: Message, _: &dyn TensorOps) -> Result<Message> {
        Err(Error::unsupported(format!("epoch 0 has no extensions, {id} neither")))
    }
}

/// Today's host in the words of epoch 0.
struct Host0<'a> {
    model: &'a mut dyn Denoise,
    ops: &'a dyn TensorOps,
    levels: &'a [FrameLevel],
}

impl epoch0::Host for Host0<'_> {
    fn velocity(&mut self, sample: &TensorHandle, timestep: f64) -> Answer<TensorHandle> {
        let levels: Vec<_> =
            self.levels.iter().map(|level| FrameLevel { timestep, ..*level }).collect();
        to_epoch0(tensor(sample).and_then(|sample| self.model.velocity(sample, &levels)))
    }

    fn add_scaled(&self, a: &TensorHandle, scale: f64, b: &TensorHandle) -> Answer<TensorHandle> {
        let sum = || self.ops.combine(&[term(1.0, tensor(a)?), term(scale, tensor(b)?)]);
        to_epoch0(sum())
    }
}

/// Today's tensor behind a handle of epoch 0.
struct Tensor0(Tensor);

impl epoch0::Tensor for Tensor0 {
    fn elements(&self) -> u64 {
        self.0.form().elements()
    }
}

fn handle(tensor: Tensor) -> TensorHandle {
    epoch0::wrap(Tensor0(tensor))
}

fn tensor(handle: &TensorHandle) -> Result<&Tensor> {
    let ours = epoch0::unwrap::<Tensor0>(handle).map(|tensor| &tensor.0);
    ours.ok_or_else(|| Error::invalid("a tensor that this host did not make"))
}

fn from_epoch0<T>(answer: Answer<T>) -> Result<T> {
    answer.into_result().map_err(|message| Error::failed(message.into_string()))
}

fn to_epoch0(result: Result<Tensor>) -> Answer<TensorHandle> {
    match result {
        Ok(tensor) => ROk(handle(tensor)),
        Err(error) => RErr(RString::from(error.message)),
    }
}

#[test]
fn a_plugin_of_an_earlier_epoch_generates() {
    let mut registry = registry();
    registry.speak(EPOCH_0);
    registry.add_file(&fixture("epoch0_euler")).unwrap();
    // Beside it, plugins of the current epoch load as ever.
    registry.add_file(&fixture("extension")).unwrap();
    assert_eq!(registry.plugins().filter(|p| p.epoch == 0).count(), 1);
    assert!(registry.strategies(Kind::Sampler).any(|s| s.id == "euler-of-epoch-0"));

    let model = demo_model_with(registry);
    let by = |sampler| with_sampler(short_request(), sampler);
    let by_earlier = by(choice("euler-of-epoch-0", &[]));
    let earlier = latent_bits(&model, &by_earlier);
    // The current Euler has the same grid, in f32.
    let current = latent_bits(&model, &by(choice("euler", &[("timesteps", "wan".into())])));
    assert!(relative_distance(&earlier, &current) < 1e-4);
    // A cache of the current epoch under a sampler of the earlier one.
    let cache = choice("forecast", &[("threshold", 0.5.into()), ("retention", 1.into())]);
    let cached = latent_bits(&model, &with_cache(by_earlier, cache));
    let cached = relative_distance(&cached, &earlier);
    assert!(cached > 0.0 && cached < 0.5, "{cached}");
}

/// `sum |a - b| / sum |b|`: reuses move a few numbers far, which a largest difference is made of.
fn relative_distance(a: &[u32], b: &[u32]) -> f32 {
    let pairs = a.iter().zip(b).map(|(a, b)| (f32::from_bits(*a), f32::from_bits(*b)));
    let (distance, size) =
        pairs.fold((0.0, 0.0), |(d, s), (a, b)| (d + (a - b).abs(), s + b.abs()));
    distance / size
}

#[test]
fn a_host_that_does_not_speak_an_epoch_says_which_it_does() {
    let error = Registry::default().add_file(&fixture("epoch0_euler")).unwrap_err().to_string();
    assert!(error.contains("epoch 0, this host speaks 1;"), "{error}");
    let mut registry = Registry::default();
    registry.speak(EPOCH_0);
    let error = registry.add_file(&fixture("wrong_epoch")).unwrap_err().to_string();
    assert!(error.contains("epoch 99, this host speaks 1 and 0;"), "{error}");
}
