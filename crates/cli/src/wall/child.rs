//! The child's side: it does what it is told, and tells whom it calls.

use std::ffi::OsString;
use std::io::{self, BufRead, Read, Write};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, LazyLock, Mutex, OnceLock};
use std::time::Duration;

use wan_border::files::Content;
use wan_host::parts::Registry;
use wan_outputs::Steward;
use wan_plugin_api::library::Border;

use super::border::TimedBorder;
use super::channel::{Errand, ToChild, ToParent, read, send};
use super::files::{Answer, Parent, Question};
use crate::plugins::Found;
use crate::stop;

/// The one word on the command line of a child.
pub(super) const WORD: &str = "in-child";

/// What the parent's standard input holds, where the command reads it.
static INPUT: OnceLock<Option<Result<String, String>>> = OnceLock::new();

/// Whether this process was started by [`super::run`].
pub(crate) fn is_child(arguments: &[OsString]) -> bool {
    arguments.len() == 2 && arguments[1] == WORD
}

/// This process is a child: foreign libraries may be opened.
pub(crate) struct Inside {
    border: Arc<TimedBorder>,
    /// Libraries that are not to be opened.
    left_out: Vec<PathBuf>,
}

impl Inside {
    /// The border that every foreign library is to be watched by. A call that spends more than
    /// `limit` in a plugin's own code ends the process.
    pub(crate) fn border(&self, limit: Duration) -> Arc<dyn Border> {
        let border = self.border.clone();
        let look = (limit / 10).clamp(Duration::from_millis(1), Duration::from_millis(100));
        std::thread::spawn(move || {
            let plugin = loop {
                std::thread::sleep(look);
                if let Some(plugin) = border.overrun(limit) {
                    break plugin;
                }
            };
            // The parent ends this process: its own exit could be held up by what hangs.
            tell(&ToParent::Overran { plugin, seconds: limit.as_secs_f64() });
        });
        self.border.clone()
    }

    /// Opens the libraries; the parent is told of what is left out, and when they are open.
    ///
    /// # Errors
    /// If a library of a folder that the user named is refused.
    pub(crate) fn open(&self, found: &Found, registry: &mut Registry) -> wan_host::Result<()> {
        found.open(registry, &self.left_out, |library, error| {
            tell(&ToParent::LeftOut { library: library.into(), why: crate::spelled(error) });
        })?;
        tell(&ToParent::Opened);
        Ok(())
    }
}

/// Does what the parent says: `run` carries the command line out and gives the exit code.
pub(crate) fn serve(run: impl FnOnce(Vec<OsString>, &Inside) -> u8) -> u8 {
    die_with_parent();
    stop::leave_to_parent();
    let Some(Errand { arguments, input, left_out }) = errand() else {
        // Started by hand.
        note!("{WORD} is for the program itself");
        return 2;
    };
    // The only place that sets it.
    let _ = INPUT.set(input);
    std::thread::spawn(listen);
    let left_out = left_out.into_iter().map(PathBuf::from).collect();
    let code = run(arguments, &Inside { border: Arc::new(TimedBorder::new(tell)), left_out });
    let _ = io::stdout().flush();
    tell(&ToParent::Done(code));
    code
}

fn errand() -> Option<Errand> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).ok()?;
    match read(&line).ok()? {
        ToChild::Do(errand) => Some(errand),
        ToChild::Stop(_) | ToChild::Answers(_) => None,
    }
}

/// Hears what else the parent says, until the parent is gone.
fn listen() {
    for line in io::stdin().lines() {
        match line.and_then(|line| read(&line)) {
            Ok(ToChild::Stop(signal)) => stop::receive(signal),
            Ok(ToChild::Answers(answer)) => drop(ANSWERS.0.send(answer)),
            _ => {}
        }
    }
    std::process::exit(1);
}

/// Answers of the parent, on their way to whoever asked.
static ANSWERS: LazyLock<(Sender<Answer>, Mutex<Receiver<Answer>>)> = LazyLock::new(|| {
    let (sender, receiver) = channel();
    (sender, Mutex::new(receiver))
});

/// Asks the parent, and waits for the answer: one question at a time.
fn ask(question: Question) -> io::Result<Answer> {
    let answers = ANSWERS.1.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    // Nobody answers what was not asked.
    try_tell(&ToParent::Asks(question))?;
    answers.recv().map_err(io::Error::other)
}

/// Who has the files of this process: its parent, if it is a child.
pub(crate) fn steward() -> Option<Arc<dyn Steward>> {
    INPUT.get().map(|_| Arc::new(Parent { ask }) as Arc<dyn Steward>)
}

/// Where the system can do it, this process is killed when its parent is; elsewhere it ends when
/// the socket does.
fn die_with_parent() {
    #[cfg(target_os = "linux")]
    if let Err(error) =
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
    {
        tracing::warn!(%error, "a parent that is killed will be noticed later");
    }
}

/// Tells the parent. A parent that is gone hears nothing, and `listen` ends this process.
fn tell(message: &ToParent) {
    let _ = try_tell(message);
}

fn try_tell(message: &ToParent) -> io::Result<()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock();
    send(&mut Socket, message)
}

/// Standard input, which is a socket: it is written to as well. No other descriptor is needed, so
/// there is none that a library could close.
struct Socket;

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(io::stdin(), bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// All text on the user's standard input.
///
/// # Errors
/// Why it cannot be read.
pub(crate) fn standard_input() -> Result<String, String> {
    INPUT.get().cloned().flatten().unwrap_or_else(read_input)
}

/// All text on this process's standard input, which is no longer than a file of settings; else why
/// it cannot be read.
pub(super) fn read_input() -> Result<String, String> {
    let (mut text, limit) = (String::new(), Content::Settings.bytes_max());
    let read = io::stdin().take(limit + 1).read_to_string(&mut text);
    read.map_err(|error| error.to_string())?;
    if text.len() as u64 > limit {
        return Err(format!("more than {limit} bytes"));
    }
    Ok(text)
}
