//! The table of a cache.

use std::ffi::{c_char, c_void};

use super::CacheTable;
use super::host::{give, share};
use super::ops::HostOps;
use super::strategy::{
    answer_extension, call, declared, destroy, leaked, leaked_list, make, read_options,
};
use crate::c::convert::{entries, fill, form_from_c, level_from_c, place, size, sized, text};
use crate::c::tables::{
    self, Answer, CResult, CTensor, Cache as Table, Context, Decision as DecisionTable, ErrorText,
    Evaluation as EvaluationTable, Message, Ops, Options, Plan,
};
use crate::{
    Action, Cache, CacheContext, CachePlan, Choice, DType, Decision, DecisionPoint, Error,
    Evaluation, ModelIdentity, Replaces, Result, Signal, Tensor,
};

impl CacheTable {
    /// The table of `C`, which stays for ever.
    pub(crate) fn of<C: Cache>() -> Self {
        Self(Box::leak(Box::new(Table {
            size: size::<Table>(),
            reserved: 0,
            id: leaked(C::ID),
            doc: leaked(C::DOC),
            options: declared(&C::options()),
            extensions: leaked_list(&C::extensions()),
            create: Some(create::<C>),
            plan: Some(plan::<C>),
            decide: Some(decide::<C>),
            store: Some(store::<C>),
            extension: Some(extension::<C>),
            destroy: Some(destroy::<Object<C>>),
        })))
    }
}

/// A cache, and the texts of its plan, which live as long.
struct Object<C> {
    cache: C,
    texts: Vec<std::ffi::CString>,
    measures: Vec<*const c_char>,
}

unsafe extern "C" fn create<C: Cache>(
    _: *const Table,
    options: *const Options,
    context: *const Context,
    object: *mut *mut c_void,
    error: *mut ErrorText,
) -> CResult {
    let new = || {
        // SAFETY: the header promises these.
        let (options, context) =
            unsafe { (read_options(C::ID, options)?, context_from_c(context)?) };
        let cache = C::new(options, &context)?;
        Ok(Object { cache, texts: Vec::new(), measures: Vec::new() })
    };
    // SAFETY: the header promises these.
    unsafe { make(C::ID, (object, error), new) }
}

/// # Safety
/// `context` is NULL or the host's.
unsafe fn context_from_c(context: *const Context) -> Result<CacheContext> {
    // SAFETY: promised by the caller, as are its texts.
    let context = unsafe { sized(context, "context") }?;
    // SAFETY: as above.
    let of = |text_of, what| unsafe { text(text_of, what) };
    let dtype = |code| {
        DType::from_code(code)
            .ok_or_else(|| Error::unsupported(format!("number format {code} of a later host")))
    };
    Ok(CacheContext {
        branch: of(context.branch, "branch")?,
        expert: context.expert,
        evaluations: context.evaluations,
        evaluations_before: context.evaluations_before,
        evaluations_after: context.evaluations_after,
        steps: context.steps,
        experts: context.experts,
        model: ModelIdentity {
            variant: of(context.variant, "variant")?,
            dim: context.dim,
            layers: context.layers,
            in_channels: context.in_channels,
            hash: of(context.model_hash, "hash of the model")?,
        },
        frames: context.frames,
        frame_tokens: context.frame_tokens,
        timesteps_max: context.timesteps_max,
        dtype: dtype(context.dtype)?,
        signal_dtype: dtype(context.signal_dtype)?,
        frame_output_elements: context.frame_output_elements,
        keep: place(context.keep),
    })
}

unsafe extern "C" fn plan<C: Cache>(
    object: *mut c_void,
    out: *mut Plan,
    error: *mut ErrorText,
) -> CResult {
    let write = |object: &mut Object<C>| {
        let CachePlan {
            decides,
            reads,
            replaces,
            shared_decision,
            schedule_only,
            bytes_max,
            measures,
            rule,
        } = object.cache.plan();
        let rule = serde_json::to_string(&rule)
            .map_err(|e| Error::failed(format!("its rule cannot be written: {e}")))?;
        object.texts =
            measures.iter().chain([&rule]).map(|t| crate::c::convert::c_text(t)).collect();
        object.measures = object.texts[..measures.len()].iter().map(|t| t.as_ptr()).collect();
        object.measures.push(std::ptr::null());
        let (decides, after_block) = match decides {
            DecisionPoint::BeforeEmbed => (tables::BEFORE_EMBED, 0),
            DecisionPoint::BeforeBlocks => (tables::BEFORE_BLOCKS, 0),
            DecisionPoint::AfterBlock(block) => (tables::AFTER_BLOCK, block),
        };
        let plan = Plan {
            size: size::<Plan>(),
            decides,
            after_block,
            reads: reads.iter().fold(0, |bits, signal| bits | 1 << *signal as u32),
            replaces: match replaces {
                Replaces::Residual => tables::RESIDUAL,
                Replaces::OutputDelta => tables::OUTPUT_DELTA,
            },
            shared_decision: shared_decision.into(),
            schedule_only: schedule_only.into(),
            reserved: [0; 2],
            bytes_max,
            measures: object.measures.as_ptr(),
            rule: object.texts[measures.len()].as_ptr(),
        };
        // SAFETY: the header promises it.
        unsafe { fill(out, &plan, "plan") }
    };
    // SAFETY: the header promises these.
    unsafe { call(C::ID, (object, error), write) }
}

