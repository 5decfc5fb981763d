//! What other processes take of the processor while something is measured.

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result};

/// Ticks of the system's clock in a second, on every Linux of a usual build.
const TICKS: f64 = 100.0;

/// A moment from which on others are looked at.
pub(crate) struct Since {
    at: Instant,
    busy: f64,
    own: f64,
    peer: Option<u32>,
}

impl Since {
    /// From now on. `peer` is a process whose work is not others'.
    pub(crate) fn now(peer: Option<u32>) -> Result<Self> {
        Ok(Self { at: Instant::now(), busy: busy()?, own: own(peer)?, peer })
    }

    /// Processors that others kept busy since then, on average: 0.1 is a tenth of one.
    pub(crate) fn others(&self) -> Result<f64> {
        let seconds = self.at.elapsed().as_secs_f64();
        let others = (busy()? - self.busy) - (own(self.peer)? - self.own);
        Ok((others / seconds).max(0.0))
    }
}

/// Seconds that all processors were busy: the first line of `/proc/stat` without idle and waiting ones.
fn busy() -> Result<f64> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("/proc/stat is empty")?;
    let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
    Ok([0, 1, 2, 5, 6, 7].iter().filter_map(|column| ticks.get(*column)).sum::<f64>() / TICKS)
}

/// Seconds that this process and the peer computed.
fn own(peer: Option<u32>) -> Result<f64> {
    let peer = peer.map(|id| of_process(&id.to_string())).transpose()?;
    Ok(of_process("self")? + peer.unwrap_or(0.0))
}

/// Seconds that a process and its children that have ended computed: `/proc/PID/stat`, 14 to 17.
fn of_process(id: &str) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{id}/stat"))?;
    let (_, after_name) = text.rsplit_once(')').context("/proc/self/stat has no name")?;
    let ticks =
        after_name.split_whitespace().skip(11).take(4).filter_map(|n| n.parse::<f64>().ok());
    Ok(ticks.sum::<f64>() / TICKS)
}
