//! Kinds `teacache_wan` and `teacache_df`: every decision of the TeaCache plugin, and where the
//! samplings end.

use anyhow::{Context, ensure};
use candle_core::{DType, Tensor};
use serde_json::{Value, json};
use wan_host::StrategyChoice;
use wan_host::parts::EvaluationRecord;
use wan_plugin_api::{Choice, OptionValues};

use super::pipeline::{Setup, compare_levels, compare_matrix};
use super::{Case, Compare};

/// Columns of a recorded log: step, stream, rel_l1, poly, before, after, computed, forced.
const COLUMNS: usize = 8;

/// Agreement of the logs' real numbers: the reference takes its means in f32.
const LOG_TOLERANCE: f64 = 1e-4;

/// Runs every recorded run of a case.
pub(super) fn run(case: &Case, compare: &mut Compare) -> anyhow::Result<()> {
    let setup = Setup::load(case)?;
    let full = setup.sample(case, None)?;
    compare.tensor("out.full.final_latents", &full.sampled.latents)?;
    compare_levels(&full.schedule, compare)?;
    if case.io.contains_key("out.chunk0.step_matrix") {
        compare_matrix(&full.schedule, compare)?;
    }
    let runs = case.description["runs"].as_array().context("case.json has no runs")?;
    for run in runs {
        let tag = run["tag"].as_str().context("a run without a tag")?;
        let cached = setup.sample(case, Some(&rule(run)?))?;
        compare.tensor(&format!("out.{tag}.final_latents"), &cached.sampled.latents)?;
        let steps = format!("out.{tag}.latents_per_step");
        if case.io.contains_key(&steps) {
            compare.tensor(&steps, &Tensor::stack(&cached.per_round, 0)?)?;
        }
        compare_log(case, compare, run, &log(&cached.sampled.records, run))?;
    }
    Ok(())
}

/// The recorded rule, as options of our cache: by the preset where the authors protect these very
/// evaluations, else option by option.
fn rule(run: &Value) -> anyhow::Result<StrategyChoice> {
    let force_last = run["force_last"].as_bool().context("force_last")?;
    let mut options = OptionValues::from([
        ("mode".into(), run["mode"].clone()),
        ("threshold".into(), run["thresh"].clone()),
        ("coefficients".into(), run["coefficients"].clone()),
    ]);
    match (run["mode"].as_str(), run["ret"].as_u64(), force_last) {
        (Some("e"), Some(1), true) | (Some("e0"), Some(5), false) => {
            options.insert("preset".into(), json!("upstream"));
        }
        _ => options.extend([
            ("retention".into(), run["ret"].clone()),
            ("last".into(), json!(u32::from(force_last))),
            ("anchor".into(), json!("previous")),
            ("scope".into(), json!("all-frames")),
            ("negative".into(), json!("reference")),
            ("max_skips".into(), json!(0)),
        ]),
    }
    Ok(StrategyChoice { id: "teacache".into(), options })
}

/// Our decisions in the columns of a recorded log.
fn log(records: &[EvaluationRecord], run: &Value) -> Vec<[f64; COLUMNS]> {
    let evaluations = records.iter().map(|r| r.evaluation + 1).max().unwrap_or(0);
    let retention = run["ret"].as_u64().unwrap_or(0) as u32;
    let force_last = run["force_last"].as_bool() == Some(true);
    let row = |record: &EvaluationRecord| {
        let step = record.evaluation;
        let forced = step < retention || (force_last && step + 1 == evaluations);
        let computed = record.choice == Choice::Compute;
        let mut row = [0.0; COLUMNS];
        row[0] = f64::from(step);
        row[1] = f64::from(u8::from(record.branch != "cond"));
        row[2..6].copy_from_slice(&record.measured);
        row[6] = f64::from(u8::from(computed));
        row[7] = f64::from(u8::from(forced));
        row
    };
    records.iter().map(row).collect()
}

/// Decisions exactly; the four real numbers to [`LOG_TOLERANCE`] of each column's largest.
fn compare_log(
    case: &Case,
    compare: &mut Compare,
    run: &Value,
    ours: &[[f64; COLUMNS]],
) -> anyhow::Result<()> {
    let tag = run["tag"].as_str().unwrap_or_default();
    let (name, bits) = (format!("out.{tag}.log"), format!("out.{tag}.log_f64_bits"));
    let recorded = case.tensor(&name)?.to_dtype(DType::F64)?.to_vec2::<f64>()?;
    ensure!(
        recorded.len() == ours.len(),
        "{name}: {} calls, recorded {}",
        ours.len(),
        recorded.len()
    );
    let exact = [0, 1, 6, 7];
    let wrong = recorded.iter().zip(ours).filter(|(a, b)| exact.iter().any(|c| a[*c] != b[*c]));
    compare.measured(&name, wrong.count() as f64, 0.0);
    let reals: Vec<Vec<f64>> = case
        .tensor(&bits)?
        .to_dtype(DType::I64)?
        .to_vec2::<i64>()?
        .into_iter()
        .map(|row| row.into_iter().map(|b| f64::from_bits(b as u64)).collect())
        .collect();
    let mut worst = 0f64;
    for column in 0..4 {
        let largest = reals.iter().map(|r| r[column].abs()).fold(0.0, f64::max);
        let differs = reals.iter().zip(ours).map(|(r, o)| (r[column] - o[column + 2]).abs());
        worst = worst.max(differs.fold(0.0, f64::max) / largest.max(f64::MIN_POSITIVE));
    }
    compare.measured(&bits, worst, LOG_TOLERANCE);
    Ok(())
}