unsafe extern "C" fn decide<C: Cache>(
    object: *mut c_void,
    evaluation: *const EvaluationTable,
    ops: *const Ops,
    out: *mut DecisionTable,
    error: *mut ErrorText,
) -> CResult {
    let decide = |object: &mut Object<C>| {
        // SAFETY: the header promises these.
        let (asked, ops) = unsafe { (sized(evaluation, "evaluation")?, HostOps::new(ops)?) };
        // SAFETY: as above.
        let levels = unsafe { entries(asked.levels, asked.level_count.into(), "levels") }?;
        // SAFETY: as above.
        let signals = unsafe { entries(asked.signals, asked.signal_count.into(), "signals") }?;
        let levels: Vec<_> = levels.iter().map(level_from_c).collect();
        let mut shown: Vec<(Signal, Tensor)> = Vec::with_capacity(signals.len());
        for signal in signals {
            // A signal of a later host is none that the plan has asked for.
            if let Some(kind) = Signal::from_code(signal.kind) {
                shown.push((kind, share(signal.tensor)?));
            }
        }
        let plain = Evaluation {
            index: asked.index,
            remaining: asked.remaining,
            leader: Choice::from_code(asked.leader),
            levels: &levels,
            computes: form_from_c(&asked.computes),
            signals: &shown,
        };
        let decision = object.cache.decide(&plain, &ops)?;
        // SAFETY: the header promises it.
        unsafe { give_decision(&decision, out) }
    };
    // SAFETY: the header promises these.
    unsafe { call(C::ID, (object, error), decide) }
}

/// # Safety
/// `out` is NULL or the host's, with the room that it says.
unsafe fn give_decision(decision: &Decision, out: *mut DecisionTable) -> Result<()> {
    // SAFETY: promised by the caller.
    let mut written = unsafe { sized(out.cast_const(), "decision") }?;
    let numbers = &decision.measured;
    if numbers.len() > written.measured_room as usize {
        let (has, room) = (numbers.len(), written.measured_room);
        return Err(Error::failed(format!("{has} measured numbers, there is room for {room}")));
    }
    // SAFETY: there is room for them.
    unsafe { written.measured.copy_from_nonoverlapping(numbers.as_ptr(), numbers.len()) };
    written.measured_count = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
    match &decision.action {
        Action::Compute { keep } => written.keep = u32::from(*keep),
        Action::Reuse(tensor) => written.reuse = give(tensor)?,
    }
    // SAFETY: promised by the caller.
    unsafe { fill(out, &written, "decision") }
}

unsafe extern "C" fn store<C: Cache>(
    object: *mut c_void,
    computed: *const CTensor,
    ops: *const Ops,
    error: *mut ErrorText,
) -> CResult {
    let store = |object: &mut Object<C>| {
        // SAFETY: the header promises it.
        let ops = unsafe { HostOps::new(ops) }?;
        object.cache.store(&share(computed)?, &ops)
    };
    // SAFETY: the header promises these.
    unsafe { call(C::ID, (object, error), store) }
}

unsafe extern "C" fn extension<C: Cache>(
    object: *mut c_void,
    id: *const c_char,
    question: *const Message,
    answer: *const Answer,
    ops: *const Ops,
    error: *mut ErrorText,
) -> CResult {
    let ask = |object: &mut Object<C>| {
        let extension =
            |id: &str, question, ops: &HostOps| object.cache.extension(id, question, ops);
        // SAFETY: the header promises these.
        unsafe { answer_extension((id, question, ops), answer, extension) }
    };
    // SAFETY: the header promises these.
    unsafe { call(C::ID, (object, error), ask) }
}
