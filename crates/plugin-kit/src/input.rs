//! Random inputs of a case.

use proptest::prelude::*;
use serde_json::{Value, json};
use wan_plugin_api::{DType, OptionKind, OptionSpec, OptionValues, Place};

use crate::levels::{Fall, Levels, falling};

/// The random values of one case. Each property uses what it needs.
#[derive(Debug, Clone)]
pub struct Input {
    /// Complete options, each in its range. The cache may refuse the combination.
    pub options: OptionValues,
    /// Latent frames of the stream.
    pub frames: Vec<Fall>,
    /// Latent frames of a second stream.
    pub other: Vec<Fall>,
    /// Order in which two streams take turns, or the choices of a leader (true: reuse).
    pub order: Vec<bool>,
    /// Position in the stream of a disturbance, 0 to 1.
    pub at: f64,
    /// Selects one of several variants.
    pub variant: u8,
    /// Seed of the fake model.
    pub seed: u64,
    /// Number format of hidden states and residuals.
    pub dtype: DType,
    /// [`CacheContext::keep`](wan_plugin_api::CacheContext::keep).
    pub keep: Place,
}

impl Input {
    /// Levels of the stream.
    pub fn levels(&self) -> Levels {
        falling(&self.frames)
    }

    /// Number of the evaluation at position `at` of a stream of `count`; never 0 if `count > 1`.
    pub fn index_in(&self, count: usize) -> usize {
        (1 + (self.at * count.saturating_sub(1) as f64) as usize).min(count.saturating_sub(1))
    }

    /// The element of `among` that `variant` selects.
    pub fn one_of<T: Copy>(&self, among: &[T]) -> T {
        among[usize::from(self.variant) % among.len()]
    }
}

/// Inputs for a cache with these options, whose complete base values are `base`.
pub(crate) fn inputs(
    specs: &[OptionSpec],
    base: &OptionValues,
) -> impl Strategy<Value = Input> + use<> {
    let streams = (frames(), frames(), prop::collection::vec(any::<bool>(), 24));
    let formats = (
        prop::sample::select(vec![DType::F32, DType::BF16]),
        prop::sample::select(vec![Place::Device, Place::Host]),
    );
    let choices = (0.0f64..1.0, any::<u8>(), any::<u64>());
    (options(specs, base), streams, formats, choices).prop_map(
        |(options, (frames, other, order), (dtype, keep), (at, variant, seed))| Input {
            options,
            frames,
            other,
            order,
            at,
            variant,
            seed,
            dtype,
            keep,
        },
    )
}

/// One to three frames, all on one schedule or each on its own.
fn frames() -> impl Strategy<Value = Vec<Fall>> {
    let by = || prop::collection::vec(20u32..180, 5..16);
    let fall = (0usize..6, by()).prop_map(|(start, by)| Fall { start, by });
    let alike = (1usize..=3, by()).prop_map(|(count, by)| vec![Fall { start: 0, by }; count]);
    prop_oneof![alike, prop::collection::vec(fall, 1..=3)]
}

/// The base options, or each option at its base value or a random one.
fn options(specs: &[OptionSpec], base: &OptionValues) -> BoxedStrategy<OptionValues> {
    let base = base.clone();
    let values = specs.iter().fold(
        Just(base.clone()).boxed(),
        |options: BoxedStrategy<OptionValues>, spec| {
            let own = base.get(&spec.name).unwrap_or(&spec.default).clone();
            let (name, value) = (spec.name.clone(), value(spec, own));
            let set = move |(mut options, value): (OptionValues, Value)| {
                options.insert(name.clone(), value);
                options
            };
            (options, value).prop_map(set).boxed()
        },
    );
    prop_oneof![1 => Just(base), 4 => values].boxed()
}

/// `own`, or a random value that the option allows.
fn value(spec: &OptionSpec, own: Value) -> BoxedStrategy<Value> {
    let keep = Just(own.clone());
    let other = match &spec.kind {
        OptionKind::Bool => any::<bool>().prop_map(Value::from).boxed(),
        OptionKind::Choice(words) => {
            prop::sample::select(words.clone()).prop_map(Value::from).boxed()
        }
        OptionKind::Int { min, max } => {
            // Larger values change nothing in a stream of at most 20 evaluations.
            (*min..=(*max).min(min.saturating_add(6))).prop_map(Value::from).boxed()
        }
        OptionKind::Float { min, max } => float(*min, *max, own.as_f64().unwrap_or(*min)),
        // The schema does not say which lists or documents are meaningful.
        OptionKind::FloatList | OptionKind::Document => keep.clone().boxed(),
    };
    prop_oneof![1 => keep, 1 => other].boxed()
}

/// The default times 2^-3 to 2^4, a number from 0 to 1, or 0; clamped to the range.
fn float(min: f64, max: f64, own: f64) -> BoxedStrategy<Value> {
    let size = if own.abs() > 0.0 { own.abs() } else { 1.0 };
    let near = (-3.0f64..4.0).prop_map(move |power| (size * power.exp2()).clamp(min, max));
    let plain = (0.0f64..1.0).prop_map(move |x| x.clamp(min, max));
    prop_oneof![2 => near, 1 => plain, 1 => Just(0f64.clamp(min, max))]
        .prop_map(|x| json!(x))
        .boxed()
}
