//! What came of a case.

use std::fmt;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use anyhow::{Context, Result};

use super::bounded::{self, Ended};
use super::case::{Case, Must};
use super::{command_line, compared};

/// Letters of a message that are shown.
const SHOWN_MAX: usize = 240;

/// Exit code of a process that panicked.
const PANICKED: i32 = 101;

/// Exit codes from here on are those of signals, in shells.
const SIGNALS: i32 = 128;

/// What is said on the error stream of a process that died of itself.
const DEATHS: [&str; 3] = ["panicked at", "stack overflow", "memory allocation of"];

/// What a check came to, and why.
pub(super) enum Verdict {
    Passed(String),
    Failed(String),
    Skipped(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed(how) => write!(f, "passed   {how}"),
            Self::Failed(why) => write!(f, "FAILED   {why}"),
            Self::Skipped(why) => write!(f, "skipped  {why}"),
        }
    }
}

/// Converts the weights of a case, and compares what is written.
pub(super) fn converted(program: &Path, case: &Case) -> Result<Verdict> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("out.safetensors");
    let ended = run(case, &mut command_line::convert(program, case, &out)?)?;
    let ended = match ended {
        Ok(ended) => ended,
        Err(why) => return Ok(Verdict::Failed(why)),
    };
    let heard = heard(case, &ended.said());
    let said = shown(&ended.said());
    if ended.status.is_some_and(|status| status.success()) {
        if case.said.must == Must::Refused {
            return Ok(Verdict::Failed("loaded; should be refused".into()));
        }
        if let Some(fault) = compared::fault(case, &out)? {
            return Ok(Verdict::Failed(fault));
        }
        let lacking = lacking(&heard, &case.said.warning_has);
        return Ok(if lacking.is_empty() {
            Verdict::Passed("loads".into())
        } else {
            Verdict::Failed(format!("loads, but no word of {lacking:?} is said: {said}"))
        });
    }
    if case.said.must == Must::Loads {
        return Ok(Verdict::Failed(format!("refused: {said}")));
    }
    let lacking = lacking(&heard, &case.said.message_has);
    if !lacking.is_empty() {
        return Ok(Verdict::Failed(format!("the refusal has no word of {lacking:?}: {said}")));
    }
    let wrong = case.said.message_lacks.iter().find(|word| heard.contains(&word.to_lowercase()));
    Ok(match wrong {
        Some(word) => Verdict::Failed(format!("the refusal speaks of {word:?}: {said}")),
        None => Verdict::Passed(format!("refused: {said}")),
    })
}

/// Computes the forward pass of a case, and compares what comes out.
pub(super) fn forwarded(program: &Path, case: &Case) -> Result<Verdict> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("out.safetensors");
    let ended = match run(case, &mut command_line::forward(program, case, &out)?)? {
        Ok(ended) => ended,
        Err(why) => return Ok(Verdict::Failed(why)),
    };
    if !ended.status.is_some_and(|status| status.success()) {
        return Ok(Verdict::Failed(format!("refused: {}", shown(&ended.said()))));
    }
    let io = case.said.forward.as_deref().context("a forward pass")?;
    Ok(match compared::forward_fault(&case.file(io), &out)? {
        Some(fault) => Verdict::Failed(fault),
        None => Verdict::Passed("comes out as recorded".into()),
    })
}

/// Runs a command of a case; why it ended as none may, if it did.
fn run(case: &Case, command: &mut std::process::Command) -> Result<Result<Ended, String>> {
    let limits = case.said.limits.context("limits")?;
    let mark = case.said.must_not_exist.as_deref();
    let remove = || mark.is_some_and(|mark| fs::remove_file(mark).is_ok());
    remove();
    let ended = bounded::run(command, limits)?;
    let said = ended.said();
    if remove() {
        return Ok(Err("code in the file was run".into()));
    }
    let Some(status) = ended.status else { return Ok(Err("does not end".into())) };
    if ended.most_mb > limits.memory_mb {
        let (took, allowed) = (ended.most_mb, limits.memory_mb);
        return Ok(Err(format!("took {took} MB, allowed are {allowed}")));
    }
    let code = status.code().filter(|code| *code != PANICKED && *code < SIGNALS);
    let low = said.to_lowercase();
    if status.signal().is_some() || code.is_none() || DEATHS.iter().any(|d| low.contains(d)) {
        return Ok(Err(format!("died ({status}): {}", shown(&said))));
    }
    Ok(Ok(ended))
}

/// What was said, in small letters, without names of the case's own files: a word in a file's name
/// is no word of a message.
fn heard(case: &Case, said: &str) -> String {
    let mut low = said.to_lowercase();
    let files = case.said.model.iter().take(1).chain(case.said.loras.iter().map(|lora| &lora.file));
    for file in files {
        let (path, name) = (case.file(file), file.display().to_string());
        for written in [path.display().to_string(), name] {
            low = low.replace(&written.to_lowercase(), "\0");
        }
    }
    let folder = case.folder.display().to_string();
    low.replace(&folder.to_lowercase(), "\0").replace(&case.name.to_lowercase(), "\0")
}

fn lacking<'a>(heard: &str, lists: &'a [Vec<String>]) -> Vec<&'a Vec<String>> {
    let lacks = |list: &&Vec<String>| !list.iter().any(|word| heard.contains(&word.to_lowercase()));
    lists.iter().filter(lacks).collect()
}

/// A message in one line that is not too long.
fn shown(said: &str) -> String {
    let line = said.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(SHOWN_MAX).collect()
}
