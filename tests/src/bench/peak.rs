//! The most that a process held, in a process of its own for each figure.
#![allow(unsafe_code, reason = "what the system counted of children that have ended")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use candle_core::DType;
use wan_model::footprint::WeightBytes;
use wan_model::inspect::Network;
use wan_tests::allocator;

use crate::random::Form;
use crate::row::{Goal, Made, Row};
use crate::transformer::{Forward, LAYERS, Latents};

const MIB: f64 = (1 << 20) as f64;

/// The forward in bf16 whose memory is looked at.
const FORWARD: Forward = Forward {
    layers: LAYERS,
    latents: Latents { frames: 3, height: 30, width: 52 },
    form: Form::Bf16,
    compute: DType::BF16,
    is_df: false,
};

/// What a forward in bf16 holds above its weights, by the system and by the allocator.
pub(crate) fn rows() -> Vec<Row> {
    vec![
        row("peak-rss", "resident memory", Goal::Figure(200.0, 150.0)),
        row("peak-heap", "heap", Goal::None),
    ]
}

fn row(name: &'static str, of: &str, goal: Goal) -> Row {
    Row {
        name: name.into(),
        what: format!("{of} of the bf16 forward above its weights, at most"),
        unit: "MiB",
        goal,
        peer: None,
        make: Box::new(move || {
            let pass = || in_child(&[name]);
            Ok(Made { pass: Box::new(pass), work: None })
        }),
    }
}

/// Peak of a program that is run to its end, in MiB.
pub(crate) fn of_program(program: &Path, arguments: &[&str]) -> Result<f64> {
    let program = program.to_str().context("the program's path is no text")?;
    in_child(&[&["program", program], arguments].concat())
}

/// A figure that another process of this program measures of itself.
fn in_child(words: &[&str]) -> Result<f64> {
    let mut child = Command::new(std::env::current_exe()?);
    let output = child.arg("--child").args(words).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "{words:?} failed");
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

/// What that process does.
pub(crate) fn child(words: &[String]) -> Result<()> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let figure = match words[..] {
        ["peak-rss"] => forward(true)?,
        ["peak-heap"] => forward(false)?,
        ["program", program, ref arguments @ ..] => ended(program, arguments)?,
        _ => bail!("{words:?} is no figure"),
    };
    println!("{figure}");
    Ok(())
}

/// MiB that the forward holds above its weights.
fn forward(is_resident: bool) -> Result<f64> {
    let network = Network::Transformer(FORWARD.config());
    let (weights, _) = WeightBytes::of(&network, &FORWARD.scope(), DType::BF16)?.resident(0);
    let loaded = FORWARD.load()?;
    let held = allocator::begin();
    // What the process held at most is counted anew from here (proc_pid_clear_refs(5)).
    fs::write("/proc/self/clear_refs", "5")?;
    loaded.forward()?;
    let bytes = match is_resident {
        true => resident_most()? - weights as f64,
        false => (allocator::most() - held) as f64,
    };
    Ok(bytes / MIB)
}

/// Most bytes that this process had in memory.
fn resident_most() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kilobytes.context("no VmHWM")?.parse::<f64>()? * 1024.0)
}

/// MiB that a program had in memory at most. This process is small, so that what it had before the
/// program took its place does not count.
fn ended(program: &str, arguments: &[&str]) -> Result<f64> {
    let status = Command::new(program).args(arguments).stdout(Stdio::null()).status()?;
    ensure!(status.success(), "{program} {arguments:?} failed");
    // SAFETY: zeros are a value of this plain struct, and the call writes to it alone.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        ensure!(libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) == 0, "getrusage");
        usage
    };
    Ok(usage.ru_maxrss as f64 / 1024.0)
}
