//! What parent and child tell each other: a line of JSON each.

use std::ffi::OsString;
use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use super::files::{Answer, Question};

/// What a child is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Errand {
    /// The command line, the program's name first.
    pub(super) arguments: Vec<OsString>,
    /// What the parent's standard input holds, where the command reads it; else why it cannot be
    /// read.
    pub(super) input: Option<Result<String, String>>,
    /// Libraries that are not to be opened: they are refused, or have ended a child before.
    pub(super) left_out: Vec<OsString>,
}

/// From parent to child.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToChild {
    /// First of all.
    Do(Errand),
    /// The parent was sent this signal.
    Stop(i32),
    /// To what was asked.
    Answers(Answer),
}

/// From child to parent.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToParent {
    /// A thread begins to run code of this plugin.
    Calls { thread: u64, plugin: String },
    /// The call that it began last is over.
    Returns { thread: u64 },
    /// A call has taken more of its own time than it may.
    Overran { plugin: String, seconds: f64 },
    /// A plugin has changed the working directory.
    Moved { plugin: String },
    /// A library in a standard folder is refused, and the rest goes on.
    LeftOut { library: OsString, why: String },
    /// The libraries are open; the command's own work begins.
    Opened,
    /// It wants something done with a file; one question at a time.
    Asks(Question),
    /// The command is carried out, with this exit code.
    Done(u8),
}

/// Writes a message as one line, in one piece.
pub(super) fn send(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    to.write_all(&line)
}

/// What a line says.
pub(super) fn read<T: for<'a> Deserialize<'a>>(line: &str) -> io::Result<T> {
    Ok(serde_json::from_str(line)?)
}
