//! Samplers, caches and solvers of a library in C.

use std::ffi::{c_char, c_void};

use super::handles::{Lent, take};
use super::messages::{Awaited, with_message};
use super::ops::{MODEL, OPS};
use super::under_way::UnderWay;
use crate::c::convert::{
    c_text, form_to_c, levels_to_c, list, no_error, optional_text, outcome, round_from_c,
    round_to_c, size, text,
};
use crate::c::tables::{self, Cache, Extension, Plan, Sampler, Solver};
use crate::library::{AnyCache, AnySampler, AnySolver};
use crate::{
    Action, CachePlan, Decision, DecisionPoint, Denoise, Error, Evaluation, Message, Replaces,
    Result, Round, Schedule, ScheduleSize, Signal, Step, Tensor, TensorOps,
};

/// Most numbers that a cache measures.
const MEASURES_MAX: usize = 64;

type Destroy = unsafe extern "C" fn(*mut c_void);

/// An object of a library, destroyed with this.
struct Object {
    id: String,
    object: *mut c_void,
    destroy: Destroy,
}

// SAFETY: the header asks a library for objects that can be called from one thread after another.
unsafe impl Send for Object {}

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: it is what `create` gave, and it is not used any more.
        unsafe { (self.destroy)(self.object) };
    }
}

impl Object {
    fn new(id: &str, (object, destroy): (*mut c_void, Destroy)) -> Self {
        Self { id: id.into(), object, destroy }
    }

    /// Asks an extension.
    fn extension(
        &self,
        function: Extension,
        (id, message): (&str, &Message),
        ops: &dyn TensorOps,
    ) -> Result<Message> {
        let Some(function) = function else {
            return Err(Error::unsupported(format!("{} has no extension {id}", self.id)));
        };
        let (mut awaited, mut error, name) = (Awaited::default(), no_error(), c_text(id));
        let answer = awaited.answer();
        let under_way = UnderWay::new(ops, None);
        // SAFETY: everything lives until it returns.
        let answered = with_message(message, |question| unsafe {
            let (answer, ops) = (&raw const answer, &raw const OPS);
            function(self.object, name.as_ptr(), question, answer, ops, &raw mut error)
        });
        drop(under_way);
        outcome(answered, &error)?;
        awaited.take(id)
    }

    /// The tensor that a function of this object has given.
    fn given(&self, function: &str, tensor: *mut tables::CTensor) -> Result<Tensor> {
        let named = |why: Error| Error::failed(format!("{function} of {}: {why}", self.id));
        take(tensor).map_err(named)
    }
}

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
unsafe fn write_down(taken: *mut c_void, with: impl FnOnce(&mut Schedule) -> Result<()>) {
    // SAFETY: promised by the caller; the library is still in its call.
    let taken = unsafe { &mut *taken.cast::<Taken>() };
    if taken.wrong.is_none() {
        taken.wrong = with(&mut taken.schedule).err();
    }
}

unsafe extern "C" fn take_round(taken: *mut c_void, round: *const tables::Round) {
    // SAFETY: the header asks for a round.
    let round: Result<Round> = unsafe { round_from_c(round) };
    // SAFETY: it is what was given out.
    unsafe { write_down(taken, |schedule| round.map(|round| schedule.rounds.push(round))) };
}

unsafe extern "C" fn take_notice(taken: *mut c_void, line: *const c_char) {
    // SAFETY: the header asks for a text.
    let line = unsafe { text(line, "notice") };
    // SAFETY: it is what was given out.
    unsafe { write_down(taken, |schedule| line.map(|line| schedule.notices.push(line))) };
}

unsafe extern "C" fn take_size(taken: *mut c_void, rounds: u64, evaluations: u32) {
    let rounds = usize::try_from(rounds)
        .map_err(|_| Error::failed(format!("a schedule of {rounds} rounds")));
    // SAFETY: it is what was given out.
    unsafe {
        write_down(taken, |schedule| {
            schedule.part_of = Some(ScheduleSize { rounds: rounds?, evaluations });
            Ok(())
        });
    }
}

pub(super) struct CCache {
    object: Object,
    table: &'static Cache,
    plan: CachePlan,
}

