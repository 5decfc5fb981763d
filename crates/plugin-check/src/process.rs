//! A case in a process of its own: started by [`run`], answered by [`answer`].

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wan_host::parts::Registry;
use wan_host::{Error, Result};
use wan_plugin_api::PluginDescription;

use super::outcome::{Failed, Outcome, Status};
use super::patience::Patience;
use super::surroundings::Surroundings;
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
    (library, hash): (&Path, &str),
    case: &Case,
    settings: &CheckOptions,
) -> Result<(Outcome, Option<PluginDescription>)> {
    let folder = tempfile::tempdir().map_err(Error::io(Path::new("a temporary folder")))?;
    let place = |name: &str| folder.path().join(name);
    let (answer, errors, prints) = (place("answer.json"), place("stderr"), place("stdout"));
    let stderr = fs::File::create(&errors).map_err(Error::io(&errors))?;
    let stdout = fs::File::create(&prints).map_err(Error::io(&prints))?;
    let program = std::env::current_exe().map_err(Error::io(Path::new("this program")))?;
    let mut command = Command::new(&program);
    command.args(["plugins", "answer"]).arg(library).arg("--test").arg(case.test.name());
    if let Some(strategy) = &case.strategy {
        command.arg(format!("--strategy={strategy}"));
    }
    command.arg("--hash").arg(hash).arg("--seed").arg(settings.seed.to_string());
    command.arg("--memory").arg(settings.memory_bytes_max.to_string());
    command.arg("--answer").arg(&answer);
    command.env("RUST_BACKTRACE", "0");
    command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    let child = in_a_group(&mut command).spawn().map_err(Error::io(&program))?;
    let end = wait(child, settings.timeout).map_err(Error::io(&program))?;
    let Some(End { status, left }) = end else {
        let seconds = settings.timeout.as_secs_f64();
        let message = format!("no end after {seconds} s; a loop, or a lock that is never given up");
        return Ok((Outcome::new(Status::Timeout, message), None));
    };
    let text = fs::read_to_string(&answer).unwrap_or_default();
    let how = crash(status, &errors);
    match serde_json::from_str::<Answer>(&text) {
        Ok(Answer { outcome, description }) if status.success() => {
            let left = left.then(|| "it left a process behind, which was ended".into());
            let outcome = outcome.unless(printed(&prints).or(left));
            Ok((outcome, description))
        }
        // The test is over, and the library is not: a destructor, or a thread that is left.
        Ok(Answer { outcome: Outcome { status, message }, .. }) => {
            let before = format!("{} {message}", status.word());
            let message = format!("{how}; at exit, after the test had ended: {before}");
            Ok((Outcome::new(Status::Crash, message), None))
        }
        Err(_) => Ok((Outcome::new(Status::Crash, how), None)),
    }
}

/// How a process ended by itself.
struct End {
    status: ExitStatus,
    /// Whether something that it started went on.
    left: bool,
}

/// Waits for the end; none: it did not come in time. Whatever the process started ends with it.
fn wait(mut child: Child, timeout: Duration) -> std::io::Result<Option<End>> {
    let mut patience = Patience::new(child.id(), timeout);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if patience.is_over() {
            break None;
        }
        std::thread::sleep(PAUSE);
    };
    let left = end(&mut child)?;
    Ok(status.map(|status| End { status, left }))
}

/// A process whose children can be ended with it.
fn in_a_group(command: &mut Command) -> &mut Command {
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    command
}

/// Ends a process, and what is left of its group; whether there was anything.
fn end(child: &mut Child) -> std::io::Result<bool> {
    #[cfg(unix)]
    let left = {
        use rustix::process::{Pid, Signal, kill_process_group};

        kill_process_group(Pid::from_child(child), Signal::KILL).is_ok()
    };
    #[cfg(not(unix))]
    let left = false;
    // Nothing happens to one that has ended.
    child.kill()?;
    child.wait().map(|_| left)
}

/// What a library wrote to standard output, which belongs to the program.
fn printed(prints: &Path) -> Option<String> {
    let mut text = Vec::new();
    let _ = fs::File::open(prints).and_then(|mut file| file.read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text).into_owned();
    let first = text.lines().next()?;
    Some(format!("it wrote to standard output, which is the program's: {first:.80?}"))
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
    // Whoever waits for this process may be stopped, and must not leave it behind.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    // Where there is no such limit, the time limit has to do.
    let _ =
        rlimit::setrlimit(rlimit::Resource::AS, errand.memory_bytes_max, errand.memory_bytes_max);
    let mut before = Surroundings::now();
    let (outcome, description) = judge(errand, &mut before)
        .unwrap_or_else(|Failed(message)| (Outcome::new(Status::Fail, message), None));
    let change = before.change();
    before.restore();
    let outcome = outcome.unless(change.map(|change| format!("it changed its process: {change}")));
    let text = serde_json::to_vec(&Answer { outcome, description })
        .map_err(|e| Error::invalid(format!("the answer cannot be written as JSON: {e}")))?;
    fs::write(&errand.answer, text).map_err(Error::io(&errand.answer))
}

/// `before` also gets to know what is open once the library is.
fn judge(
    errand: &Errand,
    before: &mut Surroundings,
) -> std::result::Result<(Outcome, Option<PluginDescription>), Failed> {
    let opened = library::open(&errand.library, errand.hash.as_deref())?;
    before.note_descriptors();
    let test = errand.case.test;
    match (test.scope(), &errand.case.strategy) {
        (Scope::Library, _) => {
            let (_, description) = Registry::offered(opened.library)?;
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
