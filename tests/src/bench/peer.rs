//! torch on the other side of two pipes (`tools/bench_torch`).

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use wan_tests::checkout::checkout;

/// A running peer. It ends with its input.
pub(crate) struct Peer {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    versions: String,
}

impl Peer {
    pub(crate) fn start(python: &Path) -> Result<Self> {
        let threads = rayon::current_num_threads().to_string();
        let mut child = Command::new(python)
            .arg(checkout().join("tools/bench_torch/peer.py"))
            .args(["--threads", &threads])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{}: see tools/bench_torch/README.md", python.display()))?;
        let requests = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().context("no pipe")?);
        Ok(Self { child, requests, answers, versions: String::new() })
    }

    /// Its number as a process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it says of itself, once it has loaded something.
    pub(crate) fn versions(&self) -> &str {
        &self.versions
    }

    pub(crate) fn load(&mut self, request: &str) -> Result<()> {
        self.versions = self.ask(&format!("load {request}"))?;
        Ok(())
    }

    /// Seconds of a pass.
    pub(crate) fn run(&mut self) -> Result<f64> {
        Ok(self.ask("run")?.parse()?)
    }

    /// Seconds of its part that depends on the prompt alone.
    pub(crate) fn context(&mut self) -> Result<f64> {
        Ok(self.ask("context")?.parse()?)
    }

    fn ask(&mut self, request: &str) -> Result<String> {
        let requests = self.requests.as_mut().context("torch has ended")?;
        writeln!(requests, "{request}")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        ensure!(!answer.is_empty(), "torch gave no answer to `{request}`");
        Ok(answer.trim().to_owned())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.requests = None;
        // It has nothing to lose.
        let _ = self.child.wait();
    }
}
