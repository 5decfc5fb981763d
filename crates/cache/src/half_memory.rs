//! Half memory: any cache, with what it keeps at half width.
//!
//! The wrapper halves what it hands to the wrapped cache: f32 becomes bf16, 16-bit floats become
//! f8 e4m3 with one scale per frame. The wrapped cache never sees the full width, so it cannot
//! keep it.
//!
//! - **Residual**: decisions of a schedule-only cache are the same, because they do not look at
//!   it. Each element differs by at most `u |r|`, `u = 2^-8` for bf16.
//! - **Signal**: both sides of a comparison are rounded alike, so what did not change still shows
//!   no change. With `N = sum |a - b|`, `A = sum |a|`, `B = sum |b|` the relative change `N / B`
//!   becomes one between `(N - u (A + B)) / (B (1 + u))` and `(N + u (A + B)) / (B (1 - u))`.

use serde::Deserialize;
use wan_plugin_api::{
    Cache, CacheContext, CachePlan, DType, Decision, Evaluation, OptionSpec, Result, Signal,
    Tensor, TensorOps,
};

/// A cache that can be had at half width, and its name then.
pub trait Halved: Cache {
    /// Id of the halved cache.
    const HALF_ID: &'static str;
    /// One line for `wan plugins list`.
    const HALF_DOC: &'static str;
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

/// What is kept at half width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Store {
    /// What `store` is given.
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
}

/// The format of half the width; 8 bits are not halved further.
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
        let mut narrow = context.clone();
        if options.store != Store::Signal {
            narrow.dtype = half(context.dtype);
        }
        if options.store != Store::Residual {
            narrow.signal_dtype = half(context.signal_dtype);
        }
        Ok(Self { inner: C::new(options.inner, &narrow)?, store: options.store })
    }

    fn plan(&self) -> CachePlan {
        self.inner.plan()
    }

    fn decide(&mut self, evaluation: &Evaluation<'_>, ops: &dyn TensorOps) -> Result<Decision> {
        if self.store == Store::Residual {
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
}

impl Halved for crate::TeaCache {
    const HALF_ID: &'static str = "teacache-half";
    const HALF_DOC: &'static str = "teacache with what it keeps at half width";
}
