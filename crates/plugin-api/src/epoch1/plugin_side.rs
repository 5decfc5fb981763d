//! The plugin's side: an author's traits behind objects of the binary interface. Every panic is
//! caught.

use std::sync::Mutex;

use super::convert::{
    from_abi, from_json, handle, message_from_abi, message_to_abi, to_abi, to_json,
};
use super::*;
use crate::c::{CacheTable, SamplerTable};
use crate::guard::{Guarded, guard};
use crate::sampler::part_of_schedule;
use crate::{
    Action, Attention, Cache, Choice, Coefficients, DType, Denoise, Evaluation, LogLevel, Message,
    Place, Result, Round, Sampler, Signal, Step, Strategy, Tensor, TensorOps, Term,
};

struct SamplerObject<S: Sampler>(Guarded<S>);

impl<S: Sampler> AbiSampler for SamplerObject<S> {
    fn schedule(&self, from_round: u64) -> AbiResult<RString> {
        let written = guard(S::ID, || to_json(&part_of_schedule(self.0.get(), from_round)?));
        to_abi(written, |s| s)
    }

    fn step(
        &mut self,
        sample: &TensorHandle,
        step: AbiStep<'_>,
        model: DenoiseRef<'_>,
        ops: OpsRef<'_>,
    ) -> AbiResult<TensorHandle> {
        let attention = Attention::of_blocks(step.attention_block);
        let levels = step.levels.to_vec();
        let round = Round { levels, attention, evaluations: step.evaluations };
        let place = Step {
            index: step.index as usize,
            evaluation: step.evaluation,
            evaluations_left: step.evaluations_left,
            round: &round,
        };
        let sample = Tensor(share(sample));
        let stepped = guard(S::ID, || {
            self.0.get_mut().step(&sample, &place, &mut RemoteModel(model), &RemoteOps::new(ops))
        });
        to_abi(stepped, handle)
    }

    fn extension(
        &mut self,
        id: RStr<'_>,
        message: AbiMessage,
        ops: OpsRef<'_>,
    ) -> AbiResult<AbiMessage> {
        let (message, ops) = (message_from_abi(message), RemoteOps::new(ops));
        let answer = guard(S::ID, || self.0.get_mut().extension(id.as_str(), message, &ops));
        to_abi(answer, message_to_abi)
    }
}

struct CacheObject<C: Cache>(Guarded<C>);

impl<C: Cache> AbiCache for CacheObject<C> {
    fn plan(&self) -> AbiResult<RString> {
        to_abi(guard(C::ID, || to_json(&self.0.get().plan())), |s| s)
    }

    fn decide(&mut self, evaluation: AbiEvaluation<'_>, ops: OpsRef<'_>) -> AbiResult<AbiDecision> {
        let signals: Vec<(Signal, Tensor)> = evaluation
            .signals
            .iter()
            .filter_map(|s| Some((Signal::from_code(s.kind)?, Tensor(share(&s.tensor)))))
            .collect();
        let plain = Evaluation {
            index: evaluation.index,
            remaining: evaluation.remaining,
            leader: Choice::from_code(evaluation.leader),
            levels: evaluation.levels.as_slice(),
            computes: evaluation.computes,
            signals: &signals,
        };
        let decided = guard(C::ID, || self.0.get_mut().decide(&plain, &RemoteOps::new(ops)));
        to_abi(decided, |decision| {
            let (reuse, keep) = match decision.action {
                Action::Compute { keep } => (RVec::new(), keep),
                Action::Reuse(tensor) => ([handle(tensor)].into_iter().collect(), false),
            };
            AbiDecision { reuse, keep, measured: decision.measured.into() }
        })
    }

    fn store(&mut self, computed: &TensorHandle, ops: OpsRef<'_>) -> AbiResult<()> {
        let computed = Tensor(share(computed));
        let stored = guard(C::ID, || self.0.get_mut().store(&computed, &RemoteOps::new(ops)));
        to_abi(stored, |()| ())
    }

    fn extension(
        &mut self,
        id: RStr<'_>,
        message: AbiMessage,
        ops: OpsRef<'_>,
    ) -> AbiResult<AbiMessage> {
        let (message, ops) = (message_from_abi(message), RemoteOps::new(ops));
        let answer = guard(C::ID, || self.0.get_mut().extension(id.as_str(), message, &ops));
        to_abi(answer, message_to_abi)
    }
}

/// The host's model, seen from the plugin.
struct RemoteModel<'a>(DenoiseRef<'a>);

impl Denoise for RemoteModel<'_> {
    fn velocity(&mut self, sample: &Tensor, levels: &[FrameLevel]) -> Result<Tensor> {
        from_abi(self.0.velocity(&sample.0, levels.into())).map(Tensor)
    }
}

/// The host's operations, seen from the plugin.
///
/// The object is borrowed mutably at the boundary, so a lock serialises the calls.
struct RemoteOps<'a>(Mutex<OpsRef<'a>>);

impl<'a> RemoteOps<'a> {
    fn new(ops: OpsRef<'a>) -> Self {
        Self(Mutex::new(ops))
    }

