//! Thresholds, protected evaluations, and the gate of a reuse.

use wan_plugin_api::{CachePlan, Choice, Gate, Protects};

use crate::case::{Case, Checked, Stop, Verdict, computes, ensure, held_if, reuses};
use crate::drive::{Entry, decisions};

pub(crate) fn off(case: &Case<'_>) -> Checked {
    let Some(spec) = case.cache.specs().iter().find(|s| s.name == "threshold") else {
        return Ok(Verdict::Unmet);
    };
    if spec.check(&0.0.into()).is_err() {
        return Ok(Verdict::Unmet);
    }
    let script = case.script();
    for (index, entry) in
        case.run_with(&case.options_with("threshold", 0.0), &script)?.iter().enumerate()
    {
        ensure!(entry.choice == Choice::Compute, "evaluation {index} reused");
        ensure!(!entry.kept, "evaluation {index} asked for what it computed");
        ensure!(entry.held == 0, "{} bytes held after evaluation {index}", entry.held);
    }
    Ok(Verdict::Held)
}

pub(crate) fn first(case: &Case<'_>) -> Checked {
    let log = case.run(&case.script())?;
    ensure!(log[0].choice == Choice::Compute, "{}", decisions(&log));
    Ok(Verdict::Held)
}

pub(crate) fn limits(case: &Case<'_>) -> Checked {
    let script = case.script();
    let declared = case.plan(&script)?.rule.protects;
    let Some(protects) = declared.or_else(|| from_options(case)) else {
        return Ok(Verdict::Unmet);
    };
    if declared.is_some() {
        options_are_declared(case, protects)?;
    }
    let log = case.run(&script)?;
    let (all, mut row) = (log.len(), 0);
    for (index, entry) in log.iter().enumerate() {
        row = if entry.choice == Choice::Reuse { row + 1 } else { 0 };
        let is_protected = index < protects.first as usize || index + protects.last as usize >= all;
        let too_many = protects.reuses_max > 0 && row > protects.reuses_max;
        ensure!(
            entry.choice == Choice::Compute || !(is_protected || too_many),
            "{} at {index}, against {protects:?}",
            decisions(&log)
        );
    }
    Ok(Verdict::Held)
}

fn from_options(case: &Case<'_>) -> Option<Protects> {
    let number = |name| case.number(name).map(|n| n.max(0.0) as u32);
    let [first, last, reuses_max] = ["retention", "last", "max_skips"].map(number);
    let found = first.or(last).or(reuses_max);
    found.map(|_| Protects {
        first: first.unwrap_or(0),
        last: last.unwrap_or(0),
        reuses_max: reuses_max.unwrap_or(0),
    })
}

/// An option that was set must be in the declaration; a preset may overrule a default.
fn options_are_declared(case: &Case<'_>, declared: Protects) -> Result<(), Stop> {
    let Some(options) = from_options(case) else { return Ok(()) };
    let set = |name| case.was_set(name);
    let first = !set("retention") || declared.first >= options.first;
    let last = !set("last") || declared.last >= options.last;
    let row = !set("max_skips")
        || options.reuses_max == 0
        || (1..=options.reuses_max).contains(&declared.reuses_max);
    ensure!(first && last && row, "{options:?} was asked for, {declared:?} is declared");
    Ok(())
}

pub(crate) fn gate(case: &Case<'_>) -> Checked {
    let script = case.script();
    let plan = case.plan(&script)?;
    let Some(gate) = &plan.rule.gate else { return Ok(Verdict::Unmet) };
    let log = case.run(&script)?;
    let mut sum = 0.0;
    for (index, entry) in log.iter().enumerate() {
        let computed = entry.choice == Choice::Compute;
        if entry.measured.is_empty() {
            ensure!(
                computed,
                "evaluation {index} of {} was reused without a number",
                decisions(&log)
            );
        } else {
            let Some((value, step)) = numbers(&plan, gate, entry) else {
                ensure!(false, "{gate:?} is not among the measures {:?}", plan.measures);
                return Ok(Verdict::Unmet);
            };
            sum += step.unwrap_or(0.0);
            let is_sum = step.is_none() || (value - sum).abs() <= 1e-5 * (1.0 + sum.abs());
            // A computed evaluation may report 0 instead of the sum.
            ensure!(
                is_sum || (computed && value == 0.0),
                "evaluation {index} of {}: {value}, and its steps add up to {sum}",
                decisions(&log)
            );
            ensure!(
                computed || value < gate.below,
                "evaluation {index} of {}: reused at {value}, the limit is {}",
                decisions(&log),
                gate.below
            );
        }
        // Whether it was measured or not.
        if computed {
            sum = 0.0;
        }
    }
    Ok(held_if(reuses(&log).next().is_some()))
}

/// The measured values of the gate and of its step.
fn numbers(plan: &CachePlan, gate: &Gate, entry: &Entry) -> Option<(f64, Option<f64>)> {
    let of = |name: &str| {
        let place = plan.measures.iter().position(|m| m == name)?;
        entry.measured.get(place).copied()
    };
    let step = match &gate.step {
        Some(step) => Some(of(step)?),
        None => None,
    };
    Some((of(&gate.measure)?, step))
}

pub(crate) fn monotone(case: &Case<'_>) -> Checked {
    let Some(smaller) = case.number("threshold").filter(|t| *t > 0.0) else {
        return Ok(Verdict::Unmet);
    };
    let larger = smaller * (1.0 + 4.0 * case.input.at);
    let script = case.script();
    let log = case.run(&script)?;
    let more = case.run_with(&case.options_with("threshold", larger), &script)?;
    ensure!(
        computes(&more) <= computes(&log),
        "{} at {smaller}, {} at {larger}",
        decisions(&log),
        decisions(&more)
    );
    Ok(Verdict::Held)
}
