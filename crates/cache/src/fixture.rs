//! Streams of evaluations for tests, with every number written out: the signal that a cache reads,
//! and what computing gives. (The kit's `drive` makes both from a seed.)

use wan_plugin_api::{Action, Cache, Choice, DType, Decision, Evaluation, FrameLevel, Tensor};
use wan_plugin_kit::{VecOps, values};

pub(crate) use wan_plugin_kit::small_context as context;

/// One evaluation: levels, the signal that the cache reads, and what computing would give.
#[derive(Debug, Clone)]
pub(crate) struct Moment {
    pub(crate) levels: Vec<FrameLevel>,
    pub(crate) signal: Vec<f32>,
    pub(crate) computed: Vec<f32>,
    pub(crate) leader: Option<Choice>,
}

/// The log of a stream.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Outcome {
    /// `C` for compute, `s` for reuse.
    pub(crate) decisions: String,
    pub(crate) measured: Vec<Vec<f64>>,
    /// Elements of the reused tensor; empty where the evaluation was computed.
    pub(crate) reused: Vec<Vec<f32>>,
    /// Largest number of bytes held between two evaluations.
    pub(crate) held_max: u64,
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
