//! A run asks how many processors there are a few times, and not once for every matrix product.
//!
//! candle does that where `RAYON_NUM_THREADS` is not set, by reading `/proc/cpuinfo`. Nothing else
//! that a run reads depends on the variable, and the kernel counts the calls.

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};

use crate::support::program;

const CPUINFO: &str = "/proc/cpuinfo";

/// Most times that a run may open [`CPUINFO`].
const OPENED_MAX: u64 = 10;

/// Calls of `read` and its like that a program makes from its start to its end; it must succeed.
fn reads(command: &mut Command) -> u64 {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    // The end of the pipe is the end of the program; its counters stay until someone waits for it.
    child.stdout.take().unwrap().read_to_end(&mut Vec::new()).unwrap();
    let counters = fs::read_to_string(format!("/proc/{}/io", child.id())).unwrap();
    assert!(child.wait().unwrap().success(), "{command:?}");
    let reads = counters.lines().find_map(|line| line.strip_prefix("syscr: ")).unwrap();
    reads.parse().unwrap()
}

/// Calls that one opening of [`CPUINFO`] takes; and so whether the kernel counts them.
fn reads_an_opening() -> u64 {
    let cat = |times| reads(Command::new("cat").args(vec![CPUINFO; times]));
    let each = (cat(11) - cat(1)) / 10;
    assert!(each >= 2, "{each}: one that gives text, and one that finds the end");
    each
}

#[test]
fn a_run_opens_cpuinfo_at_most_ten_times() {
    let folder = tempfile::tempdir().unwrap();
    let run = |threads: Option<&str>| {
        let mut command = Command::new(program());
        command.args(["generate", "--frame_num", "5", "--sample_steps", "2", "--cache", "none"]);
        command.args(["--progress", "quiet", "--save_file"]).arg(folder.path().join("out.mp4"));
        command.env_remove("CANDLE_CPU_MASK").env_remove("RAYON_NUM_THREADS");
        // rayon's other variable: its own question reads other files.
        command.env("RAYON_RS_NUM_CPUS", "1");
        reads(command.envs(threads.map(|number| ("RAYON_NUM_THREADS", number))))
    };
    let (asks, is_told, each) = (run(None), run(Some("1")), reads_an_opening());
    let allowed = is_told + OPENED_MAX * each;
    assert!(
        asks <= allowed,
        "{asks} reads; {is_told} where the variable is set, {each} an opening"
    );
}
