//! Step caches: the decision whether the transformer blocks must run.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    DType, Error, FrameLevel, Message, OptionSpec, Place, Result, Rule, Tensor, TensorForm,
    TensorOps,
};

/// A step cache. One object serves one stream of evaluations: one guidance branch of one expert
/// over one window. The host makes a fresh object when any of them changes, so there is no reset.
///
/// Called from one thread at a time, not always the same one. A panic becomes an error of the
/// run; the object is not used again after one.
pub trait Cache: Sized + Send + 'static {
    /// The struct that the complete options deserialise into.
    type Options: DeserializeOwned;
    /// Name in `--cache NAME`: lower case, digits, `-`, `.`; unique among all caches.
    const ID: &'static str;
    /// One line for `wan plugins list`.
    const DOC: &'static str;

    /// The options that it takes.
    fn options() -> Vec<OptionSpec> {
        Vec::new()
    }

    /// Ids of the extensions that it answers.
    fn extensions() -> Vec<String> {
        Vec::new()
    }

    /// Makes a cache for one stream.
    ///
    /// # Errors
    /// `Invalid` for options that cannot work in this context, with what to change.
    fn new(options: Self::Options, context: &CacheContext) -> Result<Self>;

    /// Where the cache decides, what it reads, what a reuse replaces, and how much it will hold.
    /// Called once, right after `new`.
    fn plan(&self) -> CachePlan;

    /// Decides whether to compute this evaluation or to reuse a tensor.
    ///
    /// # Errors
    /// Errors of `ops`, unchanged; `Failed` for the cache's own.
    fn decide(&mut self, evaluation: &Evaluation<'_>, ops: &dyn TensorOps) -> Result<Decision>;

    /// Receives what an evaluation computed, after a `Compute { keep: true }`.
    ///
    /// `computed` is the tensor that [`CachePlan::replaces`] names. Clone the handle to keep it.
    ///
    /// # Errors
    /// Errors of `ops`, unchanged; `Failed` for the cache's own.
    fn store(&mut self, computed: &Tensor, ops: &dyn TensorOps) -> Result<()>;

    /// Answers an extension that [`extensions`](Self::extensions) lists.
    ///
    /// # Errors
    /// `Unsupported` for any other id.
    fn extension(&mut self, id: &str, _message: Message, _ops: &dyn TensorOps) -> Result<Message> {
        Err(Error::unsupported(format!("{} has no extension {id}", Self::ID)))
    }
}

/// The stream of evaluations that one cache object will serve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CacheContext {
    /// Guidance branch: `cond`, `uncond`, or a further one.
    pub branch: String,
    /// Number of the expert that runs: 0, or 1 for the second.
    pub expert: u32,
    /// Evaluations of this stream.
    pub evaluations: u32,
    /// Evaluations of this window by earlier experts.
    #[serde(default)]
    pub evaluations_before: u32,
    /// Evaluations of this window by later experts.
    #[serde(default)]
    pub evaluations_after: u32,
    /// Steps of each frame from noise to clean.
    pub steps: u32,
    /// Experts of the model: 1, or 2 where one is for high noise and one for low.
    #[serde(default = "one")]
    pub experts: u32,
    /// Identity of the model.
    pub model: ModelIdentity,
    /// Latent frames in the window.
    pub frames: u32,
    /// Tokens of one latent frame.
    pub frame_tokens: u32,
    /// Largest number of distinct timesteps in one evaluation of this stream.
    pub timesteps_max: u32,
    /// Number format of hidden states and residuals.
    pub dtype: DType,
    /// Number format of the time signals.
    pub signal_dtype: DType,
    /// Elements of one latent frame of the model's output.
    pub frame_output_elements: u64,
    /// Where kept tensors must be. What `store` receives is there already; a signal must be moved
    /// before it is kept ([`TensorOps::move_to`]).
    #[serde(default = "device")]
    pub keep: Place,
}

fn one() -> u32 {
    1
}

fn device() -> Place {
    Place::Device
}

impl CacheContext {
    /// Bytes of one residual of the blocks, `[1, L, D]` in `dtype`.
    pub fn residual_bytes(&self) -> u64 {
        let elements = self.frames as u64 * self.frame_tokens as u64 * self.model.dim as u64;
        elements * self.dtype.bytes() + self.scale_bytes(self.dtype)
    }

    /// Largest number of bytes of one signal; a time signal has `timesteps_max` rows.
    pub fn signal_bytes(&self, signal: Signal) -> u64 {
        let row = match signal {
            Signal::TimeEmbedding => self.model.dim as u64,
            Signal::TimeProjection => 6 * self.model.dim as u64,
            Signal::Hidden | Signal::Probe => return self.residual_bytes(),
            Signal::Sample => return self.frames as u64 * self.frame_output_elements * 4,
        };
        self.timesteps_max as u64 * row * self.signal_dtype.bytes()
    }

    fn scale_bytes(&self, dtype: DType) -> u64 {
        if dtype == DType::F8E4M3 { 4 * self.frames as u64 } else { 0 }
    }
}

/// The identity of a model, by which a cache picks its calibrated numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelIdentity {
    /// Variant, derived from the weights: `t2v`, `i2v`, `df`, ...
    pub variant: String,
    /// Width of the hidden states.
    pub dim: u32,
    /// Transformer blocks.
    pub layers: u32,
    /// Input channels.
    pub in_channels: u32,
    /// SHA-256 of the weight files.
    pub hash: String,
}

