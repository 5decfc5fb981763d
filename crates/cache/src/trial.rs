//! A stream of evaluations for tests: numbers in, decisions out.

use wan_plugin_api::{
    Action, Cache, CacheContext, Choice, DType, Decision, Evaluation, FrameLevel, ModelIdentity,
    Place, Tensor,
};
use wan_plugin_kit::{VecOps, values};

/// One evaluation: levels, the signal that the cache reads, and what computing would give.
#[derive(Debug, Clone)]
pub(crate) struct Moment {
    pub(crate) levels: Vec<FrameLevel>,
    pub(crate) signal: Vec<f32>,
    pub(crate) computed: Vec<f32>,
    pub(crate) leader: Option<Choice>,
}

/// What came of a stream.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Outcome {
    /// `C` and `s`, in order.
    pub(crate) decisions: String,
    pub(crate) measured: Vec<Vec<f64>>,
    /// What stood in; empty where it was computed.
    pub(crate) reused: Vec<Vec<f32>>,
    /// Most bytes held between two calls.
    pub(crate) held_max: u64,
}

/// A stream of `evaluations` over two frames of one token of a model of width 1.
pub(crate) fn context(evaluations: u32) -> CacheContext {
    CacheContext {
        branch: "cond".into(),
        expert: 0,
        evaluations,
        evaluations_before: 0,
        evaluations_after: 0,
        steps: evaluations,
        experts: 1,
        model: ModelIdentity {
            variant: "df".into(),
            dim: 1,
            layers: 1,
            in_channels: 16,
            hash: String::new(),
        },
        frames: 2,
        frame_tokens: 1,
        timesteps_max: 2,
        dtype: DType::F32,
        signal_dtype: DType::F32,
        frame_output_elements: 1,
        keep: Place::Device,
    }
}

/// Two frames of which the first falls from sigma 1 to 0 in `count` equal steps; the second does
/// too, or is a clean prefix.
pub(crate) fn falling(count: usize, both: bool) -> Vec<Vec<FrameLevel>> {
    let sigma = |i: usize| 1.0 - i as f64 / count as f64;
    let moving = |f, i| FrameLevel::moving(f, 1000.0 * sigma(i), sigma(i), sigma(i + 1));
    let second = |i| if both { moving(1, i) } else { FrameLevel::frozen(1, 0.0, 0.0) };
    (0..count).map(|i| vec![moving(0, i), second(i)]).collect()
}

/// Evaluations with these levels, and elements as functions of the number of the evaluation.
pub(crate) fn moments(
    levels: Vec<Vec<FrameLevel>>,
    signal: impl Fn(usize) -> Vec<f32>,
    computed: impl Fn(usize) -> Vec<f32>,
) -> Vec<Moment> {
    let moment =
        |(i, levels)| Moment { levels, signal: signal(i), computed: computed(i), leader: None };
    levels.into_iter().enumerate().map(moment).collect()
}

/// The same evaluations for a branch that follows `decisions`.
pub(crate) fn following(moments: &[Moment], decisions: &str) -> Vec<Moment> {
    let leader = |c| if c == 'C' { Choice::Compute } else { Choice::Reuse };
    let lead = |(moment, c): (&Moment, char)| Moment { leader: Some(leader(c)), ..moment.clone() };
    moments.iter().zip(decisions.chars()).map(lead).collect()
}

/// Runs a cache over the moments, with tensors in `dtype`.
pub(crate) fn run_in<C: Cache>(mut cache: C, moments: &[Moment], dtype: DType) -> Outcome {
    let ops = VecOps::default();
    let plan = cache.plan();
    let mut outcome = Outcome::default();
    let tensor = |frames: usize, elements: &[f32]| -> Tensor {
        let full = ops.tensor(frames, elements);
        if dtype == DType::F32 { full } else { cast(&ops, &full, dtype) }
    };
    for (index, moment) in moments.iter().enumerate() {
        let frames = moment.levels.len();
        let computed = tensor(frames, &moment.computed);
        let signals: Vec<_> =
            plan.reads.iter().map(|s| (*s, tensor(frames, &moment.signal))).collect();
        let evaluation = Evaluation {
            index: index as u32,
            remaining: (moments.len() - index - 1) as u32,
            leader: moment.leader,
            levels: &moment.levels,
            computes: computed.form(),
            signals: &signals,
        };
        let Decision { action, measured } = cache.decide(&evaluation, &ops).unwrap();
        outcome.measured.push(measured);
        let reused = match action {
            Action::Reuse(tensor) => values(&tensor),
            Action::Compute { keep } => {
                if keep {
                    cache.store(&computed, &ops).unwrap();
                }
                Vec::new()
            }
        };
        outcome.decisions.push(if reused.is_empty() { 'C' } else { 's' });
        outcome.reused.push(reused);
        drop((signals, computed));
        outcome.held_max = outcome.held_max.max(ops.live_bytes());
    }
    outcome
}

fn cast(ops: &VecOps, tensor: &Tensor, dtype: DType) -> Tensor {
    wan_plugin_api::TensorOps::cast(ops, tensor, dtype).unwrap()
}

/// Runs a cache over the moments in f32.
pub(crate) fn run<C: Cache>(cache: C, moments: &[Moment]) -> Outcome {
    run_in(cache, moments, DType::F32)
}
