//! The host's side: libraries, samplers and caches as ordinary Rust objects.

use std::path::Path;

use abi_stable::library::lib_header_from_path;

use super::convert::{
    BORROWED, from_abi, from_json, handle, message_from_abi, message_to_abi, opaque, to_abi,
    to_json,
};
use super::*;
use crate::guard::guard_host;
use crate::library::{
    AnyCache, AnyLibrary, AnySampler, CacheInstance, Epoch, Library, OpenError, SamplerInstance,
};
use crate::manifest::{FLAVOUR_RUST, Manifest};
use crate::{
    Action, CacheContext, CachePlan, Coefficients, DType, Decision, Denoise, Error, Evaluation,
    LogLevel, Message, OptionValues, Place, PluginDescription, Result, SampleRequest, Schedule,
    Step, Tensor, TensorOps, Term,
};

/// How a library of this epoch is opened.
pub const OPENER: Epoch = Epoch { number: NUMBER, flavour: FLAVOUR_RUST, open };

fn open(path: &Path, _: &Manifest) -> std::result::Result<Library, OpenError> {
    lib_header_from_path(path)
        .and_then(|header| header.init_root_module::<PluginModule>())
        .map(Library::new)
        .map_err(|error| open_error(&error.to_string()))
}

/// Takes the `Error:` lines out of abi_stable's report, which prints both layouts in full.
fn open_error(report: &str) -> OpenError {
    let mut errors: Vec<&str> = report
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Error:"))
        .map(str::trim)
        .collect();
    errors.dedup();
    let summary = match errors.first() {
        Some(first) => format!("its layout differs from this host's ({first})"),
        None => report.split_whitespace().collect::<Vec<_>>().join(" "),
    };
    OpenError { summary, report: report.into() }
}

/// A document that a plugin has written: if it cannot be read, the plugin has failed.
fn read_answer<T: serde::de::DeserializeOwned>(what: &str, text: &str) -> Result<T> {
    from_json(what, text).map_err(|error| Error::failed(error.message))
}

impl AnyLibrary for PluginModule {
    fn describe(&self) -> Result<PluginDescription> {
        read_answer("plugin description", &from_abi(PluginModule::describe(self)())?)
    }

    fn create_sampler(
        &self,
        id: &str,
        options: &OptionValues,
        request: &SampleRequest,
    ) -> Result<SamplerInstance> {
        let (options, request) = (to_json(options)?, to_json(request)?);
        let create = PluginModule::create_sampler(self);
        let sampler = from_abi(create(id.into(), options.as_rstr(), request.as_rstr()))?;
        Ok(Box::new(sampler))
    }

    fn create_cache(
        &self,
        id: &str,
        options: &OptionValues,
        context: &CacheContext,
    ) -> Result<CacheInstance> {
        let (options, context) = (to_json(options)?, to_json(context)?);
        let create = PluginModule::create_cache(self);
        let cache = from_abi(create(id.into(), options.as_rstr(), context.as_rstr()))?;
        let plan = read_answer("cache plan", &from_abi(cache.plan())?)?;
        Ok(Box::new(PlannedCache { cache, plan }))
    }
}

impl AnySampler for SamplerBox {
    fn schedule_from(&self, round: usize) -> Result<Schedule> {
        read_answer("schedule", &from_abi(SamplerBox::schedule(self, round as u64))?)
    }

    fn step(
        &mut self,
        sample: &Tensor,
        step: &Step<'_>,
        model: &mut dyn Denoise,
        ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        let abi_step = AbiStep {
            index: u32::try_from(step.index).unwrap_or(u32::MAX),
            evaluation: step.evaluation,
            evaluations_left: step.evaluations_left,
            evaluations: step.round.evaluations,
            attention_block: step.round.attention.block_frames(),
            levels: step.round.levels.as_slice().into(),
        };
        let mut model = LocalModel(model);
        let mut ops = LocalOps(ops);
        from_abi(SamplerBox::step(
            self,
            &sample.0,
            abi_step,
            AbiDenoise_TO::from_ptr(opaque(&mut model), BORROWED),
            AbiOps_TO::from_ptr(opaque(&mut ops), BORROWED),
        ))
        .map(Tensor)
    }

    fn extension(&mut self, id: &str, message: Message, ops: &dyn TensorOps) -> Result<Message> {
        let mut ops = LocalOps(ops);
        let ops = AbiOps_TO::from_ptr(opaque(&mut ops), BORROWED);
        from_abi(SamplerBox::extension(self, id.into(), message_to_abi(message), ops))
            .map(message_from_abi)
    }
}

struct PlannedCache {
    cache: CacheBox,
    plan: CachePlan,
}

impl AnyCache for PlannedCache {
    fn plan(&self) -> &CachePlan {
        &self.plan
    }

    fn decide(&mut self, evaluation: &Evaluation<'_>, ops: &dyn TensorOps) -> Result<Decision> {
        let signals: Vec<AbiSignal> = evaluation
            .signals
            .iter()
            .map(|(kind, tensor)| AbiSignal { kind: *kind as u32, tensor: share(&tensor.0) })
            .collect();
        let abi = AbiEvaluation {
            index: evaluation.index,
            remaining: evaluation.remaining,
            leader: evaluation.leader.map_or(0, |choice| choice as u32),
            levels: evaluation.levels.into(),
            computes: evaluation.computes,
            signals: signals.as_slice().into(),
        };
        let mut ops = LocalOps(ops);
        let ops = AbiOps_TO::from_ptr(opaque(&mut ops), BORROWED);
        let decision = from_abi(self.cache.decide(abi, ops))?;
        let action = match decision.reuse.into_iter().next() {
            Some(tensor) => Action::Reuse(Tensor(tensor)),
            None => Action::Compute { keep: decision.keep },
        };
        Ok(Decision { action, measured: decision.measured.into_vec() })
    }

