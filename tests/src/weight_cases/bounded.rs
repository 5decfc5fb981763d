//! A process with limits of time and memory.

use std::fs;
use std::io::{self, Read, Seek};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::case::Limits;

/// Addresses beside the memory: threads of a runtime take many and touch few. What counts is the
/// memory that was touched.
const ADDRESSES_MB: u64 = 8192;

/// Times the seconds of the processor that a process may take of the clock.
const CLOCK: u64 = 3;

/// Between two looks at a process.
const PAUSE: Duration = Duration::from_millis(1);

/// How a process ended.
pub(super) struct Ended {
    /// None where it was still running when its time was over.
    pub(super) status: Option<ExitStatus>,
    pub(super) output: String,
    pub(super) errors: String,
    /// Most memory that it touched, in MB.
    pub(super) most_mb: u64,
}

impl Ended {
    /// All that it said.
    pub(super) fn said(&self) -> String {
        format!("{}{}", self.output, self.errors)
    }
}

/// Runs a program to its end, or to that of its time.
pub(super) fn run(command: &mut Command, limits: Limits) -> Result<Ended> {
    let (mut output, mut errors) = (tempfile::tempfile()?, tempfile::tempfile()?);
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(errors.try_clone()?);
    let mut child = command.spawn().with_context(|| format!("{:?}", command.get_program()))?;
    let until = Instant::now() + Duration::from_secs(CLOCK * limits.seconds);
    limit(&child, limits)?;
    let mut most_mb = 0;
    let status = loop {
        // A process that has ended has no memory any more, so it is looked at before.
        most_mb = most_mb.max(touched_mb(child.id()));
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if Instant::now() > until {
            child.kill()?;
            child.wait()?;
            break None;
        }
        std::thread::sleep(PAUSE);
    };
    Ok(Ended { status, output: text(&mut output)?, errors: text(&mut errors)?, most_mb })
}

fn limit(child: &std::process::Child, limits: Limits) -> Result<()> {
    let pid = Pid::from_child(child);
    let addresses = (limits.memory_mb + ADDRESSES_MB) << 20;
    for (resource, most) in
        [(Resource::As, addresses), (Resource::Core, 0), (Resource::Cpu, limits.seconds)]
    {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        match prlimit(Some(pid), resource, limit) {
            // It has ended already.
            Ok(_) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Most memory that a process has touched so far, in MB.
fn touched_mb(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.unwrap_or(0) / 1024
}

fn text(file: &mut fs::File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
