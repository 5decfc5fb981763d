//! **Epoch 1 of the binary interface: frozen.**
//!
//! abi_stable checks the layout of everything in this file when a library is loaded, and it
//! refuses an older plugin if the host's side has one more field or method. So nothing here is ever
//! changed or added. New abilities are extensions by id, carried by the `extension` methods as a
//! document and tensors. A break is a new module `epoch2` beside this one.
//!
//! What happens once per run (descriptions, options, requests, schedules, plans) crosses as JSON,
//! written and read by the same serde types on both sides; readers ignore members they do not
//! know. What happens at every step crosses as the plain structs below.
//!
//! Only this folder uses abi_stable: `plugin_side` wraps an author's traits and catches their
//! panics, `module` exports them, `host_side` gives the host ordinary Rust objects.
#![allow(missing_docs, reason = "abi_stable's macros generate undocumented items")]
#![allow(non_local_definitions, clippy::used_underscore_binding, reason = "abi_stable's macros")]
#![allow(unsafe_code, reason = "abi_stable's macros, and one constructor in plugin_side")]

mod convert;
mod host_side;
mod module;
mod plugin_side;

use abi_stable::StableAbi;
use abi_stable::library::RootModule;
use abi_stable::sabi_trait;
use abi_stable::sabi_trait::prelude::{TD_CanDowncast, TD_Opaque};
use abi_stable::sabi_types::{RMut, VersionStrings};
use abi_stable::std_types::{RArc, RBox, RResult, RSlice, RStr, RString, RVec};
use serde::{Deserialize, Serialize};

pub use abi_stable::library::LibHeader;
pub use host_side::OPENER;
pub(crate) use module::built_in;
pub use module::header;
pub use plugin_side::{CacheFactory, SamplerFactory};

/// Number of this epoch in a manifest.
pub const NUMBER: u32 = 1;

/// The form of a tensor: frames, elements, number format and place.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, Copy, PartialEq, Eq)]
pub struct TensorForm {
    /// Latent frames.
    pub frames: u32,
    /// Elements of one frame.
    pub frame_elements: u64,
    /// Bytes that a handle keeps alive.
    pub bytes: u64,
    dtype: u32,
    place: u32,
}

/// One latent frame of a round.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FrameLevel {
    /// Number of the latent frame in the video, from 0.
    pub frame: u32,
    /// Whether the step updates it; if not, it keeps its bits.
    pub update: bool,
    /// Whether the sampler uses the model's velocity there; if not, it comes back as zeros.
    #[serde(default = "yes")]
    pub wants_velocity: bool,
    /// The model's input: `1000 * sigma`, rounded as the solver's source rounds it.
    pub timestep: f64,
    /// Noise fraction before the step: 1 pure noise, 0 clean.
    pub sigma: f64,
    /// Noise fraction after the step.
    pub sigma_next: f64,
}

fn yes() -> bool {
    true
}

/// The host's side of a tensor handle.
#[sabi_trait]
#[sabi(impl_InterfaceType(Send, Sync))]
pub trait TensorBody: Send + Sync {
    /// Frames, elements, number format and place.
    #[sabi(last_prefix_field)]
    fn form(&self) -> TensorForm;
}

pub type TensorHandle = TensorBody_TO<'static, RArc<()>>;

/// Wraps a body.
pub(crate) fn wrap<B: TensorBody + 'static>(body: B) -> TensorHandle {
    TensorBody_TO::from_ptr(RArc::new(body), TD_CanDowncast)
}

/// The body, if it is a `B` of this library.
pub(crate) fn unwrap<B: TensorBody + 'static>(handle: &TensorHandle) -> Option<&B> {
    handle.obj.downcast_as::<B>().ok()
}

/// Another handle to the same tensor.
pub(crate) fn share(handle: &TensorHandle) -> TensorHandle {
    TensorBody_TO::from_sabi(handle.obj.shallow_clone())
}

#[repr(C)]
#[derive(StableAbi)]
pub struct AbiError {
    kind: u32,
    message: RString,
}

type AbiResult<T> = RResult<T, AbiError>;

/// A summand: a tensor, and one coefficient or one per frame.
#[repr(C)]
#[derive(StableAbi)]
pub struct AbiTerm<'a> {
    tensor: &'a TensorHandle,
    coefficients: RSlice<'a, f64>,
}

#[repr(C)]
#[derive(StableAbi)]
pub struct AbiMessage {
    document: RString,
    tensors: RVec<TensorHandle>,
}

#[repr(C)]
#[derive(StableAbi)]
pub struct AbiStep<'a> {
    index: u32,
    evaluation: u32,
    evaluations_left: u32,
    /// Evaluations of this round.
    evaluations: u32,
    /// Frames per block under block-causal attention; 0: bidirectional.
    attention_block: u32,
    levels: RSlice<'a, FrameLevel>,
}

#[repr(C)]
#[derive(StableAbi)]
pub struct AbiSignal {
    kind: u32,
    tensor: TensorHandle,
}

