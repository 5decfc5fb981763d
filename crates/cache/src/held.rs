//! The tensors that a cache keeps between two calls, and their bytes.

use wan_plugin_api::{
    CacheContext, CachePlan, DType, Place, Replaces, Result, Signal, Tensor, TensorForm, TensorOps,
};

/// How many tensors of each kind a cache keeps at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// Copies of the signal that it reads.
    pub signals: u64,
    /// Tensors that `store` received.
    pub computed: u64,
}

/// The number formats of kept tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Formats {
    pub(crate) signal: DType,
    pub(crate) computed: DType,
}

impl Formats {
    /// The formats in which the host provides them: latents and outputs are always f32.
    pub(crate) fn of_host(plan: &CachePlan, context: &CacheContext) -> Self {
        let signal = match plan.reads.first() {
            Some(Signal::TimeEmbedding | Signal::TimeProjection) => context.signal_dtype,
            Some(Signal::Hidden | Signal::Probe) => context.dtype,
            Some(Signal::Sample) | None => DType::F32,
        };
        let computed = match plan.replaces {
            Replaces::Residual => context.dtype,
            Replaces::OutputDelta => DType::F32,
        };
        Self { signal, computed }
    }
}

impl Held {
    /// Bytes of all kept tensors.
    pub(crate) fn bytes(self, plan: &CachePlan, context: &CacheContext, formats: Formats) -> u64 {
        let in_format =
            |dtype: DType| CacheContext { dtype, signal_dtype: dtype, ..context.clone() };
        let output = u64::from(context.frames) * context.frame_output_elements;
        let signal = match plan.reads.first() {
            None => 0,
            Some(Signal::Sample) => output * formats.signal.bytes(),
            Some(other) => in_format(formats.signal).signal_bytes(*other),
        };
        let computed = match plan.replaces {
            Replaces::Residual => in_format(formats.computed).residual_bytes(),
            Replaces::OutputDelta => output * formats.computed.bytes(),
        };
        self.signals * signal + self.computed * computed
    }

    /// `plan` with `bytes_max` for tensors kept at full width.
    pub(crate) fn declare(self, plan: CachePlan, context: &CacheContext) -> CachePlan {
        let bytes_max = self.bytes(&plan, context, Formats::of_host(&plan, context));
        CachePlan { bytes_max, ..plan }
    }
}

/// Whether a kept tensor has the shape that is needed now.
pub(crate) fn fits(kept: &Tensor, needed: TensorForm) -> bool {
    kept.form().same_shape(needed)
}

/// `signal` in `place`: the same handle if it is there already, else a moved copy.
pub(crate) fn keep(signal: &Tensor, place: Place, ops: &dyn TensorOps) -> Result<Tensor> {
    if signal.form().place() == place { Ok(signal.clone()) } else { ops.move_to(signal, place) }
}
