//! Half memory: any cache, keeping its tensors at half width.
//!
//! The wrapper casts what it passes to the wrapped cache: f32 to bf16, 16-bit floats to f8 e4m3
//! with one scale per frame. The wrapped cache never has the full width, so it cannot keep it. `u`
//! is the largest relative error of one rounding: 2^-8 for bf16, 2^-4 for f8 e4m3.
//!
//! - **Computed tensors** (what `store` receives): a schedule-only cache decides the same, because
//!   its decisions do not depend on them. Each element differs by at most `u |r|` (in f8: or by
//!   half of the smallest step, 2^-10 of the frame's scale). A forecast `sum w_j r_j` is combined
//!   at full width from halved tensors, so it differs by at most `u sum |w_j r_j|`.
//! - **Signals**: both sides of a comparison are rounded, so an unchanged signal still shows no
//!   change, and rounding errors have no preferred sign. (Compared with a full-width side, the
//!   rounding of the kept one would look like a change.) With `N = sum |a - b|`, `A = sum |a|`,
//!   `B = sum |b|` the relative change `N / B` lies between
//!   `(N - u (A + B)) / (B (1 + u))` and `(N + u (A + B)) / (B (1 - u))`.
//! - **EasyCache** divides by the size of an output that it rebuilds as sample + difference, so
//!   `|x - x'| / |v|` lies between `(N - u (A + B)) / (V + w)` and
//!   `(N + u (A + B)) / (V - w)` with `V = sum |v|`, `w = u sum (|x| + |v - x|)`.

use serde::Deserialize;
use wan_plugin_api::extensions::STATE;
use wan_plugin_api::state::{self, Saved, State};
use wan_plugin_api::{
    Cache, CacheContext, CachePlan, DType, Decision, Error, Evaluation, HalfOf, Message,
    OptionSpec, Result, Signal, Tensor, TensorOps,
};

use crate::held::{Formats, Held};

/// A cache that has a half-width variant.
pub trait Halved: Cache + State {
    /// Id of the half-width variant.
    const HALF_ID: &'static str;
    /// One line for `wan plugins list`.
    const HALF_DOC: &'static str;

    /// The tensors that it keeps at most between two calls.
    fn held(&self) -> Held;
}

/// Options of the wrapped cache, and `store`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct HalfOptions<T> {
    /// What is kept at half width.
    pub store: Store,
    /// Options of the wrapped cache.
    #[serde(flatten)]
    pub inner: T,
}

/// Which tensors are kept at half width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Store {
    /// What [`Cache::store`] receives.
    Residual,
    /// The signals.
    Signal,
    /// Both.
    Both,
}

/// `C` at half width.
pub struct HalfMemory<C> {
    inner: C,
    store: Store,
    plan: CachePlan,
}

/// The number format of half the width; 8-bit floats stay as they are.
fn half(dtype: DType) -> DType {
    match dtype {
        DType::F32 => DType::BF16,
        DType::BF16 | DType::F16 | DType::F8E4M3 => DType::F8E4M3,
    }
}

fn halve(tensor: &Tensor, ops: &dyn TensorOps) -> Result<Tensor> {
    let dtype = tensor.form().dtype().unwrap_or(DType::F32);
    ops.cast(tensor, half(dtype))
}

impl<C: Halved> Cache for HalfMemory<C> {
    type Options = HalfOptions<C::Options>;
    const ID: &'static str = C::HALF_ID;
    const DOC: &'static str = C::HALF_DOC;

    fn options() -> Vec<OptionSpec> {
        let choices = ["residual", "signal", "both"];
        let store = OptionSpec::choice("store", &choices, "what is kept at half width");
        [vec![store], C::options()].concat()
    }

    fn extensions() -> Vec<String> {
        C::extensions()
    }

    fn new(options: Self::Options, context: &CacheContext) -> Result<Self> {
        let store = options.store;
        let inner = C::new(options.inner, context)?;
        let mut plan = inner.plan();
        if store == Store::Signal && plan.reads.is_empty() {
            return Err(Error::invalid(format!(
                "{} reads no signal that store = signal could halve; take store = residual",
                C::ID
            )));
        }
        let mut formats = Formats::of_host(&plan, context);
        if store != Store::Residual {
            formats.signal = half(formats.signal);
        }
        if store != Store::Signal {
            formats.computed = half(formats.computed);
        }
        plan.bytes_max = inner.held().bytes(&plan, context, formats);
        plan.rule.half_of = Some(HalfOf {
            cache: C::ID.into(),
            signals: store != Store::Residual,
            computed: store != Store::Signal,
        });
        Ok(Self { inner, store, plan })
    }

    fn plan(&self) -> CachePlan {
        self.plan.clone()
    }

    fn decide(&mut self, evaluation: &Evaluation<'_>, ops: &dyn TensorOps) -> Result<Decision> {
        if self.store == Store::Residual || self.plan.bytes_max == 0 {
            return self.inner.decide(evaluation, ops);
        }
        let signals = evaluation
            .signals
            .iter()
            .map(|(signal, tensor)| Ok((*signal, halve(tensor, ops)?)))
            .collect::<Result<Vec<(Signal, Tensor)>>>()?;
        self.inner.decide(&Evaluation { signals: &signals, ..*evaluation }, ops)
    }

    fn store(&mut self, computed: &Tensor, ops: &dyn TensorOps) -> Result<()> {
        match self.store {
            Store::Signal => self.inner.store(computed, ops),
            Store::Residual | Store::Both => self.inner.store(&halve(computed, ops)?, ops),
        }
    }

    fn extension(&mut self, id: &str, message: Message, ops: &dyn TensorOps) -> Result<Message> {
        match id {
            STATE => state::answer(Self::ID, self, id, message),
            _ => self.inner.extension(id, message, ops),
        }
    }
}

/// The state of the wrapped cache, saved under the id of this one.
impl<C: Halved> State for HalfMemory<C> {
    fn save(&self) -> Result<Saved> {
        self.inner.save()
    }

    fn load(&mut self, saved: &mut Saved) -> Result<()> {
        self.inner.load(saved)
    }
}

#[cfg(test)]
mod tests;