    fn call<T>(&self, call: impl FnOnce(&OpsRef<'a>) -> AbiResult<T>) -> Result<T> {
        let ops = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        from_abi(call(&ops))
    }
}

impl TensorOps for RemoteOps<'_> {
    fn combine(&self, terms: &[Term<'_>]) -> Result<Tensor> {
        terms.iter().try_for_each(Term::check)?;
        let terms: Vec<AbiTerm<'_>> = terms
            .iter()
            .map(|term| AbiTerm {
                tensor: &term.tensor.0,
                coefficients: match &term.coefficients {
                    Coefficients::All(one) => std::slice::from_ref(one).into(),
                    Coefficients::PerFrame(many) => (*many).into(),
                },
            })
            .collect();
        self.call(|ops| ops.combine(terms.as_slice().into())).map(Tensor)
    }

    fn frame_abs_sums(&self, a: &Tensor) -> Result<Vec<f64>> {
        self.call(|ops| ops.frame_abs_sums(&a.0)).map(RVec::into_vec)
    }

    fn frame_abs_diffs(&self, a: &Tensor, b: &Tensor) -> Result<Vec<f64>> {
        self.call(|ops| ops.frame_abs_diffs(&a.0, &b.0)).map(RVec::into_vec)
    }

    fn noise_like(&self, like: &Tensor, stream: u64, index: u64) -> Result<Tensor> {
        self.call(|ops| ops.noise_like(&like.0, stream, index)).map(Tensor)
    }

    fn narrow_frames(&self, a: &Tensor, start: usize, len: usize) -> Result<Tensor> {
        let [start, len] = [start, len].map(|count| {
            u32::try_from(count).map_err(|_| {
                let frames = a.form().frames;
                crate::Error::failed(format!("narrow_frames: {count} of {frames} frames"))
            })
        });
        let (start, len) = (start?, len?);
        self.call(|ops| ops.narrow_frames(&a.0, start, len)).map(Tensor)
    }

    fn cat_frames(&self, parts: &[&Tensor]) -> Result<Tensor> {
        let parts: Vec<&TensorHandle> = parts.iter().map(|p| &p.0).collect();
        self.call(|ops| ops.cat_frames(parts.as_slice().into())).map(Tensor)
    }

    fn cast(&self, a: &Tensor, dtype: DType) -> Result<Tensor> {
        self.call(|ops| ops.cast(&a.0, dtype as u32)).map(Tensor)
    }

    fn move_to(&self, a: &Tensor, place: Place) -> Result<Tensor> {
        self.call(|ops| ops.move_to(&a.0, place as u32)).map(Tensor)
    }

    fn read(&self, a: &Tensor) -> Result<Vec<f32>> {
        self.call(|ops| ops.read(&a.0)).map(RVec::into_vec)
    }

    fn write_like(&self, like: &Tensor, elements: &[f32]) -> Result<Tensor> {
        self.call(|ops| ops.write_like(&like.0, elements.into())).map(Tensor)
    }

    fn cancelled(&self) -> bool {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).cancelled()
    }

    fn log(&self, level: LogLevel, text: &str) {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).log(level as u32, text.into());
    }

    fn extension(&self, id: &str, message: Message) -> Result<Message> {
        self.call(|ops| ops.extension(id.into(), message_to_abi(message))).map(message_from_abi)
    }
}

/// Describes and makes one sampler.
pub struct SamplerFactory {
    pub(super) strategy: fn() -> Strategy,
    pub(super) create: fn(&str, &str) -> Result<SamplerBox>,
    pub(crate) table: fn() -> SamplerTable,
}

impl SamplerFactory {
    /// The factory of `S`.
    pub fn of<S: Sampler>() -> Self {
        Self {
            strategy: || Strategy {
                id: S::ID.into(),
                doc: S::DOC.into(),
                options: S::options(),
                extensions: S::extensions(),
            },
            create: |options, request| {
                let sampler = S::new(from_json(S::ID, options)?, &from_json(S::ID, request)?)?;
                let object = SamplerObject(Guarded::new(sampler));
                Ok(AbiSampler_TO::from_value(object, TD_Opaque))
            },
            table: SamplerTable::of::<S>,
        }
    }
}

/// Describes and makes one cache.
pub struct CacheFactory {
    pub(super) strategy: fn() -> Strategy,
    pub(super) create: fn(&str, &str) -> Result<CacheBox>,
    pub(crate) table: fn() -> CacheTable,
}

impl CacheFactory {
    /// The factory of `C`.
    pub fn of<C: Cache>() -> Self {
        Self {
            strategy: || Strategy {
                id: C::ID.into(),
                doc: C::DOC.into(),
                options: C::options(),
                extensions: C::extensions(),
            },
            create: |options, context| {
                let cache = C::new(from_json(C::ID, options)?, &from_json(C::ID, context)?)?;
                let object = CacheObject(Guarded::new(cache));
                Ok(AbiCache_TO::from_value(object, TD_Opaque))
            },
            table: CacheTable::of::<C>,
        }
    }
}
