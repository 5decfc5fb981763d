//! The table of a sampler.

use std::ffi::{c_char, c_void};

use super::SamplerTable;
use super::host::share;
use super::ops::{HostModel, HostOps};
use super::strategy::{
    answer_extension, call, declared, destroy, hand_over, leaked, leaked_list, make, read_options,
};
use crate::c::convert::{c_text, levels_to_c, round_from_c, round_to_c, size, sized};
use crate::c::tables::{
    Answer, CResult, CTensor, ErrorText, Message, Model, Ops, Options, Request, Sampler as Table,
    Schedule as Taker, Step as StepTable,
};
use crate::sampler::part_of_schedule;
use crate::{Attention, Error, Result, SampleRequest, Sampler, Schedule, Step};

impl SamplerTable {
    /// The table of `S`, which stays for ever.
    pub(crate) fn of<S: Sampler>() -> Self {
        Self(Box::leak(Box::new(Table {
            size: size::<Table>(),
            reserved: 0,
            id: leaked(S::ID),
            doc: leaked(S::DOC),
            options: declared(&S::options()),
            extensions: leaked_list(&S::extensions()),
            create: Some(create::<S>),
            schedule: Some(schedule::<S>),
            step: Some(step::<S>),
            extension: Some(extension::<S>),
            destroy: Some(destroy::<S>),
        })))
    }
}

unsafe extern "C" fn create<S: Sampler>(
    _: *const Table,
    options: *const Options,
    request: *const Request,
    object: *mut *mut c_void,
    error: *mut ErrorText,
) -> CResult {
    let new = || {
        // SAFETY: the header promises these.
        let (options, request) =
            unsafe { (read_options(S::ID, options)?, sized(request, "request")?) };
        let request = SampleRequest {
            frames: request.frames,
            prefix_frames: request.prefix_frames,
            steps: request.steps,
            shift: request.shift,
            temporal_scale: request.temporal_scale,
        };
        S::new(options, &request)
    };
    // SAFETY: the header promises these.
    unsafe { make(S::ID, (object, error), new) }
}

unsafe extern "C" fn schedule<S: Sampler>(
    object: *mut c_void,
    from: u64,
    taker: *const Taker,
    error: *mut ErrorText,
) -> CResult {
    let give = |sampler: &mut S| {
        let part = part_of_schedule(sampler, from)?;
        // SAFETY: the header promises it.
        unsafe { give_schedule(&part, taker) }
    };
    // SAFETY: the header promises these.
    unsafe { call(S::ID, (object, error), give) }
}

/// # Safety
/// `taker` is NULL or the host's.
unsafe fn give_schedule(part: &Schedule, taker: *const Taker) -> Result<()> {
    // SAFETY: promised by the caller.
    let taker = unsafe { sized(taker, "schedule") }?;
    let (Some(round), Some(notice), Some(part_of)) = (taker.round, taker.notice, taker.part_of)
    else {
        return Err(Error::failed("the host takes no schedule"));
    };
    for own in &part.rounds {
        // In C, 0 says that all frames see all.
        if own.attention == Attention::BlockCausal(0) {
            return Err(Error::failed("the attention of a round has blocks of 0 frames"));
        }
        let levels = levels_to_c(&own.levels);
        // SAFETY: the host's functions; everything lives until they return.
        unsafe { round(taker.self_, &round_to_c(own, &levels)) };
    }
    for line in &part.notices {
        // SAFETY: as above.
        unsafe { notice(taker.self_, c_text(line).as_ptr()) };
    }
    if let Some(size) = part.part_of {
        // SAFETY: as above.
        unsafe { part_of(taker.self_, size.rounds as u64, size.evaluations) };
    }
    Ok(())
}

unsafe extern "C" fn step<S: Sampler>(
    object: *mut c_void,
    place: *const StepTable,
    sample: *const CTensor,
    model: *const Model,
    ops: *const Ops,
    out: *mut *mut CTensor,
    error: *mut ErrorText,
) -> CResult {
    let step = |sampler: &mut S| {
        // SAFETY: the header promises these.
        let (place, mut model, ops) =
            unsafe { (sized(place, "step")?, HostModel::new(model)?, HostOps::new(ops)?) };
        // SAFETY: as above.
        let round = unsafe { round_from_c(place.round) }?;
        let place = Step {
            index: usize::try_from(place.index).unwrap_or(usize::MAX),
            evaluation: place.evaluation,
            evaluations_left: place.evaluations_left,
            round: &round,
        };
        let stepped = sampler.step(&share(sample)?, &place, &mut model, &ops)?;
        // SAFETY: the header promises it.
        unsafe { hand_over(out, &stepped) }
    };
    // SAFETY: the header promises these.
    unsafe { call(S::ID, (object, error), step) }
}

unsafe extern "C" fn extension<S: Sampler>(
    object: *mut c_void,
    id: *const c_char,
    question: *const Message,
    answer: *const Answer,
    ops: *const Ops,
    error: *mut ErrorText,
) -> CResult {
    let ask = |sampler: &mut S| {
        let extension = |id: &str, question, ops: &HostOps| sampler.extension(id, question, ops);
        // SAFETY: the header promises these.
        unsafe { answer_extension((id, question, ops), answer, extension) }
    };
    // SAFETY: the header promises these.
    unsafe { call(S::ID, (object, error), ask) }
}
