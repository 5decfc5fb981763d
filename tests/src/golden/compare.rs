//! Comparison with a case's recorded tensors, and the line that reports it.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use candle_core::{Device, Tensor, WithDType};
use wan_model::Numerics;

use super::{Case, NotSupported};

/// Collects the comparisons of one case.
///
/// The metric is `nerr(a, b) = max|a - b| / max|b|` for each tensor, `b` recorded; integers must
/// be equal. Every `mid.*` and `out.*` tensor has to be compared.
pub struct Compare<'a> {
    case: &'a Case,
    compared: BTreeSet<String>,
    worst: Option<Worst>,
    half: Option<f64>,
    failures: Vec<String>,
}

struct Worst {
    tensor: String,
    error: f64,
    tolerance: f64,
}

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything recorded was compared and lies within tolerance.
    Pass,
    /// Something did not, or could not be computed.
    Fail,
    /// The workspace lacks what the case needs.
    NotSupported,
}

/// One case's result.
pub struct Report {
    /// Folder name.
    pub name: String,
    /// Kind of the case.
    pub kind: String,
    /// How it ended.
    pub verdict: Verdict,
    /// Tensors compared.
    pub tensors: usize,
    /// Tensor with the largest error for its tolerance, the error, the tolerance.
    pub worst: Option<(String, f64, f64)>,
    /// Largest error of the half-precision runs, as a share of what they may have.
    pub half: Option<f64>,
    /// What failed, or what is not supported.
    pub notes: Vec<String>,
}

impl<'a> Compare<'a> {
    /// Nothing compared yet.
    pub fn new(case: &'a Case) -> Self {
        Self { case, compared: BTreeSet::new(), worst: None, half: None, failures: Vec::new() }
    }

    /// The tolerance `case.json` gives to a tensor.
    pub fn tolerance(&self, name: &str) -> anyhow::Result<f64> {
        let description = &self.case.description;
        let own = description["tensor_tolerance"][name].as_f64();
        own.or(description["tolerance"].as_f64()).context("case.json has no tolerance")
    }

    /// Compares `ours` with the recorded tensor of that name; shapes must agree.
    pub fn tensor(&mut self, name: &str, ours: &Tensor) -> anyhow::Result<()> {
        let recorded = self.case.tensor(name)?;
        if recorded.dims() != ours.dims() {
            let (ours, recorded) = (ours.dims(), recorded.dims());
            self.compared.insert(name.to_owned());
            self.failures.push(format!("{name}: shape {ours:?}, recorded {recorded:?}"));
            return Ok(());
        }
        if !recorded.dtype().is_float() {
            let (ours, recorded) = (numbers::<i64>(ours)?, numbers::<i64>(recorded)?);
            let wrong = ours.iter().zip(&recorded).filter(|(a, b)| a != b).count();
            self.measured(name, wrong as f64, 0.);
            return Ok(());
        }
        let tolerance = self.tolerance(name)?;
        let error = nerr(ours, recorded)?;
        self.measured(name, error, tolerance);
        Ok(())
    }

    /// Compares the output of a half-precision run, whose error may be `bound` at most.
    pub fn half(
        &mut self,
        numerics: Numerics,
        velocity: &Tensor,
        bound: f64,
    ) -> anyhow::Result<()> {
        let error = nerr(velocity, self.case.tensor("out.sample")?)?;
        if error.is_nan() || error > bound {
            self.failures.push(format!("{numerics:?}: {error:.2e}, bound {bound:.1e}"));
        }
        self.half = Some(self.half.map_or(error / bound, |worst| worst.max(error / bound)));
        Ok(())
    }

    /// Records an error that another rule measured.
    pub fn measured(&mut self, name: &str, error: f64, tolerance: f64) {
        self.compared.insert(name.to_owned());
        if error.is_nan() || error > tolerance {
            self.failures.push(format!("{name}: {error:.2e}, tolerance {tolerance:.1e}"));
        }
        let share = |error: f64, tolerance: f64| match error {
            e if e.is_nan() => f64::INFINITY,
            0. => 0.,
            e => e / tolerance,
        };
        let worst = self.worst.as_ref().map_or(-1., |w| share(w.error, w.tolerance));
        if share(error, tolerance) > worst {
            self.worst = Some(Worst { tensor: name.to_owned(), error, tolerance });
        }
    }

