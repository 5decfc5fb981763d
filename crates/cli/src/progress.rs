//! Tells the user where a run stands: a bar, plain lines, or JSON.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use wan_host::parts::DecisionCount;
use wan_host::{RoundDone, Sidecar};

use crate::terminal;

/// How progress is shown, on the error stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProgressForm {
    /// A bar on a terminal, a line per phase elsewhere.
    Auto,
    /// One JSON object per line.
    Json,
    /// Nothing.
    Quiet,
}

impl ProgressForm {
    /// `auto`, `json` or `quiet`.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(Self::Auto),
            "json" => Some(Self::Json),
            "quiet" => Some(Self::Quiet),
            _ => None,
        }
    }
}

/// Phases of a run, shown and timed.
pub(crate) struct Progress {
    form: ProgressForm,
    /// Those that have ended and are in no sidecar yet, with their seconds.
    phases: Vec<(&'static str, f64)>,
    current: Option<Current>,
}

struct Current {
    name: &'static str,
    started: Instant,
    /// Seconds that were another phase's.
    of_others: f64,
    bar: ProgressBar,
}

impl Progress {
    /// Shows progress in this form.
    pub(crate) fn new(form: ProgressForm) -> Self {
        Self { form, phases: Vec::new(), current: None }
    }

    /// Says what the run will hold at most: in words, and its peaks.
    pub(crate) fn plan(&self, line: &str, peaks: serde_json::Value) {
        match self.form {
            ProgressForm::Auto => terminal::aside(line),
            ProgressForm::Json => terminal::aside(&json!({ "plan": peaks }).to_string()),
            ProgressForm::Quiet => {}
        }
    }

    /// Ends the current phase and begins `name`; `steps` is 0 where they are not known.
    pub(crate) fn phase(&mut self, name: &'static str, steps: usize) {
        self.finish();
        let bar = match self.form {
            ProgressForm::Auto if stderr().is_terminal() => bar(name, steps),
            ProgressForm::Auto => {
                terminal::aside(&format!("{name} ..."));
                ProgressBar::hidden()
            }
            ProgressForm::Json => {
                terminal::aside(&json!({ "phase": name, "steps": steps }).to_string());
                ProgressBar::hidden()
            }
            ProgressForm::Quiet => ProgressBar::hidden(),
        };
        // In the order in which they begin.
        self.add(name, 0.0);
        self.current = Some(Current { name, started: Instant::now(), of_others: 0.0, bar });
    }

    /// The current phase, of rounds, has done one more; `evaluations` are done in all.
    pub(crate) fn round(&mut self, round: &RoundDone, evaluations: u32) {
        let RoundDone { done, rounds, decisions } = *round;
        self.show((done, rounds), Some(decisions), Some(evaluations));
    }

    /// So many seconds of the current phase were another's.
    pub(crate) fn charge(&mut self, name: &'static str, seconds: f64) {
        if let Some(current) = &mut self.current {
            current.of_others += seconds;
        }
        self.add(name, seconds);
    }

    fn add(&mut self, name: &'static str, seconds: f64) {
        match self.phases.iter_mut().find(|(other, _)| *other == name) {
            Some((_, all)) => *all += seconds,
            None => self.phases.push((name, seconds)),
        }
    }

    /// Says something between two pictures of a bar.
    pub(crate) fn suspend(&self, say: impl FnOnce()) {
        match &self.current {
            Some(current) => current.bar.suspend(say),
            None => say(),
        }
    }

    /// The current phase has done `done` of `steps`.
    pub(crate) fn step(&mut self, done: usize, steps: usize) {
        self.show((done, steps), None, None);
    }

    fn show(
        &mut self,
        (done, steps): (usize, usize),
        decisions: Option<DecisionCount>,
        evaluations: Option<u32>,
    ) {
        let Some(current) = &self.current else { return };
        current.bar.set_length(steps as u64);
        current.bar.set_position(done as u64);
        let seconds = current.started.elapsed().as_secs_f64();
        let reused = decisions.filter(|d| d.computed + d.reused > 0);
        if let Some(d) = reused {
            current.bar.set_message(format!("reused {}/{}", d.reused, d.computed + d.reused));
        }
        if self.form == ProgressForm::Json {
            let mut line = json!({
                "phase": current.name, "done": done, "steps": steps,
                "per_second": done as f64 / seconds.max(1e-9),
                "reused": reused.map(|d| d.reused), "computed": reused.map(|d| d.computed),
            });
            if let Some(evaluations) = evaluations {
                line["evaluations"] = evaluations.into();
            }
            terminal::aside(&line.to_string());
        }
    }

    /// Ends the current phase.
    pub(crate) fn finish(&mut self) {
        let Some(Current { name, started, of_others, bar }) = self.current.take() else { return };
        bar.finish();
        let seconds = started.elapsed().as_secs_f64() - of_others;
        if self.form == ProgressForm::Auto && bar.is_hidden() {
            terminal::aside(&format!("{name}: {seconds:.1} s"));
        }
        self.add(name, seconds);
    }

    /// Moves the phases that have ended into the sidecar.
    pub(crate) fn note_phases(&mut self, sidecar: &mut Sidecar) {
        self.phases.drain(..).for_each(|(name, seconds)| sidecar.add_phase(name, seconds));
    }
}

fn bar(name: &'static str, steps: usize) -> ProgressBar {
    let template = match steps {
        0 => "{prefix:>8} {spinner} {elapsed}",
        _ => "{prefix:>8} [{bar:30}] {pos}/{len}  {per_sec}  {elapsed}<{eta}  {msg}",
    };
    let style = ProgressStyle::with_template(template)
        .expect("a constant template")
        .with_key("per_sec", |state: &indicatif::ProgressState, out: &mut dyn std::fmt::Write| {
            let _ = write!(out, "{:.2} it/s", state.per_sec());
        })
        .progress_chars("=> ");
    let bar = ProgressBar::new(steps as u64).with_style(style).with_prefix(name);
    if steps == 0 {
        bar.enable_steady_tick(Duration::from_millis(200));
    }
    bar
}