impl CCache {
    /// An object, with its plan.
    ///
    /// # Errors
    /// What the library says, and a plan that means nothing.
    pub(super) fn new(
        id: &str,
        table: &'static Cache,
        object: (*mut c_void, Destroy),
    ) -> Result<Self> {
        let object = Object::new(id, object);
        let Some(function) = table.plan else { unreachable!() };
        let mut plan = Plan {
            size: size::<Plan>(),
            decides: tables::BEFORE_BLOCKS,
            after_block: 0,
            reads: 0,
            replaces: tables::RESIDUAL,
            shared_decision: 0,
            schedule_only: 0,
            reserved: [0; 2],
            bytes_max: 0,
            measures: std::ptr::null(),
            rule: std::ptr::null(),
        };
        let mut error = no_error();
        // SAFETY: everything lives until it returns.
        outcome(unsafe { function(object.object, &raw mut plan, &raw mut error) }, &error)?;
        // SAFETY: the plan's pointers are valid as long as the object.
        let plan = unsafe { plan_from_c(&plan) }
            .map_err(|why| Error::failed(format!("plan of {id}: {why}")))?;
        Ok(Self { object, table, plan })
    }
}

/// # Safety
/// The plan's pointers are NULL or as the header says.
unsafe fn plan_from_c(plan: &Plan) -> Result<CachePlan> {
    let wrong = |what: &str, code: u32| Error::failed(format!("there is no {what} {code}"));
    let known = [
        Signal::Sample,
        Signal::TimeEmbedding,
        Signal::TimeProjection,
        Signal::Hidden,
        Signal::Probe,
    ];
    let reads: Vec<Signal> =
        known.into_iter().filter(|signal| plan.reads & (1 << *signal as u32) != 0).collect();
    let all = known.iter().fold(0, |bits, signal| bits | 1 << *signal as u32);
    if plan.reads & !all != 0 {
        return Err(wrong("signal in", plan.reads));
    }
    let mut measures = Vec::new();
    // SAFETY: promised by the caller, as are the others.
    for name in unsafe { list(plan.measures, "measures") }? {
        measures.push(unsafe { text(name, "measure") }?);
    }
    if measures.len() > MEASURES_MAX {
        let count = measures.len();
        return Err(Error::failed(format!("{count} measures, at most {MEASURES_MAX} are taken")));
    }
    let rule = match unsafe { optional_text(plan.rule, "rule") }? {
        None => Default::default(),
        Some(rule) => serde_json::from_str(&rule)
            .map_err(|e| Error::failed(format!("its rule is no rule: {e}")))?,
    };
    Ok(CachePlan {
        decides: match plan.decides {
            tables::BEFORE_EMBED => DecisionPoint::BeforeEmbed,
            tables::BEFORE_BLOCKS => DecisionPoint::BeforeBlocks,
            tables::AFTER_BLOCK => DecisionPoint::AfterBlock(plan.after_block),
            other => return Err(wrong("decision point", other)),
        },
        reads,
        replaces: match plan.replaces {
            tables::RESIDUAL => Replaces::Residual,
            tables::OUTPUT_DELTA => Replaces::OutputDelta,
            other => return Err(wrong("tensor to replace", other)),
        },
        shared_decision: plan.shared_decision != 0,
        schedule_only: plan.schedule_only != 0,
        bytes_max: plan.bytes_max,
        measures,
        rule,
    })
}

impl AnyCache for CCache {
    fn plan(&self) -> &CachePlan {
        &self.plan
    }

