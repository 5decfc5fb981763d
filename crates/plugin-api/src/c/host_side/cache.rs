//! A cache of a library in C.

use std::ffi::c_void;

use super::handles::Lent;
use super::object::{Destroy, Object};
use super::ops::OPS;
use super::under_way::UnderWay;
use crate::c::convert::{
    form_to_c, levels_to_c, list, no_error, optional_text, outcome, size, text,
};
use crate::c::tables::{self, Cache, Plan};
use crate::library::AnyCache;
use crate::{
    Action, CachePlan, Decision, DecisionPoint, Error, Evaluation, Message, Replaces, Result,
    Signal, Tensor, TensorOps,
};

/// Most numbers that a cache measures.
const MEASURES_MAX: usize = 64;

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
    let reads: Vec<Signal> =
        Signal::ALL.into_iter().filter(|signal| plan.reads & (1 << *signal as u32) != 0).collect();
    let all = Signal::ALL.iter().fold(0, |bits, signal| bits | 1 << *signal as u32);
    if plan.reads & !all != 0 {
        return Err(wrong("signal in", plan.reads));
    }
    let mut measures = Vec::new();
    // SAFETY: promised by the caller, as are the others.
    for name in unsafe { list(plan.measures, "measures") }? {
        // SAFETY: as above.
        measures.push(unsafe { text(name, "measure") }?);
    }
    if measures.len() > MEASURES_MAX {
        let count = measures.len();
        return Err(Error::failed(format!("{count} measures, at most {MEASURES_MAX} are taken")));
    }
    // SAFETY: as above.
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
