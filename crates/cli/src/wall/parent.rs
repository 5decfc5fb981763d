//! The parent's side: it starts the child, has the terminal, and judges the end.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write, stderr, stdout};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use wan_host::{Error, Result};

use super::channel::{Errand, ToChild, ToParent, read, send};
use super::child::{WORD, read_input};
use super::clean::Cleaner;
use super::files::{Answer, Files};
use crate::plugins::Found;
use crate::{keeping, stop};

/// How long what a child has written may take to arrive once it has ended. It is there already; more
/// comes only from a process that it left behind.
const ARRIVES: Duration = Duration::from_secs(1);

/// How long the end of a child may take that has said that it is done.
const ENDS: Duration = Duration::from_secs(5);

/// What the parent waits for.
enum Event {
    Said(ToParent),
    Silent,
    Ended(std::io::Result<ExitStatus>),
}

/// What is known of a child.
#[derive(Default)]
struct Seen {
    /// Plugins that are called, by thread, the innermost last.
    calls: Vec<(u64, String)>,
    overran: Option<(String, f64)>,
    /// The plugin that has changed the working directory.
    moved: Option<String>,
    /// Files of libraries that were refused.
    left_out: Vec<OsString>,
    /// Whether the libraries are open.
    opened: bool,
    done: Option<u8>,
    files: Files,
}

impl Seen {
    /// What the child said; an answer, if it asked.
    fn note(&mut self, message: ToParent) -> Option<Answer> {
        match message {
            ToParent::Asks(question) => return Some(self.files.answer(question)),
            ToParent::Calls { thread, plugin } => self.calls.push((thread, plugin)),
            ToParent::Returns { thread } => {
                if let Some(last) = self.calls.iter().rposition(|(t, _)| *t == thread) {
                    self.calls.remove(last);
                }
            }
            ToParent::Overran { plugin, seconds } => self.overran = Some((plugin, seconds)),
            ToParent::Moved { plugin } => self.moved = Some(plugin),
            ToParent::LeftOut { library, why } => {
                note!("left out: {why}");
                self.left_out.push(library);
            }
            ToParent::Opened => self.opened = true,
            ToParent::Done(code) => self.done = Some(code),
        }
        None
    }

    /// The library that ended the child while it was being opened, if one did.
    fn ended_by(&self) -> Option<&str> {
        let called = self.calls.last().map(|(_, plugin)| plugin.as_str());
        let overran = self.overran.as_ref().map(|(plugin, _)| plugin.as_str());
        overran.or(called).filter(|_| !self.opened && self.done.is_none())
    }
}

/// Carries a command line out in a child; gives its exit code. `reads_input` is whether the command
/// reads standard input; the libraries are those that are to be opened, and a foreign one of them.
///
/// A library of a standard folder that ends the child while it is opened is left out, with a
/// warning, of another child.
///
/// # Errors
/// If a plugin ends the child, or the child cannot be started.
pub(crate) fn run(
    arguments: &[OsString],
    reads_input: bool,
    (found, foreign): (&Found, &Path),
) -> Result<u8> {
    let program = std::env::current_exe().map_err(Error::io(Path::new("this program")))?;
    let input = reads_input.then(read_input);
    let mut errand = Errand { arguments: arguments.to_vec(), input, left_out: Vec::new() };
    loop {
        let (seen, status) = carry_out(&errand, &program).map_err(Error::io(&program))?;
        let mut files = seen.ended_by().map_or(Vec::new(), |name| found.in_standard(name));
        // Each is tried without once.
        files.retain(|file| !errand.left_out.contains(&file.into()));
        let left_out = seen.left_out.clone();
        let (judged, runs) = judge(seen, status, foreign);
        // A child that has ended by itself has done this.
        runs.iter().for_each(|run| keeping::after_a_sudden_end(run));
        match judged {
            Err(error) if !files.is_empty() => {
                note!("left out: {}", crate::spelled(&error));
                errand.left_out.extend(left_out);
                errand.left_out.extend(files.into_iter().map(OsString::from));
            }
            judged => return judged,
        }
    }
}

/// Starts a child for an errand, and follows it to its end.
fn carry_out(errand: &Errand, program: &Path) -> std::io::Result<(Seen, ExitStatus)> {
    let (mut child, socket) = start(program)?;
    let socket = Arc::new(socket);
    let group = Pid::from_child(&child);
    let relays = [relay(child.stdout.take(), stdout()), relay(child.stderr.take(), stderr())];
    let (events, heard) = channel();
    listen(&socket, events.clone())?;
    // A child that is gone already has said why, or its end does.
    let _ = send(&mut &*socket, &ToChild::Do(errand.clone()));
    hand_signals_on(socket.clone(), group);
    let waits = events;
    spawn(move || waits.send(Event::Ended(child.wait())));
    let end = until_the_end(&heard, &socket, group)?;
    relays.into_iter().for_each(join_soon);
    Ok(end)
}

/// Starts this program again, in a group of its own, with a socket as its standard input.
#[expect(clippy::disallowed_methods, reason = "the program starts itself: a library may end it")]
fn start(program: &Path) -> std::io::Result<(Child, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new(program);
    command.arg(WORD).stdin(OwnedFd::from(theirs));
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    // The command keeps the child's end of the socket open until it is dropped.
    Ok((command.spawn()?, ours))
}

