//! Step caches: whether the transformer blocks must run.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    DType, Error, FrameLevel, Message, OptionSpec, Place, Result, Rule, Tensor, TensorForm,
    TensorOps,
};

/// A step cache. One object sees one stream of evaluations: one guidance branch of one expert over
/// one window. The host makes a fresh object when any of them changes, so there is nothing to
/// reset and nothing to mix up.
///
/// Called from one thread at a time, not always the same one. A panic becomes an error of the
/// run; the object is not used again after one.
pub trait Cache: Sized + Send + 'static {
    /// The struct that the complete options are read into.
    type Options: DeserializeOwned;
    /// Name in `--cache NAME`: lower case, digits, `-`, `.`; unique among all caches.
    const ID: &'static str;
    /// One line for `wan plugins list`.
    const DOC: &'static str;

    /// What it can be told.
    fn options() -> Vec<OptionSpec> {
        Vec::new()
    }

    /// Extensions this cache answers to, by id.
    fn extensions() -> Vec<String> {
        Vec::new()
    }

    /// Checks the settings against the stream to come.
    ///
    /// # Errors
    /// `Invalid` for settings that cannot work, with what to change.
    fn new(options: Self::Options, context: &CacheContext) -> Result<Self>;

    /// Where it decides, what it reads, what a reuse replaces, and what it will hold.
    /// Asked once, right after `new`.
    fn plan(&self) -> CachePlan;

    /// Whether to compute this evaluation.
    fn decide(&mut self, evaluation: &Evaluation<'_>, ops: &dyn TensorOps) -> Result<Decision>;

    /// Takes what an evaluation computed, after a `Compute { keep: true }`.
    ///
    /// `computed` is what [`CachePlan::replaces`] names. Keep the handle to keep the tensor.
    fn store(&mut self, computed: &Tensor, ops: &dyn TensorOps) -> Result<()>;

    /// Answers an extension that [`extensions`](Self::extensions) lists.
    ///
    /// # Errors
    /// `Unsupported` for any other id.
    fn extension(&mut self, id: &str, _message: Message) -> Result<Message> {
        Err(Error::unsupported(format!("{} has no extension {id}", Self::ID)))
    }
}

/// The stream of evaluations that one cache object will see.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CacheContext {
    /// Guidance branch: `cond`, `uncond`, or a further one.
    pub branch: String,
    /// Which expert of the model runs (`0`, or `1` for a second one).
    pub expert: u32,
    /// Evaluations of this stream.
    pub evaluations: u32,
    /// Evaluations of this window that earlier experts did.
    #[serde(default)]
    pub evaluations_before: u32,
    /// Evaluations of this window that later experts will do.
    #[serde(default)]
    pub evaluations_after: u32,
    /// Steps that each frame takes from noise to clean.
    pub steps: u32,
    /// Transformers of the model: 2 where one is for high noise and one for low.
    #[serde(default = "one")]
    pub experts: u32,
    /// What the model is.
    pub model: ModelIdentity,
    /// Latent frames in the window.
    pub frames: u32,
    /// Tokens of one latent frame.
    pub frame_tokens: u32,
    /// Most distinct timesteps that one evaluation of this stream has.
    pub timesteps_max: u32,
    /// Number format of hidden states and residuals.
    pub dtype: DType,
    /// Number format of the time signals.
    pub signal_dtype: DType,
    /// Elements of one latent frame of the model's output.
    pub frame_output_elements: u64,
    /// Where the user wants kept tensors to lie. What `store` is given lies there already; a
    /// signal that is kept must be moved ([`TensorOps::move_to`]).
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
    /// Bytes of one residual of the block stack.
    pub fn residual_bytes(&self) -> u64 {
        let elements = self.frames as u64 * self.frame_tokens as u64 * self.model.dim as u64;
        elements * self.dtype.bytes() + self.scale_bytes(self.dtype)
    }

    /// Most bytes of one signal; of a time signal, `timesteps_max` rows.
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

/// What a cache may know of the model: enough to pick calibrated numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelIdentity {
    /// Variant as the weights tell it: `t2v`, `i2v`, `df`, ...
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