    /// Checks that nothing recorded was passed over, and closes the case.
    pub fn finish(mut self, outcome: anyhow::Result<()>) -> Report {
        let mut report =
            Report::failed(self.case.name(), self.case.kind().to_owned(), String::new());
        report.notes.clear();
        report.tensors = self.compared.len();
        if let Err(error) = outcome {
            if let Some(NotSupported(what)) = error.downcast_ref::<NotSupported>() {
                report.notes.push(what.clone());
                report.verdict = Verdict::NotSupported;
                return report;
            }
            self.failures.push(format!("{error:#}"));
        }
        let recorded = self.case.io.keys().filter(|name| !name.starts_with("in."));
        let mut missed: Vec<_> =
            recorded.filter(|name| !self.compared.contains(*name)).map(String::as_str).collect();
        missed.sort_unstable();
        if !missed.is_empty() {
            self.failures.push(format!("not compared: {}", missed.join(", ")));
        }
        if self.failures.is_empty() {
            report.verdict = Verdict::Pass;
        }
        report.half = self.half;
        report.worst = self.worst.map(|w| (w.tensor, w.error, w.tolerance));
        report.notes = self.failures;
        report
    }
}

fn numbers<T: WithDType>(tensor: &Tensor) -> candle_core::Result<Vec<T>> {
    tensor.to_device(&Device::Cpu)?.to_dtype(T::DTYPE)?.flatten_all()?.to_vec1()
}

/// `max|a - b| / max|b|` in f64; `max|a - b|` where `b` is all zero.
fn nerr(ours: &Tensor, recorded: &Tensor) -> anyhow::Result<f64> {
    ensure!(ours.elem_count() == recorded.elem_count(), "tensors of different size");
    let (ours, recorded) = (numbers::<f64>(ours)?, numbers::<f64>(recorded)?);
    let (mut difference, mut largest) = (0f64, 0f64);
    for (a, b) in ours.iter().zip(&recorded) {
        let d = (a - b).abs();
        // `max` drops NaN, which must not pass for agreement.
        difference = if d.is_nan() { f64::NAN } else { difference.max(d) };
        if difference.is_nan() {
            return Ok(f64::NAN);
        }
        largest = largest.max(b.abs());
    }
    Ok(if largest > 0. { difference / largest } else { difference })
}

impl Report {
    /// A case that broke before anything could be compared.
    pub fn failed(name: String, kind: String, note: String) -> Self {
        let (verdict, notes) = (Verdict::Fail, vec![note]);
        Self { name, kind, verdict, tensors: 0, worst: None, half: None, notes }
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verdict = match self.verdict {
            Verdict::Pass => "pass".to_owned(),
            Verdict::Fail => "fail".to_owned(),
            Verdict::NotSupported => format!("not supported yet: {}", self.notes.join("; ")),
        };
        let (tensor, error, tolerance) = match &self.worst {
            Some((tensor, error, tolerance)) => {
                (tensor.as_str(), format!("{error:.2e}"), format!("{tolerance:.1e}"))
            }
            None => ("-", "-".to_owned(), "-".to_owned()),
        };
        // Share of its own bound that the worst half-precision run of the case used.
        let half = self.half.map_or(String::new(), |share| format!("half {share:.2}"));
        let Self { name, kind, tensors, .. } = self;
        write!(f, "{name:<30} {kind:<16} {tensors:>4}  {error:>8} {tensor:<34} {tolerance:>8}")?;
        write!(f, "  {half:<9}  {verdict}")?;
        if self.verdict == Verdict::Fail {
            for note in &self.notes {
                write!(f, "\n    {note}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_is_relative_to_the_largest_recorded_number() {
        let [a, b] =
            [[1f32, 2., -4.5], [1., 2., -4.]].map(|v| Tensor::new(&v, &Device::Cpu).unwrap());
        assert_eq!(nerr(&a, &b).unwrap(), 0.125);
        let nan = Tensor::new(&[1f32, f32::NAN, -4.], &Device::Cpu).unwrap();
        assert!(nerr(&nan, &b).unwrap().is_nan());
    }

    #[test]
    fn passing_over_a_recorded_tensor_fails_the_case() {
        let one = Tensor::new(&[1f32], &Device::Cpu).unwrap();
        let names = ["in.x", "mid.y", "out.z"];
        let case = Case {
            device: Device::Cpu,
            folder: "made-up".into(),
            description: serde_json::json!({ "kind": "none", "tolerance": 1e-6 }),
            config: serde_json::Value::Null,
            io: names.map(|name| (name.to_owned(), one.clone())).into(),
        };
        let mut compare = Compare::new(&case);
        compare.tensor("out.z", &one).unwrap();
        let report = compare.finish(Ok(()));
        assert_eq!((report.verdict, report.notes.len()), (Verdict::Fail, 1));
        assert_eq!(report.notes[0], "not compared: mid.y");
        let mut compare = Compare::new(&case);
        compare.tensor("out.z", &one).unwrap();
        compare.tensor("mid.y", &(&one + 1e-3).unwrap()).unwrap();
        assert_eq!(compare.finish(Ok(())).verdict, Verdict::Fail);
    }
}