#[repr(C)]
#[derive(StableAbi)]
pub struct AbiEvaluation<'a> {
    index: u32,
    remaining: u32,
    /// 0: decide freely; else a `Choice`.
    leader: u32,
    levels: RSlice<'a, FrameLevel>,
    computes: TensorForm,
    signals: RSlice<'a, AbiSignal>,
}

#[repr(C)]
#[derive(StableAbi)]
pub struct AbiDecision {
    /// One tensor: reuse it. None: compute.
    reuse: RVec<TensorHandle>,
    keep: bool,
    measured: RVec<f64>,
}

/// Operations of the host; see [`TensorOps`](crate::TensorOps).
#[sabi_trait]
pub trait AbiOps {
    fn combine(&self, terms: RSlice<'_, AbiTerm<'_>>) -> AbiResult<TensorHandle>;
    fn frame_abs_sums(&self, a: &TensorHandle) -> AbiResult<RVec<f64>>;
    fn frame_abs_diffs(&self, a: &TensorHandle, b: &TensorHandle) -> AbiResult<RVec<f64>>;
    fn noise_like(&self, like: &TensorHandle, stream: u64, index: u64) -> AbiResult<TensorHandle>;
    fn narrow_frames(&self, a: &TensorHandle, start: u32, len: u32) -> AbiResult<TensorHandle>;
    fn cat_frames(&self, parts: RSlice<'_, &TensorHandle>) -> AbiResult<TensorHandle>;
    fn cast(&self, a: &TensorHandle, dtype: u32) -> AbiResult<TensorHandle>;
    fn move_to(&self, a: &TensorHandle, place: u32) -> AbiResult<TensorHandle>;
    fn read(&self, a: &TensorHandle) -> AbiResult<RVec<f32>>;
    fn write_like(&self, like: &TensorHandle, elements: RSlice<'_, f32>)
    -> AbiResult<TensorHandle>;
    fn cancelled(&self) -> bool;
    fn log(&self, level: u32, text: RStr<'_>);
    #[sabi(last_prefix_field)]
    fn extension(&self, id: RStr<'_>, message: AbiMessage) -> AbiResult<AbiMessage>;
}

/// The model; see [`Denoise`](crate::Denoise).
#[sabi_trait]
pub trait AbiDenoise {
    #[sabi(last_prefix_field)]
    fn velocity(
        &mut self,
        sample: &TensorHandle,
        levels: RSlice<'_, FrameLevel>,
    ) -> AbiResult<TensorHandle>;
}

type OpsRef<'a> = AbiOps_TO<'a, RMut<'a, ()>>;
type DenoiseRef<'a> = AbiDenoise_TO<'a, RMut<'a, ()>>;

/// A sampler object; see [`Sampler`](crate::Sampler).
#[sabi_trait]
#[sabi(impl_InterfaceType(Send))]
pub trait AbiSampler: Send {
    /// 0: the first part, or all.
    fn schedule(&self, from_round: u64) -> AbiResult<RString>;
    fn step(
        &mut self,
        sample: &TensorHandle,
        step: AbiStep<'_>,
        model: DenoiseRef<'_>,
        ops: OpsRef<'_>,
    ) -> AbiResult<TensorHandle>;
    #[sabi(last_prefix_field)]
    fn extension(
        &mut self,
        id: RStr<'_>,
        message: AbiMessage,
        ops: OpsRef<'_>,
    ) -> AbiResult<AbiMessage>;
}

/// A cache object; see [`Cache`](crate::Cache).
#[sabi_trait]
#[sabi(impl_InterfaceType(Send))]
pub trait AbiCache: Send {
    fn plan(&self) -> AbiResult<RString>;
    fn decide(&mut self, evaluation: AbiEvaluation<'_>, ops: OpsRef<'_>) -> AbiResult<AbiDecision>;
    fn store(&mut self, computed: &TensorHandle, ops: OpsRef<'_>) -> AbiResult<()>;
    #[sabi(last_prefix_field)]
    fn extension(
        &mut self,
        id: RStr<'_>,
        message: AbiMessage,
        ops: OpsRef<'_>,
    ) -> AbiResult<AbiMessage>;
}

type SamplerBox = AbiSampler_TO<'static, RBox<()>>;
type CacheBox = AbiCache_TO<'static, RBox<()>>;

/// The functions of a library.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = PluginModule)))]
#[sabi(missing_field(panic))]
pub struct PluginModuleFields {
    describe: extern "C" fn() -> AbiResult<RString>,
    create_sampler: extern "C" fn(RStr<'_>, RStr<'_>, RStr<'_>) -> AbiResult<SamplerBox>,
    #[sabi(last_prefix_field)]
    create_cache: extern "C" fn(RStr<'_>, RStr<'_>, RStr<'_>) -> AbiResult<CacheBox>,
}

impl RootModule for PluginModule {
    abi_stable::declare_root_module_statics! {PluginModule}
    const BASE_NAME: &'static str = "wan_plugin";
    const NAME: &'static str = "wan_plugin";
    // The epoch's own version, not this crate's: it never moves.
    const VERSION_STRINGS: VersionStrings = VersionStrings::new("1.0.0");
}