    fn store(&mut self, computed: &Tensor, ops: &dyn TensorOps) -> Result<()> {
        let mut ops = LocalOps(ops);
        let ops = AbiOps_TO::from_ptr(opaque(&mut ops), BORROWED);
        from_abi(self.cache.store(&computed.0, ops))
    }

    fn extension(&mut self, id: &str, message: Message, ops: &dyn TensorOps) -> Result<Message> {
        let mut ops = LocalOps(ops);
        let ops = AbiOps_TO::from_ptr(opaque(&mut ops), BORROWED);
        from_abi(self.cache.extension(id.into(), message_to_abi(message), ops))
            .map(message_from_abi)
    }
}

/// The host's model as an object of the binary interface.
struct LocalModel<'a>(&'a mut dyn Denoise);

impl AbiDenoise for LocalModel<'_> {
    fn velocity(
        &mut self,
        sample: &TensorHandle,
        levels: RSlice<'_, FrameLevel>,
    ) -> AbiResult<TensorHandle> {
        let velocity =
            guard_host("velocity", || self.0.velocity(&Tensor(share(sample)), levels.as_slice()));
        to_abi(velocity, handle)
    }
}

/// The host's operations as an object of the binary interface.
struct LocalOps<'a>(&'a dyn TensorOps);

impl AbiOps for LocalOps<'_> {
    fn combine(&self, terms: RSlice<'_, AbiTerm<'_>>) -> AbiResult<TensorHandle> {
        let tensors: Vec<Tensor> = terms.iter().map(|t| Tensor(share(t.tensor))).collect();
        let terms: Vec<Term<'_>> = terms
            .iter()
            .zip(&tensors)
            .map(|(term, tensor)| Term {
                tensor,
                coefficients: match term.coefficients.as_slice() {
                    [one] => Coefficients::All(*one),
                    many => Coefficients::PerFrame(many),
                },
            })
            .collect();
        to_abi(guard_host("combine", || self.0.combine(&terms)), handle)
    }

    fn frame_abs_sums(&self, a: &TensorHandle) -> AbiResult<RVec<f64>> {
        let sums = guard_host("frame_abs_sums", || self.0.frame_abs_sums(&Tensor(share(a))));
        to_abi(sums, RVec::from)
    }

    fn frame_abs_diffs(&self, a: &TensorHandle, b: &TensorHandle) -> AbiResult<RVec<f64>> {
        let (a, b) = (Tensor(share(a)), Tensor(share(b)));
        to_abi(guard_host("frame_abs_diffs", || self.0.frame_abs_diffs(&a, &b)), RVec::from)
    }

    fn noise_like(&self, like: &TensorHandle, stream: u64, index: u64) -> AbiResult<TensorHandle> {
        let like = Tensor(share(like));
        to_abi(guard_host("noise_like", || self.0.noise_like(&like, stream, index)), handle)
    }

    fn narrow_frames(&self, a: &TensorHandle, start: u32, len: u32) -> AbiResult<TensorHandle> {
        let a = Tensor(share(a));
        let (start, len) = (start as usize, len as usize);
        to_abi(guard_host("narrow_frames", || self.0.narrow_frames(&a, start, len)), handle)
    }

    fn cat_frames(&self, parts: RSlice<'_, &TensorHandle>) -> AbiResult<TensorHandle> {
        let parts: Vec<Tensor> = parts.iter().map(|p| Tensor(share(p))).collect();
        let parts: Vec<&Tensor> = parts.iter().collect();
        to_abi(guard_host("cat_frames", || self.0.cat_frames(&parts)), handle)
    }

    fn cast(&self, a: &TensorHandle, dtype: u32) -> AbiResult<TensorHandle> {
        let dtype = DType::from_code(dtype)
            .ok_or_else(|| Error::unsupported(format!("no number format {dtype}")));
        let a = Tensor(share(a));
        to_abi(dtype.and_then(|d| guard_host("cast", || self.0.cast(&a, d))), handle)
    }

    fn move_to(&self, a: &TensorHandle, place: u32) -> AbiResult<TensorHandle> {
        let place = match place {
            1 => Ok(Place::Device),
            2 => Ok(Place::Host),
            other => Err(Error::unsupported(format!("no place {other}"))),
        };
        let a = Tensor(share(a));
        to_abi(place.and_then(|p| guard_host("move_to", || self.0.move_to(&a, p))), handle)
    }

    fn read(&self, a: &TensorHandle) -> AbiResult<RVec<f32>> {
        to_abi(guard_host("read", || self.0.read(&Tensor(share(a)))), RVec::from)
    }

    fn write_like(
        &self,
        like: &TensorHandle,
        elements: RSlice<'_, f32>,
    ) -> AbiResult<TensorHandle> {
        let like = Tensor(share(like));
        to_abi(guard_host("write_like", || self.0.write_like(&like, elements.as_slice())), handle)
    }

    fn cancelled(&self) -> bool {
        guard_host("cancelled", || Ok(self.0.cancelled())).unwrap_or(false)
    }

    fn log(&self, level: u32, text: RStr<'_>) {
        let logged = guard_host("log", || {
            self.0.log(LogLevel::from_code(level), text.as_str());
            Ok(())
        });
        // A line that cannot be written is nothing that a plugin could mend.
        drop(logged);
    }

    fn extension(&self, id: RStr<'_>, message: AbiMessage) -> AbiResult<AbiMessage> {
        let message = message_from_abi(message);
        let answer = guard_host("extension", || self.0.extension(id.as_str(), message));
        to_abi(answer, message_to_abi)
    }
}
