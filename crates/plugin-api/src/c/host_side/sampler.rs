//! A sampler of a library in C.

use std::ffi::{c_char, c_void};

use super::handles::Lent;
use super::object::{Destroy, Object};
use super::ops::{MODEL, OPS};
use super::under_way::UnderWay;
use crate::c::convert::{levels_to_c, no_error, outcome, round_from_c, round_to_c, size, text};
use crate::c::tables::{self, Sampler};
use crate::guard::guard_host;
use crate::library::AnySampler;
use crate::{Denoise, Error, Message, Result, Schedule, ScheduleSize, Step, Tensor, TensorOps};

pub(super) struct CSampler {
    object: Object,
    table: &'static Sampler,
}

impl CSampler {
    pub(super) fn new(id: &str, table: &'static Sampler, object: (*mut c_void, Destroy)) -> Self {
        Self { object: Object::new(id, object), table }
    }
}

/// Rounds as they come.
#[derive(Default)]
struct Taken {
    schedule: Schedule,
    wrong: Option<Error>,
}

impl AnySampler for CSampler {
    fn schedule_from(&self, round: usize) -> Result<Schedule> {
        let Some(schedule) = self.table.schedule else { unreachable!() };
        let (mut taken, mut error) = (Taken::default(), no_error());
        let taker = tables::Schedule {
            size: size::<tables::Schedule>(),
            reserved: 0,
            self_: (&raw mut taken).cast(),
            round: Some(take_round),
            notice: Some(take_notice),
            part_of: Some(take_size),
        };
        // SAFETY: everything lives until it returns.
        let said =
            unsafe { schedule(self.object.object, round as u64, &raw const taker, &raw mut error) };
        outcome(said, &error)?;
        match taken.wrong {
            Some(wrong) => Err(wrong),
            None => Ok(taken.schedule),
        }
    }

    fn step(
        &mut self,
        sample: &Tensor,
        step: &Step<'_>,
        model: &mut dyn Denoise,
        ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        let Some(function) = self.table.step else { unreachable!() };
        let levels = levels_to_c(&step.round.levels);
        let round = round_to_c(step.round, &levels);
        let place = tables::Step {
            size: size::<tables::Step>(),
            evaluations_left: step.evaluations_left,
            index: step.index as u64,
            evaluation: step.evaluation,
            reserved: 0,
            round: &raw const round,
        };
        let (sample, mut out, mut error) = (Lent::new(sample), std::ptr::null_mut(), no_error());
        let under_way = UnderWay::new(ops, Some(model));
        // SAFETY: everything lives until it returns.
        let stepped = unsafe {
            let (model, ops) = (&raw const MODEL, &raw const OPS);
            let object = self.object.object;
            function(
                object,
                &raw const place,
                sample.get(),
                model,
                ops,
                &raw mut out,
                &raw mut error,
            )
        };
        drop(under_way);
        outcome(stepped, &error)?;
        self.object.given("step", out)
    }

    fn extension(&mut self, id: &str, message: Message, ops: &dyn TensorOps) -> Result<Message> {
        self.object.extension(self.table.extension, (id, &message), ops)
    }
}

/// Writes down what a schedule says.
///
/// # Safety
/// `taken` is what [`AnySampler::schedule_from`] gave out.
unsafe fn write_down(
    taken: *mut c_void,
    name: &str,
    with: impl FnOnce(&mut Schedule) -> Result<()>,
) {
    // SAFETY: promised by the caller; the library is still in its call.
    let taken = unsafe { &mut *taken.cast::<Taken>() };
    if taken.wrong.is_none() {
        taken.wrong = guard_host(name, || with(&mut taken.schedule)).err();
    }
}

unsafe extern "C" fn take_round(taken: *mut c_void, round: *const tables::Round) {
    let write = |schedule: &mut Schedule| {
        // SAFETY: the header asks for a round.
        schedule.rounds.push(unsafe { round_from_c(round) }?);
        Ok(())
    };
    // SAFETY: it is what was given out.
    unsafe { write_down(taken, "round", write) };
}

unsafe extern "C" fn take_notice(taken: *mut c_void, line: *const c_char) {
    let write = |schedule: &mut Schedule| {
        // SAFETY: the header asks for a text.
        schedule.notices.push(unsafe { text(line, "notice") }?);
        Ok(())
    };
    // SAFETY: it is what was given out.
    unsafe { write_down(taken, "notice", write) };
}

unsafe extern "C" fn take_size(taken: *mut c_void, rounds: u64, evaluations: u32) {
    let write = |schedule: &mut Schedule| {
        let rounds = usize::try_from(rounds)
            .map_err(|_| Error::failed(format!("a schedule of {rounds} rounds")))?;
        schedule.part_of = Some(ScheduleSize { rounds, evaluations });
        Ok(())
    };
    // SAFETY: it is what was given out.
    unsafe { write_down(taken, "part_of", write) };
}