    fn decide(&mut self, evaluation: &Evaluation<'_>, ops: &dyn TensorOps) -> Result<Decision> {
        let Some(function) = self.table.decide else { unreachable!() };
        let levels = levels_to_c(evaluation.levels);
        let lent: Vec<Lent> =
            evaluation.signals.iter().map(|(_, tensor)| Lent::new(tensor)).collect();
        let signals: Vec<tables::Signal> = evaluation
            .signals
            .iter()
            .zip(&lent)
            .map(|((kind, _), lent)| tables::Signal {
                kind: *kind as u32,
                reserved: 0,
                tensor: lent.get(),
            })
            .collect();
        let count = |of: usize| u32::try_from(of).unwrap_or(u32::MAX);
        let asked = tables::Evaluation {
            size: size::<tables::Evaluation>(),
            index: evaluation.index,
            remaining: evaluation.remaining,
            leader: evaluation.leader.map_or(0, |choice| choice as u32),
            levels: levels.as_ptr(),
            signals: signals.as_ptr(),
            level_count: count(levels.len()),
            signal_count: count(signals.len()),
            computes: form_to_c(evaluation.computes),
        };
        let (mut measured, mut error) = ([0f64; MEASURES_MAX], no_error());
        let mut decision = tables::Decision {
            size: size::<tables::Decision>(),
            keep: 0,
            reuse: std::ptr::null_mut(),
            measured: measured.as_mut_ptr(),
            measured_room: count(MEASURES_MAX),
            measured_count: 0,
        };
        let under_way = UnderWay::new(ops, None);
        // SAFETY: everything lives until it returns.
        let decided = unsafe {
            let (object, ops) = (self.object.object, &raw const OPS);
            function(object, &raw const asked, ops, &raw mut decision, &raw mut error)
        };
        drop(under_way);
        outcome(decided, &error)?;
        let action = if decision.reuse.is_null() {
            Action::Compute { keep: decision.keep != 0 }
        } else {
            Action::Reuse(self.object.given("decide", decision.reuse)?)
        };
        let Some(measured) = measured.get(..decision.measured_count as usize) else {
            let count = decision.measured_count;
            let id = &self.object.id;
            return Err(Error::failed(format!("decide of {id}: measured {count} numbers")));
        };
        Ok(Decision { action, measured: measured.to_vec() })
    }

    fn store(&mut self, computed: &Tensor, ops: &dyn TensorOps) -> Result<()> {
        let Some(function) = self.table.store else { unreachable!() };
        let (computed, mut error) = (Lent::new(computed), no_error());
        let under_way = UnderWay::new(ops, None);
        // SAFETY: everything lives until it returns.
        let stored =
            unsafe { function(self.object.object, computed.get(), &raw const OPS, &raw mut error) };
        drop(under_way);
        outcome(stored, &error)
    }

    fn extension(&mut self, id: &str, message: Message, ops: &dyn TensorOps) -> Result<Message> {
        self.object.extension(self.table.extension, (id, &message), ops)
    }
}

pub(super) struct CSolver {
    object: Object,
    table: &'static Solver,
}

impl CSolver {
    pub(super) fn new(id: &str, table: &'static Solver, object: (*mut c_void, Destroy)) -> Self {
        Self { object: Object::new(id, object), table }
    }
}

impl AnySolver for CSolver {
    fn evaluations(&self, index: usize) -> u32 {
        // SAFETY: it is the object's own function.
        self.table.evaluations.map_or(1, |f| unsafe { f(self.object.object, index as u64) })
    }

    fn level(&self, index: usize, evaluation: u32) -> Result<Option<(f64, f64)>> {
        let Some(function) = self.table.level else { return Ok(None) };
        let (mut timestep, mut sigma, mut error) = (f64::NAN, f64::NAN, no_error());
        // SAFETY: everything lives until it returns.
        let said = unsafe {
            let object = self.object.object;
            let (timestep, sigma) = (&raw mut timestep, &raw mut sigma);
            function(object, index as u64, evaluation, timestep, sigma, &raw mut error)
        };
        outcome(said, &error)?;
        Ok(Some((timestep, sigma)))
    }

    fn step(
        &mut self,
        (index, evaluation): (usize, u32),
        sample: &Tensor,
        velocity: &Tensor,
        ops: &dyn TensorOps,
    ) -> Result<Tensor> {
        let Some(function) = self.table.step else { unreachable!() };
        let (sample, velocity) = (Lent::new(sample), Lent::new(velocity));
        let (mut out, mut error) = (std::ptr::null_mut(), no_error());
        let under_way = UnderWay::new(ops, None);
        // SAFETY: everything lives until it returns.
        let stepped = unsafe {
            let (object, sample, velocity) = (self.object.object, sample.get(), velocity.get());
            let (out, error) = (&raw mut out, &raw mut error);
            function(object, index as u64, evaluation, sample, velocity, &raw const OPS, out, error)
        };
        drop(under_way);
        outcome(stepped, &error)?;
        self.object.given("step", out)
    }

    fn extension(&mut self, id: &str, message: Message, ops: &dyn TensorOps) -> Result<Message> {
        self.object.extension(self.table.extension, (id, &message), ops)
    }
}
