//! The structs of `include/wan_plugin.h`, member by member; a test compares the two.
#![allow(missing_docs, reason = "the header says what each member is")]

use std::ffi::{c_char, c_void};

use super::prefixed::{Prefixed, end};

/// One of the results: 0, or the number of an [`ErrorKind`](crate::ErrorKind).
pub type CResult = u32;

/// Everything went well.
pub const OK: CResult = 0;

/// A counted reference to a tensor of the host: a number that only the host can look up.
pub type CTensor = c_void;

/// Declares the structs, and what the test needs to know of them.
macro_rules! structs {
    ($($(#[$meta:meta])* $name:ident as $c:literal { $($member:ident: $type:ty,)* })*) => {
        $($(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy)]
        pub struct $name { $(pub $member: $type,)* })*

        /// Every struct, as the compiler of this crate lays it out.
        #[cfg(test)]
        pub(crate) fn layouts() -> Vec<Layout> {
            vec![$(Layout {
                name: stringify!($name),
                c: $c,
                size: size_of::<$name>(),
                members: vec![$((
                    stringify!($member).trim_end_matches('_'),
                    std::mem::offset_of!($name, $member),
                    stringify!($type),
                ),)*],
            },)*]
        }
    };
}

/// A struct, for the test that compares it with the header.
#[cfg(test)]
pub(crate) struct Layout {
    pub(crate) name: &'static str,
    /// Name in C.
    pub(crate) c: &'static str,
    pub(crate) size: usize,
    /// Name, place and type of each member.
    pub(crate) members: Vec<(&'static str, usize, &'static str)>,
}

/// Declares the last member that each struct had when it was frozen.
macro_rules! frozen {
    ($($name:ident: $last:ident,)*) => {
        // SAFETY: each begins with its size; all members are numbers, pointers and functions that may
        // be missing.
        $(unsafe impl Prefixed for $name {
            const FROZEN: usize = end(std::mem::offset_of!($name, $last), |it: &$name| &it.$last);
        })*

        /// Name and frozen size of every struct that begins with its size.
        #[cfg(test)]
        pub(crate) fn frozen() -> Vec<(&'static str, usize)> {
            vec![$((stringify!($name), $name::FROZEN),)*]
        }
    };
}

/// A list that ends with NULL.
pub type List<T> = *const *const T;

structs! {
    ErrorText as "wan_error" { size: u32, reserved: u32, text: [c_char; 1016], }
    Form as "wan_form" {
        size: u32, frames: u32, frame_elements: u64, bytes: u64, dtype: u32, place: u32,
    }
    Host as "wan_host" {
        size: u32,
        epoch: u32,
        retain: Option<unsafe extern "C" fn(*const CTensor) -> *mut CTensor>,
        release: Option<unsafe extern "C" fn(*mut CTensor)>,
        form: Option<unsafe extern "C" fn(*const CTensor, *mut Form) -> CResult>,
        log: Option<unsafe extern "C" fn(u32, *const c_char)>,
    }
    Term as "wan_term" {
        tensor: *const CTensor, coefficients: *const f64, coefficient_count: u64,
    }
    Message as "wan_message" {
        size: u32, tensor_count: u32, document: *const c_char, tensors: *const *const CTensor,
    }
    Answer as "wan_answer" {
        size: u32,
        reserved: u32,
        self_: *mut c_void,
        give: Option<unsafe extern "C" fn(*mut c_void, *const Message)>,
    }
    Ops as "wan_ops" {
        size: u32,
        reserved: u32,
        combine: Option<unsafe extern "C" fn(
            *const Term, u64, *mut *mut CTensor, *mut ErrorText) -> CResult>,
        frame_abs_sums: Option<unsafe extern "C" fn(
            *const CTensor, *mut f64, u64, *mut ErrorText) -> CResult>,
        frame_abs_diffs: Option<unsafe extern "C" fn(
            *const CTensor, *const CTensor, *mut f64, u64, *mut ErrorText) -> CResult>,
        noise_like: Option<unsafe extern "C" fn(
            *const CTensor, u64, u64, *mut *mut CTensor, *mut ErrorText) -> CResult>,
        narrow_frames: Option<unsafe extern "C" fn(
            *const CTensor, u32, u32, *mut *mut CTensor, *mut ErrorText) -> CResult>,
        cat_frames: Option<unsafe extern "C" fn(
            *const *const CTensor, u64, *mut *mut CTensor, *mut ErrorText) -> CResult>,
        cast: Option<unsafe extern "C" fn(
            *const CTensor, u32, *mut *mut CTensor, *mut ErrorText) -> CResult>,
        move_to: Option<unsafe extern "C" fn(
            *const CTensor, u32, *mut *mut CTensor, *mut ErrorText) -> CResult>,
        read: Option<unsafe extern "C" fn(
            *const CTensor, *mut f32, u64, *mut ErrorText) -> CResult>,
        write_like: Option<unsafe extern "C" fn(
            *const CTensor, *const f32, u64, *mut *mut CTensor, *mut ErrorText) -> CResult>,
        cancelled: Option<unsafe extern "C" fn() -> u32>,
        extension: Option<unsafe extern "C" fn(
            *const c_char, *const Message, *const Answer, *mut ErrorText) -> CResult>,
    }
    Level as "wan_level" {
        frame: u32,
        update: u8,
        wants_velocity: u8,
        reserved: [u8; 2],
        timestep: f64,
        sigma: f64,
        sigma_next: f64,
    }
    Round as "wan_round" {
        size: u32,
        level_count: u32,
        levels: *const Level,
        attention_block: u32,
        evaluations: u32,
    }
    Step as "wan_step" {
        size: u32,
        evaluations_left: u32,
        index: u64,
        evaluation: u32,
        reserved: u32,
        round: *const Round,
    }
    Model as "wan_model" {
        size: u32,
        reserved: u32,
        velocity: Option<unsafe extern "C" fn(
            *const CTensor, *const Level, u64, *mut *mut CTensor, *mut ErrorText) -> CResult>,
    }
    DeclaredOption as "wan_option" {
        size: u32,
        kind: u32,
        name: *const c_char,
        doc: *const c_char,
        flag: *const c_char,
        min: f64,
        max: f64,
        choices: List<c_char>,
        initial: *const c_char,
    }
    Options as "wan_options" {
        size: u32,
        reserved: u32,
        json: *const c_char,
        self_: *const c_void,
        number: Option<unsafe extern "C" fn(*const c_void, *const c_char) -> f64>,
        text: Option<unsafe extern "C" fn(*const c_void, *const c_char) -> *const c_char>,
        numbers: Option<unsafe extern "C" fn(
            *const c_void, *const c_char, *mut f64, u64) -> u64>,
    }
    Request as "wan_request" {
        size: u32,
        frames: u32,
        prefix_frames: u32,
        steps: u32,
        shift: f64,
        temporal_scale: u32,
        reserved: u32,
    }
    Schedule as "wan_schedule" {
        size: u32,
        reserved: u32,
        self_: *mut c_void,
        round: Option<unsafe extern "C" fn(*mut c_void, *const Round)>,
        notice: Option<unsafe extern "C" fn(*mut c_void, *const c_char)>,
        part_of: Option<unsafe extern "C" fn(*mut c_void, u64, u32)>,
    }
    Sampler as "wan_sampler" {
        size: u32,
        reserved: u32,
        id: *const c_char,
        doc: *const c_char,
        options: List<DeclaredOption>,
        extensions: List<c_char>,
        create: Option<unsafe extern "C" fn(
            *const Sampler, *const Options, *const Request, *mut *mut c_void, *mut ErrorText,
        ) -> CResult>,
        schedule: Option<unsafe extern "C" fn(
            *mut c_void, u64, *const Schedule, *mut ErrorText) -> CResult>,
        step: Option<unsafe extern "C" fn(
            *mut c_void, *const Step, *const CTensor, *const Model, *const Ops,
            *mut *mut CTensor, *mut ErrorText,
        ) -> CResult>,
        extension: Extension,
        destroy: Option<unsafe extern "C" fn(*mut c_void)>,
    }
    Context as "wan_context" {
        size: u32,
        expert: u32,
        branch: *const c_char,
        evaluations: u32,
        evaluations_before: u32,
        evaluations_after: u32,
        steps: u32,
        experts: u32,
        frames: u32,
        frame_tokens: u32,
        timesteps_max: u32,
        variant: *const c_char,
        model_hash: *const c_char,
        dim: u32,
        layers: u32,
        in_channels: u32,
        dtype: u32,
        signal_dtype: u32,
        keep: u32,
        frame_output_elements: u64,
        residual_bytes: u64,
    }
    Plan as "wan_plan" {
        size: u32,
        decides: u32,
        after_block: u32,
        reads: u32,
        replaces: u32,
        shared_decision: u8,
        schedule_only: u8,
        reserved: [u8; 2],
        bytes_max: u64,
        measures: List<c_char>,
        rule: *const c_char,
    }
    Signal as "wan_signal" { kind: u32, reserved: u32, tensor: *const CTensor, }
    Evaluation as "wan_evaluation" {
        size: u32,
        index: u32,
        remaining: u32,
        leader: u32,
        levels: *const Level,
        signals: *const Signal,
        level_count: u32,
        signal_count: u32,
        computes: Form,
    }
    Decision as "wan_decision" {
        size: u32,
        keep: u32,
        reuse: *mut CTensor,
        measured: *mut f64,
        measured_room: u32,
        measured_count: u32,
    }
    Cache as "wan_cache" {
        size: u32,
        reserved: u32,
        id: *const c_char,
        doc: *const c_char,
        options: List<DeclaredOption>,
        extensions: List<c_char>,
        create: Option<unsafe extern "C" fn(
            *const Cache, *const Options, *const Context, *mut *mut c_void, *mut ErrorText,
        ) -> CResult>,
        plan: Option<unsafe extern "C" fn(*mut c_void, *mut Plan, *mut ErrorText) -> CResult>,
        decide: Option<unsafe extern "C" fn(
            *mut c_void, *const Evaluation, *const Ops, *mut Decision, *mut ErrorText,
        ) -> CResult>,
        store: Option<unsafe extern "C" fn(
            *mut c_void, *const CTensor, *const Ops, *mut ErrorText) -> CResult>,
        extension: Extension,
        destroy: Option<unsafe extern "C" fn(*mut c_void)>,
    }
    Sigmas as "wan_sigmas" {
        size: u32,
        steps: u32,
        sigmas: *const f64,
        timesteps: *const f64,
        first_frame: u32,
        reserved: u32,
    }
    Solver as "wan_solver" {
        size: u32,
        reserved: u32,
        id: *const c_char,
        doc: *const c_char,
        options: List<DeclaredOption>,
        extensions: List<c_char>,
        create: Option<unsafe extern "C" fn(
            *const Solver, *const Options, *const Sigmas, *mut *mut c_void, *mut ErrorText,
        ) -> CResult>,
        evaluations: Option<unsafe extern "C" fn(*mut c_void, u64) -> u32>,
        level: Option<unsafe extern "C" fn(
            *mut c_void, u64, u32, *mut f64, *mut f64, *mut ErrorText) -> CResult>,
        step: Option<unsafe extern "C" fn(
            *mut c_void, u64, u32, *const CTensor, *const CTensor, *const Ops,
            *mut *mut CTensor, *mut ErrorText,
        ) -> CResult>,
        extension: Extension,
        destroy: Option<unsafe extern "C" fn(*mut c_void)>,
    }
    Plugin as "wan_plugin" {
        size: u32,
        reserved: u32,
        samplers: List<Sampler>,
        caches: List<Cache>,
        solvers: List<Solver>,
    }
}

// A member that is added to a struct comes behind the one that is named here; this list stays.
frozen! {
    ErrorText: text,
    Form: place,
    Host: log,
    Message: tensors,
    Answer: give,
    Ops: extension,
    Round: evaluations,
    Step: round,
    Model: velocity,
    DeclaredOption: initial,
    Options: numbers,
    Request: reserved,
    Schedule: part_of,
    Sampler: destroy,
    Context: residual_bytes,
    Plan: rule,
    Evaluation: computes,
    Decision: measured_count,
    Cache: destroy,
    Sigmas: reserved,
    Solver: destroy,
    Plugin: solvers,
}

// SAFETY: the header asks for tables that stay as they are for ever, their lists and texts included.
unsafe impl Sync for Sampler {}
// SAFETY: as above.
unsafe impl Sync for Cache {}
// SAFETY: as above.
unsafe impl Sync for Solver {}

/// The function by which samplers, caches and solvers answer extensions.
pub type Extension = Option<
    unsafe extern "C" fn(
        *mut c_void,
        *const c_char,
        *const Message,
        *const Answer,
        *const Ops,
        *mut ErrorText,
    ) -> CResult,
>;

/// `wan_plugin_entry`.
pub type Entry = unsafe extern "C" fn(*const Host) -> *const Plugin;

/// Name of that symbol.
pub const ENTRY_SYMBOL: &str = "wan_plugin_entry";

/// Kinds of options.
pub const BOOL: u32 = 1;
/// A whole number.
pub const INT: u32 = 2;
/// A number.
pub const FLOAT: u32 = 3;
/// One of some words.
pub const CHOICE: u32 = 4;
/// Numbers.
pub const FLOAT_LIST: u32 = 5;
/// A JSON file.
pub const DOCUMENT: u32 = 6;

/// Decision points.
pub const BEFORE_EMBED: u32 = 1;
/// Before the blocks.
pub const BEFORE_BLOCKS: u32 = 2;
/// After a block.
pub const AFTER_BLOCK: u32 = 3;

/// What a reuse replaces: the residual of the blocks.
pub const RESIDUAL: u32 = 1;
/// The output minus the input.
pub const OUTPUT_DELTA: u32 = 2;