/// What a cache needs of the host, and what it promises.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CachePlan {
    /// Where it decides.
    pub decides: DecisionPoint,
    /// The signals that [`Evaluation::signal`] must offer; others are not made.
    pub reads: Vec<Signal>,
    /// What a reuse stands in for, and what `store` is given.
    pub replaces: Replaces,
    /// The first branch's choice holds for all (EasyCache). The host passes it on as
    /// [`Evaluation::leader`] and holds the others to it.
    pub shared_decision: bool,
    /// Decisions depend on timesteps and weights alone, so the plan can be known beforehand.
    pub schedule_only: bool,
    /// Most bytes this object will ever hold through handles.
    pub bytes_max: u64,
    /// Names of the numbers in [`Decision::measured`].
    pub measures: Vec<String>,
    /// By what kind of rule it decides; a plugin of before this member says nothing of it.
    #[serde(default)]
    pub rule: Rule,
}

impl Default for CachePlan {
    /// Decides before the blocks, looks at nothing, stands in for the residual, and keeps nothing.
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
    /// Before anything ran: a reuse skips embedding and head as well.
    BeforeEmbed,
    /// After embedding, before the first block.
    BeforeBlocks,
    /// After this block (from 0).
    AfterBlock(u32),
}

/// A tensor that a cache may look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u32)]
pub enum Signal {
    /// The latents `[1, C, F, H, W]`.
    Sample = 1,
    /// `e`, `[F, D]` to look at; held as one row per distinct timestep.
    TimeEmbedding = 2,
    /// `e0`, `[F, 6, D]` to look at; held as one row per distinct timestep.
    TimeProjection = 3,
    /// Hidden states `[1, L, D]` at the decision point.
    Hidden = 4,
    /// Residual of the blocks before the decision point, `[1, L, D]`.
    Probe = 5,
}

/// What a reuse stands in for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Replaces {
    /// The residual of the blocks that have not run yet, `[1, L, D]`; the head still runs.
    Residual,
    /// The model's output minus its input, `[1, C, F, H, W]`.
    OutputDelta,
}

/// One evaluation of the model, before it is decided.
pub struct Evaluation<'a> {
    /// Its number in this stream, from 0.
    pub index: u32,
    /// Evaluations after this one in this stream.
    pub remaining: u32,
    /// The choice that this one must follow, where decisions are shared.
    pub leader: Option<Choice>,
    /// The window's frames, each with its timestep and whether it is being updated.
    pub levels: &'a [FrameLevel],
    /// Form of what `store` would be given now.
    pub computes: TensorForm,
    /// The signals that the plan asked for.
    pub signals: &'a [(Signal, Tensor)],
}

impl Evaluation<'_> {
    /// A signal that the plan asked for.
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
    /// A cached tensor stands in for them.
    Reuse = 2,
}

/// What to do with one evaluation.
#[derive(Debug)]
pub struct Decision {
    /// Run, or the tensor that stands in.
    pub action: Action,
    /// What led to it, in the order of [`CachePlan::measures`]; may be empty.
    pub measured: Vec<f64>,
}

/// The two actions of a [`Decision`]. There is no reuse without something to add.
#[derive(Debug)]
pub enum Action {
    /// Run the blocks; `keep` asks for [`Cache::store`] afterwards.
    Compute {
        /// Whether the result is wanted at all.
        keep: bool,
    },
    /// Put this in the place of what [`CachePlan::replaces`] names.
    Reuse(Tensor),
}

impl Decision {
    /// Run the blocks and hand the result to [`Cache::store`].
    pub fn compute() -> Self {
        Self { action: Action::Compute { keep: true }, measured: Vec::new() }
    }

    /// Run the blocks; nothing will reuse the result.
    pub fn compute_and_forget() -> Self {
        Self { action: Action::Compute { keep: false }, measured: Vec::new() }
    }

    /// Let `tensor` stand in.
    pub fn reuse(tensor: Tensor) -> Self {
        Self { action: Action::Reuse(tensor), measured: Vec::new() }
    }

    /// Adds what led to the decision.
    pub fn measured(mut self, numbers: Vec<f64>) -> Self {
        self.measured = numbers;
        self
    }

    /// Which of the two it is.
    pub fn choice(&self) -> Choice {
        match self.action {
            Action::Compute { .. } => Choice::Compute,
            Action::Reuse(_) => Choice::Reuse,
        }
    }
}
