//! A run whose process is ended, and which goes on until its video is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::Value;

use super::files::{self, Left, Made};
use super::piece::{Moment, Piece};
use super::report::{Failure, Phase, Report, Stop};
use super::{Ending, Moments, Quiet, generate, resume};
use crate::dice::Dice;

/// Most processes of a run.
const PIECES_MAX: usize = 10;

/// How far a run has come, as `wan runs` says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Reached {
    done: u64,
    evaluations: u64,
}

/// A run.
pub(super) struct Victim<'q> {
    quiet: &'q Quiet<'q>,
    number: usize,
    folder: PathBuf,
    made: BTreeSet<String>,
    dice: Dice,
    report: Report,
    /// Evaluations of all pieces.
    spent: u64,
    /// What the last piece said of rounds and evaluations, counted from the first round.
    said: Reached,
    /// Frames of the growing file when a process was ended.
    grown: usize,
}

impl<'q> Victim<'q> {
    /// Runs it, ended so often.
    pub(super) fn run(quiet: &'q Quiet<'q>, number: usize, stops: usize) -> Result<Report> {
        let folder = quiet.folder.join(number.to_string());
        fs::create_dir(&folder)?;
        let options = &quiet.world.options;
        let mut victim = Self {
            quiet,
            number,
            folder,
            made: files::names(&quiet.folder.join("quiet")),
            dice: Dice::new(options.seed, quiet.case.number * 16 + number as u64),
            report: Report::new(options.ending),
            spent: 0,
            said: Reached::default(),
            grown: 0,
        };
        if let Err(error) = victim.go_on(stops) {
            victim.fail("the run", format!("{error:#}"));
        }
        Ok(victim.report)
    }

    fn go_on(&mut self, stops: usize) -> Result<()> {
        for place in 0..PIECES_MAX {
            let left = Left::in_folder(&self.folder, &self.made);
            if left == Left::Removed {
                self.end_removal()?;
                break;
            }
            let (arguments, from) = match left {
                Left::Run { has_checkpoint } => (resume(), self.reached(has_checkpoint)?),
                _ => (generate(&self.quiet.flags), Reached::default()),
            };
            self.compare_with_what_was_said(from);
            let ending = (place < stops).then(|| (self.signal(), self.moment(place)));
            let program = &self.quiet.world.options.program;
            let piece = Piece::run(program, &self.folder, &arguments, ending)?;
            self.count(&piece, from);
            if self.is_done(&piece)? {
                break;
            }
            ensure!(place + 1 < PIECES_MAX, "does not end");
        }
        self.compare()
    }

    fn signal(&self) -> Signal {
        match self.quiet.world.options.ending {
            Ending::Kill => Signal::KILL,
            Ending::Interrupt => Signal::INT,
        }
    }

    /// When a process is ended: the first anywhere in the quiet run's course, some of them after
    /// its last line; others early enough to come before their end.
    fn moment(&mut self, place: usize) -> Moment {
        let (quiet, dice) = (&self.quiet.piece, &mut self.dice);
        let lines = quiet.line_count();
        match (self.quiet.world.options.moments, place) {
            (Moments::Lines, 0) => {
                Moment { lines: dice.below(lines + 1), bytes: dice.below(60), ..Moment::default() }
            }
            (Moments::Lines, _) => {
                let (lines, bytes) = (dice.below(lines / 2 + 1), dice.below(60));
                Moment { lines, bytes, ..Moment::default() }
            }
            (Moments::Time, 0) if dice.one_in(5) => {
                let time = quiet.tail.mul_f64(dice.share());
                Moment { lines, time, ..Moment::default() }
            }
            (Moments::Time, _) => {
                let part = if place == 0 { 1.0 } else { 0.7 };
                let time = quiet.length.mul_f64(part * dice.share());
                Moment { time, ..Moment::default() }
            }
        }
    }

