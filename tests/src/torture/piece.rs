//! One process of the program, ended at a moment of its own or of ours.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Longest time of a process; they take seconds.
const TIME_MAX: Duration = Duration::from_secs(300);

/// When a process is sent its signal: once it has written so many lines, and after them so many
/// bytes, and after that so much time has passed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Moment {
    pub(super) lines: usize,
    pub(super) bytes: usize,
    pub(super) time: Duration,
}

impl Moment {
    /// Whether what a process has written is enough.
    fn is_written(self, text: &[u8]) -> bool {
        let ends =
            text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
        let after = std::iter::once(0).chain(ends).nth(self.lines);
        after.is_some_and(|after| text.len() - after >= self.bytes)
    }
}

/// A process that has ended.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) status: ExitStatus,
    /// What it wrote to the error stream.
    pub(super) text: String,
    /// Lines of progress.
    lines: Vec<Value>,
    /// From the signal to the end, where it got one.
    pub(super) after_signal: Option<Duration>,
    /// From its start to its end.
    pub(super) length: Duration,
    /// From its last line to its end.
    pub(super) tail: Duration,
}

impl Piece {
    /// Runs the program in a folder; sends it this signal at this moment, if it lives so long.
    pub(super) fn run(
        program: &Path,
        folder: &Path,
        arguments: &[String],
        ending: Option<(Signal, Moment)>,
    ) -> Result<Self> {
        let mut command = Command::new(program);
        command.current_dir(folder).args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
        // Several run at once.
        command.env("RAYON_NUM_THREADS", "1").env_remove("RUST_BACKTRACE").stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| program.display().to_string())?;
        let followed = follow(&mut child, ending);
        if followed.is_err() {
            let _ = child.kill();
            let _ = child.wait();
        }
        followed
    }

    /// Whether it was this signal that ended it.
    pub(super) fn was_ended_by(&self, signal: Signal) -> bool {
        self.status.signal() == Some(signal.as_raw())
    }

    /// Evaluations of its last line that has them.
    pub(super) fn evaluations(&self) -> Option<u64> {
        self.lines.iter().rev().find_map(|line| line["evaluations"].as_u64())
    }

    /// Rounds that are done, by the first line that tells, and by the last.
    pub(super) fn rounds_done(&self) -> Option<(u64, u64)> {
        let mut rounds = self.rounds();
        let first = rounds.next()?;
        Some((first, rounds.last().unwrap_or(first)))
    }

    fn rounds(&self) -> impl Iterator<Item = u64> {
        let rounds = self.lines.iter().filter(|line| line["evaluations"].is_u64());
        rounds.filter_map(|line| line["done"].as_u64())
    }

    /// Most evaluations of one round.
    pub(super) fn evaluations_of_a_round(&self) -> u64 {
        let all = self.lines.iter().filter_map(|line| line["evaluations"].as_u64());
        let all: Vec<u64> = std::iter::once(0).chain(all).collect();
        all.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().unwrap_or(0)
    }

    /// Evaluations of branches that the cache has answered.
    pub(super) fn reused(&self) -> u64 {
        self.lines.iter().rev().find_map(|line| line["reused"].as_u64()).unwrap_or(0)
    }

    /// The phase that it was in.
    pub(super) fn phase(&self) -> Option<&str> {
        self.lines.last().and_then(|line| line["phase"].as_str())
    }

    /// How many lines it wrote.
    pub(super) fn line_count(&self) -> usize {
        self.text.lines().count()
    }

    /// Its last lines that are no progress.
    pub(super) fn said(&self) -> String {
        let said = self.text.lines().filter(|line| !line.starts_with('{'));
        said.collect::<Vec<_>>().join(" | ")
    }
}

/// Reads what a process writes, and ends it at its moment.
fn follow(child: &mut Child, ending: Option<(Signal, Moment)>) -> Result<Piece> {
    let started = Instant::now();
    let heard = listen(child)?;
    let (mut text, mut ending, mut due, mut sent) = (Vec::new(), ending, None, None);
    let mut last = started;
    loop {
        if let Some((signal, moment)) = ending
            && due.is_none()
            && moment.is_written(&text)
        {
            due = Some((signal, Instant::now() + moment.time));
            ending = None;
        }
        let until = match due {
            Some((_, at)) if sent.is_none() => at.saturating_duration_since(Instant::now()),
            _ => (started + TIME_MAX).saturating_duration_since(Instant::now()),
        };
        match heard.recv_timeout(until) {
            Ok(piece) => {
                text.extend(piece);
                last = Instant::now();
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => match due {
                Some((signal, _)) if sent.is_none() => {
                    // It is not waited for yet: its number is still its own.
                    kill_process(Pid::from_child(child), signal)?;
                    sent = Some(Instant::now());
                }
                _ => bail!("takes more than {TIME_MAX:?}: {}", String::from_utf8_lossy(&text)),
            },
        }
    }
    let status = child.wait()?;
    let (end, text) = (Instant::now(), String::from_utf8_lossy(&text).into_owned());
    let lines = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let after_signal = sent.map(|sent| end - sent);
    Ok(Piece { status, text, lines, after_signal, length: end - started, tail: end - last })
}

/// What a process writes to the error stream, as it comes.
fn listen(child: &mut Child) -> Result<Receiver<Vec<u8>>> {
    let mut from = child.stderr.take().context("the error stream is a pipe")?;
    let (to, heard) = channel();
    std::thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut piece) {
            if to.send(piece[..count].to_vec()).is_err() {
                break;
            }
        }
    });
    Ok(heard)
}