/// Copies what a child writes, control characters left out. A reader that has gone away is no
/// reason for the child to stop.
fn relay(
    from: Option<impl Read + Send + 'static>,
    mut to: impl Write + Send + 'static,
) -> (JoinHandle<()>, Receiver<()>) {
    let (ends, ended) = channel();
    let copies = move || {
        let (mut cleaner, mut piece) = (Cleaner::default(), [0; 8192]);
        if let Some(mut from) = from {
            while let Ok(count @ 1..) = from.read(&mut piece) {
                let _ = to.write_all(cleaner.clean(&piece[..count]).as_bytes());
                let _ = to.flush();
            }
        }
        let _ = ends.send(());
    };
    (spawn(copies), ended)
}

fn join_soon((thread, ended): (JoinHandle<()>, Receiver<()>)) {
    if ended.recv_timeout(ARRIVES).is_ok() {
        let _ = thread.join();
    }
}

fn listen(socket: &UnixStream, events: Sender<Event>) -> std::io::Result<()> {
    let lines = BufReader::new(socket.try_clone()?).lines();
    spawn(move || {
        for line in lines {
            // A library may write to any descriptor; what makes no sense is not from us.
            if let Ok(message) = line.and_then(|line| read(&line)) {
                let _ = events.send(Event::Said(message));
            }
        }
        let _ = events.send(Event::Silent);
    });
    Ok(())
}

/// The first signal is handed on; at the second the child is ended.
fn hand_signals_on(socket: Arc<UnixStream>, group: Pid) {
    let is_second = AtomicBool::new(false);
    stop::hand_on(move |signal| {
        if is_second.swap(true, Ordering::Relaxed) {
            end(group);
            wan_outputs::abandon_all();
            std::process::exit(i32::from(stop::code_of(signal)));
        }
        let _ = send(&mut &*socket, &ToChild::Stop(signal));
    });
}

/// Ends a child and all that it started.
fn end(group: Pid) {
    // None is left where it has ended by itself.
    let _ = kill_process_group(group, Signal::KILL);
}

/// Follows the child until it has ended; ends it where a plugin does not come back, and what it
/// leaves behind.
fn until_the_end(
    heard: &Receiver<Event>,
    mut socket: &UnixStream,
    group: Pid,
) -> std::io::Result<(Seen, ExitStatus)> {
    let mut seen = Seen::default();
    let mut status = None;
    loop {
        let patience = match (&status, seen.done) {
            (Some(_), _) => Some(ARRIVES),
            (None, Some(_)) => Some(ENDS),
            (None, None) => None,
        };
        let event = match patience {
            Some(patience) => heard.recv_timeout(patience),
            None => heard.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match event {
            Ok(Event::Said(message)) => {
                if let Some(answer) = seen.note(message) {
                    // A child that is gone asks no more.
                    let _ = send(&mut socket, &ToChild::Answers(answer));
                }
            }
            Ok(Event::Silent) => {}
            Ok(Event::Ended(ended)) => {
                status = Some(ended?);
                end(group);
            }
            Err(_) => match status {
                Some(status) => return Ok((seen, status)),
                None => end(group),
            },
        }
        if (seen.overran.is_some() || seen.moved.is_some()) && status.is_none() {
            end(group);
        }
    }
}

/// What came of a child, and the folders of runs that it worked on.
fn judge(mut seen: Seen, status: ExitStatus, foreign: &Path) -> (Result<u8>, BTreeSet<PathBuf>) {
    // What it had claimed goes first.
    let runs = std::mem::take(&mut seen.files).give_up();
    (judge_end(seen, status, foreign), runs)
}

fn judge_end(seen: Seen, status: ExitStatus, foreign: &Path) -> Result<u8> {
    if let Some((plugin, seconds)) = seen.overran {
        return Err(Error::library(
            plugin,
            format!(
                "one call has taken more than {seconds} s of its own time: an endless loop, or \
                 `plugin_timeout` is too short"
            ),
        ));
    }
    if let Some(plugin) = seen.moved {
        return Err(Error::library(
            plugin,
            "has changed the working directory of the process, which relative paths begin at; a \
             plugin leaves it as it is",
        ));
    }
    if let Some(code) = seen.done {
        if status.code() != Some(i32::from(code)) {
            let place = foreign.display();
            note!("{place}: the work was done; after it, the process ended with {status}");
        }
        return Ok(code);
    }
    if stop::was_asked() {
        return Ok(stop::code());
    }
    match (seen.calls.last(), status.signal()) {
        (Some((_, plugin)), _) => Err(Error::library(
            plugin,
            format!("ended the process in the middle of its work ({status})"),
        )),
        // What kills a process is most often the system, where memory runs out.
        (None, Some(9)) => Err(Error::io(foreign)(std::io::Error::new(
            std::io::ErrorKind::OutOfMemory,
            "the process that it was opened in was killed; there may be too little memory",
        ))),
        (None, _) => Err(Error::library(
            foreign.display(),
            format!(
                "the process that it was opened in ended with {status} while no plugin was called"
            ),
        )),
    }
}