    /// The checkpoint that the next process goes on from.
    fn reached(&mut self, has_checkpoint: bool) -> Result<Reached> {
        let mut command = Command::new(&self.quiet.world.options.program);
        let output = command.args(["runs", "--json"]).current_dir(&self.folder).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "wan runs: {said}");
        let runs: Vec<Value> = serde_json::from_slice(&output.stdout)?;
        let [run] = &runs[..] else { bail!("wan runs has {} runs", runs.len()) };
        let damage = run["damage"].as_array().context("damage")?;
        if !damage.is_empty() || run["worked_on"] != false {
            self.fail("wan runs", run.to_string());
        }
        let number = |name: &str| run[name].as_u64();
        if has_checkpoint && number("done").is_none() {
            self.fail("wan runs", "does not see the checkpoint".into());
        }
        let [done, evaluations] = ["done", "evaluations"].map(|name| number(name).unwrap_or(0));
        Ok(Reached { done, evaluations })
    }

    /// At most the last round that a process has said to be done may be lost, and none where it was
    /// asked to stop.
    fn compare_with_what_was_said(&mut self, from: Reached) {
        let lost = self.said.evaluations.saturating_sub(from.evaluations);
        if let Some(last) = self.report.stops.last_mut() {
            last.lost = lost;
        }
        let may_be_lost = u64::from(self.signal() == Signal::KILL);
        if from.done + may_be_lost < self.said.done {
            let Reached { done, .. } = self.said;
            self.fail("rounds", format!("goes on from {} of {done} that were done", from.done));
        }
    }

    /// Counts the evaluations of a process that went on from there.
    fn count(&mut self, piece: &Piece, from: Reached) {
        let evaluations = piece.evaluations().unwrap_or(from.evaluations);
        let Some(spent) = evaluations.checked_sub(from.evaluations) else {
            let said = format!("has {evaluations} evaluations, from {}", from.evaluations);
            return self.fail("evaluations", said);
        };
        self.spent += spent;
        let (first, done) = piece.rounds_done().unwrap_or((from.done + 1, from.done));
        if first != from.done + 1 {
            let what = if first == 1 { "began at round 0" } else { "began elsewhere" };
            self.fail(what, format!("round {first} was its first, after {}", from.done));
        }
        self.said = Reached { done, evaluations };
    }

    /// Whether the process has come to the end of the run.
    fn is_done(&mut self, piece: &Piece) -> Result<bool> {
        let was_asked = piece.after_signal.is_some();
        let (status, signal) = (piece.status, self.signal());
        let is_ended = match signal {
            // Before it listens it is ended by the signal itself.
            Signal::INT if piece.was_ended_by(signal) && piece.text.is_empty() => true,
            Signal::INT => status.code() == Some(130),
            _ => piece.was_ended_by(signal),
        };
        if status.success() {
            let is_late = was_asked && signal == Signal::INT;
            self.report.late += usize::from(is_late);
            return Ok(true);
        }
        ensure!(was_asked && is_ended, "{status}: {}", piece.said());
        let phase = self.phase_of(piece);
        let after = piece.after_signal.unwrap_or_default();
        self.report.stops.push(Stop { phase, after, lost: 0 });
        self.look(piece)?;
        Ok(false)
    }

    fn phase_of(&self, piece: &Piece) -> Phase {
        let names = files::names(&self.folder);
        match (Left::in_folder(&self.folder, &self.made), piece.phase()) {
            (Left::Removed, _) => Phase::AfterTheVideo,
            _ if self.made.is_subset(&names) => Phase::AfterTheVideo,
            (Left::Nothing, None) => Phase::BeforeTheFolder,
            (_, Some("denoise")) => Phase::Denoise,
            (_, Some("decode")) => Phase::Decode,
            (_, Some("write")) => Phase::Write,
            _ => Phase::Load,
        }
    }

    /// What a process that was ended has left.
    fn look(&mut self, piece: &Piece) -> Result<()> {
        let beside = files::beside(&self.folder, &self.made);
        if !beside.is_empty() {
            self.fail("beside NAME.run", beside.join(", "));
        }
        let is_run = matches!(Left::in_folder(&self.folder, &self.made), Left::Run { .. });
        let is_told = piece.text.contains("wan resume");
        let (_, done) = piece.rounds_done().unwrap_or_default();
        if self.signal() == Signal::INT && is_run && done > 0 && !is_told {
            self.fail("what it says", format!("no command that resumes: {}", piece.said()));
        }
        let Some(whole) = &self.quiet.made.pictures else { return Ok(()) };
        match files::growing(&self.folder, whole) {
            Ok(frames) => self.grown = frames,
            Err(error) => self.fail("the growing file", format!("{error:#}")),
        }
        if self.grown > 0 {
            self.keep(&files::run_folder(&self.folder).join("growing-video.mp4"), "growing.mp4")?;
        }
        Ok(())
    }

    /// A run whose folder was being removed when its process was ended.
    fn end_removal(&mut self) -> Result<()> {
        let folder = files::run_folder(&self.folder);
        if !folder.exists() {
            return Ok(());
        }
        if files::names(&folder).is_empty() {
            // Its last entry, the lock, is gone already.
            return Ok(fs::remove_dir(&folder)?);
        }
        let mut command = Command::new(&self.quiet.world.options.program);
        command.args(["runs", "--remove", "out.run"]).current_dir(&self.folder);
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "wan runs --remove: {said}");
        Ok(())
    }

    /// Compares what is there at the end with the quiet run.
    fn compare(&mut self) -> Result<()> {
        let made = Made::read(&self.folder)?;
        for difference in self.quiet.made.differences(&made) {
            self.fail("not what the quiet run made", difference);
        }
        let quiet = &self.quiet.piece;
        let (usual, round) = (quiet.evaluations().unwrap_or(0), quiet.evaluations_of_a_round());
        let most = usual + round * self.report.stops.len() as u64;
        if !(usual..=most).contains(&self.spent) {
            let spent = self.spent;
            self.fail("evaluations", format!("{spent}, and the quiet run had {usual}"));
        }
        self.report.runs += 1;
        self.report.extra += self.spent.saturating_sub(usual);
        if self.grown > 0 {
            let video = files::video(&self.folder);
            files::check_with_ffmpeg(&video)?;
            self.keep(&video, "mp4")?;
        }
        Ok(())
    }

    fn keep(&self, file: &std::path::Path, end: &str) -> Result<()> {
        if let Some(folder) = &self.quiet.world.options.keep {
            let name = format!("{}-{}.{end}", self.quiet.case.number, self.number);
            fs::copy(file, folder.join(name))?;
        }
        Ok(())
    }

    fn fail(&mut self, kind: &'static str, what: String) {
        let phase = self.report.stops.last().map(|stop| stop.phase);
        let run = format!("{}, run {}", self.quiet.case, self.number);
        self.report.failures.push(Failure { kind, phase, run, what });
    }
}
