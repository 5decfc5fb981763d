//! What a library may change of its process, and must not.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::hint::black_box;
use std::path::PathBuf;

/// The state of this process that plugins and host share.
#[derive(Debug, Clone)]
pub(super) struct Surroundings {
    folder: Option<PathBuf>,
    umask: u32,
    variables: BTreeMap<OsString, OsString>,
    /// Which signals are ignored, caught and blocked, as the system writes it; where it says so.
    signals: Vec<String>,
    /// Open descriptors, where the system says so.
    descriptors: BTreeSet<String>,
    /// What this thread computes: how it rounds, and whether it knows numbers near zero.
    arithmetic: [u32; 5],
}

impl Surroundings {
    /// As they are.
    pub(super) fn now() -> Self {
        Self {
            folder: std::env::current_dir().ok(),
            umask: umask(),
            variables: std::env::vars_os().collect(),
            signals: signals(),
            descriptors: descriptors(),
            arithmetic: arithmetic(),
        }
    }

    /// From now on what is open must stay so.
    pub(super) fn note_descriptors(&mut self) {
        self.descriptors = descriptors();
    }

    /// What differs by now, in words; none if nothing does.
    pub(super) fn change(&self) -> Option<String> {
        let now = Self::now();
        let mut changes = Vec::new();
        if now.folder != self.folder {
            let [from, to] = [&self.folder, &now.folder].map(|folder| {
                folder.as_ref().map_or("none".into(), |folder| folder.display().to_string())
            });
            changes.push(format!("the working directory from {from} to {to}"));
        }
        if now.umask != self.umask {
            changes.push(format!("the umask from {:03o} to {:03o}", self.umask, now.umask));
        }
        if now.signals != self.signals {
            changes.push("what signals do".into());
        }
        if now.arithmetic != self.arithmetic {
            changes.push("how floating-point numbers are rounded".into());
        }
        let names = self.variables.keys().chain(now.variables.keys()).collect::<BTreeSet<_>>();
        for name in names.into_iter().filter(|n| self.variables.get(*n) != now.variables.get(*n)) {
            changes.push(format!("the environment variable {}", name.display()));
        }
        // More of them may be its own files.
        let closed: Vec<&str> =
            self.descriptors.difference(&now.descriptors).map(String::as_str).collect();
        if !closed.is_empty() {
            changes.push(format!("open descriptors: it closed {}", closed.join(", ")));
        }
        if changes.is_empty() { None } else { Some(changes.join("; ")) }
    }

    /// Goes back to what an answer can be written in.
    pub(super) fn restore(&self) {
        set_umask(self.umask);
    }
}

#[cfg(unix)]
fn umask() -> u32 {
    let old = rustix::process::umask(rustix::fs::Mode::empty());
    rustix::process::umask(old);
    old.bits()
}

#[cfg(not(unix))]
fn umask() -> u32 {
    0
}

fn set_umask(_mask: u32) {
    #[cfg(unix)]
    rustix::process::umask(rustix::fs::Mode::from_bits_truncate(_mask));
}

/// Lines of Linux; elsewhere there are none.
fn signals() -> Vec<String> {
    let Ok(status) = fs::read_to_string("/proc/self/status") else { return Vec::new() };
    let names = ["SigIgn:", "SigCgt:", "SigBlk:"];
    let lines = status.lines().filter(|line| names.iter().any(|name| line.starts_with(name)));
    lines.map(String::from).collect()
}

fn descriptors() -> BTreeSet<String> {
    let Ok(mut listed) = fs::read_dir("/proc/self/fd") else { return BTreeSet::new() };
    let mut open = BTreeSet::new();
    while let Some(Ok(entry)) = listed.next() {
        open.insert(entry.file_name().display().to_string());
    }
    drop(listed);
    // One of them was the list itself.
    open.retain(|n| fs::symlink_metadata(format!("/proc/self/fd/{n}")).is_ok());
    open
}

/// Bits of sums and quotients that depend on the direction of rounding, and of numbers that some
/// modes take for zero.
fn arithmetic() -> [u32; 5] {
    let (one, three, small) = (black_box(1f32), black_box(3f32), black_box(f32::MIN_POSITIVE));
    let tiny = black_box(f32::from_bits(1));
    [one / three, -one / three, 2.0 * one / three, small / three, tiny * three].map(f32::to_bits)
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_said() {
        let before = Surroundings::now();
        assert_eq!(before.change(), None);
        let mut other = before.clone();
        other.umask ^= 0o20;
        other.folder = Some("/elsewhere".into());
        other.descriptors.insert("777".into());
        other.arithmetic[0] += 1;
        let said = other.change().unwrap();
        for word in ["working directory from /elsewhere", "umask", "rounded", "it closed 777"] {
            assert!(said.contains(word), "{word} in {said}");
        }
    }
}
