//! A case in a process of its own: started by [`run`], answered by [`answer`].

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wan_host::{Error, Result};
use wan_plugin_api::PluginDescription;

use super::outcome::{Failed, Outcome, Status};
use super::patience::Patience;
use super::test::{Case, Scope, Test};
use super::{CheckOptions, Errand, cache, library, options, sampler};

/// What a case's process writes. A file, because a library may print whatever it likes.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    outcome: Outcome,
    description: Option<PluginDescription>,
}

/// How long a waiting process sleeps.
const PAUSE: Duration = Duration::from_millis(4);

/// Last part of the error stream of a crashed process that is looked at.
const TAIL: usize = 4096;

/// Starts this program again for one case, and waits.
#[expect(clippy::disallowed_methods, reason = "the program starts itself: a library may crash it")]
pub(super) fn run(
    library: &Path,
    case: &Case,
    settings: &CheckOptions,
) -> Result<(Outcome, Option<PluginDescription>)> {
    let folder = tempfile::tempdir().map_err(Error::io(Path::new("a temporary folder")))?;
    let (answer, errors) = (folder.path().join("answer.json"), folder.path().join("stderr"));
    let stderr = fs::File::create(&errors).map_err(Error::io(&errors))?;
    let program = std::env::current_exe().map_err(Error::io(Path::new("this program")))?;
    let mut command = Command::new(&program);
    command.args(["plugins", "answer"]).arg(library).arg("--test").arg(case.test.name());
    if let Some(strategy) = &case.strategy {
        command.arg(format!("--strategy={strategy}"));
    }
    command.arg("--seed").arg(settings.seed.to_string());
    command.arg("--memory").arg(settings.memory_bytes_max.to_string());
    command.arg("--answer").arg(&answer);
    command.env("RUST_BACKTRACE", "0");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
    let child = command.spawn().map_err(Error::io(&program))?;
    let status = wait(child, settings.timeout).map_err(Error::io(&program))?;
    let Some(status) = status else {
        let seconds = settings.timeout.as_secs_f64();
        let message = format!("no end after {seconds} s; a loop, or a lock that is never given up");
        return Ok((Outcome::new(Status::Timeout, message), None));
    };
    let text = fs::read_to_string(&answer).unwrap_or_default();
    let how = crash(status, &errors);
    match serde_json::from_str::<Answer>(&text) {
        Ok(answer) if status.success() => Ok((answer.outcome, answer.description)),
        // The test is over, and the library is not: a destructor, or a thread that is left.
        Ok(Answer { outcome: Outcome { status, message }, .. }) => {
            let before = format!("{} {message}", status.word());
            let message = format!("{how}; at exit, after the test had ended: {before}");
            Ok((Outcome::new(Status::Crash, message), None))
        }
        Err(_) => Ok((Outcome::new(Status::Crash, how), None)),
    }
}

/// Waits for the end; none: it did not come in time.
fn wait(mut child: Child, timeout: Duration) -> std::io::Result<Option<ExitStatus>> {
    let mut patience = Patience::new(child.id(), timeout);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if patience.is_over() {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(PAUSE);
    }
}

fn crash(status: ExitStatus, errors: &Path) -> String {
    let mut text = Vec::new();
    let _ = fs::File::open(errors).and_then(|mut file| file.read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(TAIL)..]).into_owned();
    let tells = |line: &&str| !line.is_empty() && !line.starts_with("note: ");
    match text.lines().rev().map(str::trim).find(tells) {
        Some(last) => format!("the process ended with {status}: {last}"),
        None => format!("the process ended with {status}"),
    }
}

/// Runs a case in this very process and writes the answer: the other side of `run`.
///
/// # Errors
/// If the answer cannot be written.
pub fn answer(errand: &Errand) -> Result<()> {
    // Where there is no such limit, the time limit has to do.
    let _ =
        rlimit::setrlimit(rlimit::Resource::AS, errand.memory_bytes_max, errand.memory_bytes_max);
    let (outcome, description) =
        judge(errand).unwrap_or_else(|Failed(message)| (Outcome::new(Status::Fail, message), None));
    let text = serde_json::to_vec(&Answer { outcome, description })
        .map_err(|e| Error::invalid(format!("the answer cannot be written as JSON: {e}")))?;
    fs::write(&errand.answer, text).map_err(Error::io(&errand.answer))
}

fn judge(errand: &Errand) -> std::result::Result<(Outcome, Option<PluginDescription>), Failed> {
    let opened = library::open(&errand.library)?;
    let test = errand.case.test;
    match (test.scope(), &errand.case.strategy) {
        (Scope::Library, _) => {
            let description = opened.library.describe()?;
            let outcome = match test {
                Test::Manifest => library::manifest(&opened.manifest, &description)?,
                _ => library::metadata(&description)?,
            };
            Ok((outcome, Some(description)))
        }
        (scope, Some(id)) => {
            let subject = super::subject::Subject::new(opened.library, scope, id, errand.seed)?;
            let outcome = match (test, scope) {
                (Test::SamplerOptions | Test::CacheOptions, _) => options::check(&subject),
                (_, Scope::Sampler) => sampler::check(test, &subject),
                _ => cache::check(test, &subject),
            };
            Ok((outcome?, None))
        }
        (_, None) => Err(Failed(format!("{} needs --strategy", test.name()))),
    }
}
