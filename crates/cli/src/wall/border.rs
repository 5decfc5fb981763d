//! The border between the program and the plugins, seen from the child: who is called, for how long it
//! has run code of its own, and whether it leaves the working directory as it is.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use wan_plugin_api::library::Border;

use super::channel::ToParent;

/// Calls into plugins that are under way.
#[derive(Debug)]
pub(super) struct TimedBorder {
    /// By thread, the outermost first.
    calls: Mutex<BTreeMap<u64, Vec<Call>>>,
    /// The working directory of the process.
    folder: Option<FolderId>,
    tell: fn(&ToParent),
}

/// Device and inode of a folder, which may get another name.
type FolderId = (u64, u64);

/// The working directory; none where it cannot be told.
fn working_folder() -> Option<FolderId> {
    std::fs::metadata(".").ok().map(|about| (about.dev(), about.ino()))
}

#[derive(Debug)]
struct Call {
    plugin: String,
    /// Time in the plugin's own code, up to `runs_since`.
    spent: Duration,
    /// None while the host works for it.
    runs_since: Option<Instant>,
}

impl Call {
    fn pause(&mut self, now: Instant) {
        self.spent += self.runs_since.take().map_or(Duration::ZERO, |since| now - since);
    }

    fn spent(&self, now: Instant) -> Duration {
        self.spent + self.runs_since.map_or(Duration::ZERO, |since| now - since)
    }
}

impl TimedBorder {
    /// A border that tells the parent, by `tell`, who is called.
    pub(super) fn new(tell: fn(&ToParent)) -> Self {
        Self { calls: Mutex::default(), folder: working_folder(), tell }
    }

    /// Ends the process where `plugin`, whose code has run just now, has changed the working directory:
    /// relative paths of the command line would lead elsewhere.
    fn check_folder(&self, plugin: &str) {
        match (self.folder, working_folder()) {
            (Some(before), Some(now)) if before != now => {}
            // Where it cannot be told, nobody is to blame.
            _ => return,
        }
        (self.tell)(&ToParent::Moved { plugin: plugin.into() });
        // The parent ends this process; until then nothing may be done in the wrong place.
        loop {
            std::thread::park();
        }
    }

    /// A plugin that has spent more than `limit` in one call.
    pub(super) fn overrun(&self, limit: Duration) -> Option<String> {
        let (now, calls) = (Instant::now(), self.calls());
        let mut all = calls.values().flatten();
        all.find(|call| call.spent(now) > limit).map(|call| call.plugin.clone())
    }

    fn calls(&self) -> MutexGuard<'_, BTreeMap<u64, Vec<Call>>> {
        self.calls.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Changes the innermost call of this thread, if there is one.
    fn innermost(&self, change: impl FnOnce(&mut Call)) {
        if let Some(call) = self.calls().get_mut(&thread()).and_then(|calls| calls.last_mut()) {
            change(call);
        }
    }
}

impl Border for TimedBorder {
    fn enter(&self, plugin: &str) {
        let (thread, plugin) = (thread(), plugin.to_string());
        let outer = self.calls().get(&thread).and_then(|calls| Some(calls.last()?.plugin.clone()));
        if let Some(outer) = outer {
            self.check_folder(&outer);
        }
        (self.tell)(&ToParent::Calls { thread, plugin: plugin.clone() });
        let call = Call { plugin, spent: Duration::ZERO, runs_since: Some(Instant::now()) };
        self.calls().entry(thread).or_default().push(call);
    }

    fn leave(&self) {
        let thread = thread();
        let mut calls = self.calls();
        let mut ended = None;
        if let Some(own) = calls.get_mut(&thread) {
            ended = own.pop();
            if own.is_empty() {
                calls.remove(&thread);
            }
        }
        drop(calls);
        if let Some(call) = ended {
            self.check_folder(&call.plugin);
        }
        (self.tell)(&ToParent::Returns { thread });
    }

    fn out(&self) {
        let now = Instant::now();
        self.innermost(|call| call.pause(now));
    }

    fn back(&self) {
        self.innermost(|call| call.runs_since = Some(Instant::now()));
    }
}

/// A number for this thread.
fn thread() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    thread_local! {
        static OWN: Cell<Option<u64>> = const { Cell::new(None) };
    }
    OWN.get().unwrap_or_else(|| {
        let own = NEXT.fetch_add(1, Ordering::Relaxed);
        OWN.set(Some(own));
        own
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_the_host_is_not_the_plugins() {
        let border = TimedBorder::new(|_| {});
        let spends = || border.overrun(Duration::ZERO);
        assert_eq!(spends(), None);
        border.enter("outer");
        while spends().is_none() {}
        border.out();
        border.innermost(|call| call.spent = Duration::ZERO);
        assert_eq!(spends(), None, "the host works");
        border.enter("inner");
        while spends().is_none() {}
        assert_eq!(spends().as_deref(), Some("inner"));
        border.leave();
        assert_eq!(spends(), None, "the host works again");
        border.back();
        while spends().is_none() {}
        assert_eq!(spends().as_deref(), Some("outer"));
        border.leave();
        assert_eq!(spends(), None);
    }
}