/// What a cache needs from the host, and what it promises.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CachePlan {
    /// Where it decides.
    pub decides: DecisionPoint,
    /// The signals that [`Evaluation::signal`] provides; the host makes no others.
    pub reads: Vec<Signal>,
    /// The tensor that a reuse replaces and that `store` receives.
    pub replaces: Replaces,
    /// The choice of the first branch holds for all branches (EasyCache). The other branches get it
    /// as [`Evaluation::leader`] and may reuse only where it reused.
    pub shared_decision: bool,
    /// Decisions depend on timesteps and weights alone, so they can be computed before a run.
    pub schedule_only: bool,
    /// Largest number of bytes that the object's handles keep alive at any time.
    pub bytes_max: u64,
    /// Names of the numbers in [`Decision::measured`].
    pub measures: Vec<String>,
    /// The rule of the decisions; the default for plugins that do not declare it.
    #[serde(default)]
    pub rule: Rule,
}

impl Default for CachePlan {
    /// Decides before the blocks, reads no signal, replaces the residual, and holds nothing.
    fn default() -> Self {
        Self {
            decides: DecisionPoint::BeforeBlocks,
            reads: Vec::new(),
            replaces: Replaces::Residual,
            shared_decision: false,
            schedule_only: false,
            bytes_max: 0,
            measures: Vec::new(),
            rule: Rule::default(),
        }
    }
}

/// Where in one model evaluation a cache decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecisionPoint {
    /// Before the embedding: a reuse skips embedding and head as well.
    BeforeEmbed,
    /// After embedding, before the first block.
    BeforeBlocks,
    /// After the block with this number, from 0.
    AfterBlock(u32),
}

/// A tensor that a cache can read before it decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u32)]
pub enum Signal {
    /// The latents `[1, C, F, H, W]`.
    Sample = 1,
    /// Time embedding `e`, `[F, D]`; held as one row per distinct timestep.
    TimeEmbedding = 2,
    /// Time projection `e0`, `[F, 6, D]`; held as one row per distinct timestep.
    TimeProjection = 3,
    /// Hidden states `[1, L, D]` at the decision point.
    Hidden = 4,
    /// Residual of the blocks before the decision point, `[1, L, D]`.
    Probe = 5,
}

impl Signal {
    /// All signals.
    pub(crate) const ALL: [Self; 5] =
        [Self::Sample, Self::TimeEmbedding, Self::TimeProjection, Self::Hidden, Self::Probe];

    /// The signal with this number.
    pub(crate) fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|signal| *signal as u32 == code)
    }
}

/// The tensor that a reuse replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Replaces {
    /// The residual of the blocks that have not run yet, `[1, L, D]`; the head still runs.
    Residual,
    /// The model's output minus its input, `[1, C, F, H, W]`.
    OutputDelta,
}

/// One evaluation of the model, before the decision.
pub struct Evaluation<'a> {
    /// Number of the evaluation in this stream, from 0.
    pub index: u32,
    /// Evaluations after this one in this stream.
    pub remaining: u32,
    /// The choice of the leading branch, which this one must follow; none where it decides freely.
    pub leader: Option<Choice>,
    /// Levels of the window's frames.
    pub levels: &'a [FrameLevel],
    /// Form of the tensor that `store` would receive.
    pub computes: TensorForm,
    /// The signals that the plan names.
    pub signals: &'a [(Signal, Tensor)],
}

impl Evaluation<'_> {
    /// A signal that the plan names.
    ///
    /// # Errors
    /// `Failed` for a signal that [`CachePlan::reads`] does not list.
    pub fn signal(&self, signal: Signal) -> Result<&Tensor> {
        self.signals
            .iter()
            .find_map(|(kind, tensor)| (*kind == signal).then_some(tensor))
            .ok_or_else(|| Error::failed(format!("{signal:?} is not among the plan's signals")))
    }
}

/// Compute or reuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u32)]
pub enum Choice {
    /// The blocks run.
    Compute = 1,
    /// A tensor of the cache replaces them.
    Reuse = 2,
}

impl Choice {
    /// The choice with this number.
    pub(crate) fn from_code(code: u32) -> Option<Self> {
        [Self::Compute, Self::Reuse].into_iter().find(|choice| *choice as u32 == code)
    }
}

/// The decision about one evaluation.
#[derive(Debug)]
pub struct Decision {
    /// Compute, or reuse a tensor.
    pub action: Action,
    /// The numbers that led to it, in the order of [`CachePlan::measures`]; may be empty.
    pub measured: Vec<f64>,
}

/// The two actions of a [`Decision`]. A reuse always has a tensor.
#[derive(Debug)]
pub enum Action {
    /// Run the blocks.
    Compute {
        /// Whether to pass the result to [`Cache::store`].
        keep: bool,
    },
    /// Use this tensor in place of what [`CachePlan::replaces`] names.
    Reuse(Tensor),
}

impl Decision {
    /// Run the blocks and pass the result to [`Cache::store`].
    pub fn compute() -> Self {
        Self { action: Action::Compute { keep: true }, measured: Vec::new() }
    }

    /// Run the blocks; the cache does not want the result.
    pub fn compute_and_forget() -> Self {
        Self { action: Action::Compute { keep: false }, measured: Vec::new() }
    }

    /// Use `tensor` instead.
    pub fn reuse(tensor: Tensor) -> Self {
        Self { action: Action::Reuse(tensor), measured: Vec::new() }
    }

    /// Adds the numbers that led to the decision.
    pub fn measured(mut self, numbers: Vec<f64>) -> Self {
        self.measured = numbers;
        self
    }

    /// The choice without its tensor.
    pub fn choice(&self) -> Choice {
        match self.action {
            Action::Compute { .. } => Choice::Compute,
            Action::Reuse(_) => Choice::Reuse,
        }
    }
}
