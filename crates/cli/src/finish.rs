//! The last lines of a run.

use std::path::Path;

use wan_host::parts::{EvaluationRecord, Item};
use wan_host::{Sampled, Sidecar};
use wan_plugin_api::Place;

/// A run whose video lies at `path`.
pub(super) struct Finished<'a> {
    pub(super) path: &'a Path,
    pub(super) sidecar: &'a Sidecar,
    pub(super) sampled: &'a Sampled,
}

impl Finished<'_> {
    /// The last lines of the run, whose video has so many frames.
    pub(super) fn summary(&self, frames: usize, records: &[EvaluationRecord]) -> String {
        summary(self, frames, records)
    }
}

fn summary(finished: &Finished<'_>, frames: usize, records: &[EvaluationRecord]) -> String {
    let Finished { path, sidecar, sampled } = finished;
    let mut lines = vec![format!(
        "wrote {} ({} frames, {}x{}, {} fps) and {}",
        path.display(),
        frames,
        sidecar.settings.width,
        sidecar.settings.height,
        sidecar.settings.fps,
        path.with_extension("json").display()
    )];
    let signals = &sampled.signals;
    let mut memory = format!(
        "memory: e {}, e0 {} ({} row{} held; one per token would be {})",
        bytes(signals.e_bytes),
        bytes(signals.e0_bytes),
        signals.rows,
        if signals.rows == 1 { "" } else { "s" },
        bytes(signals.e0_bytes_per_token)
    );
    if let Some(cache) = &sidecar.cache {
        let count = sampled.decisions.all();
        lines.push(format!(
            "{}: reused {} of {} block-stack evaluations ({:.0} %), at most {} in a row; about \
             {:.1} s saved",
            cache.id,
            count.reused,
            count.computed + count.reused,
            100.0 * count.reused_share(),
            count.reused_in_a_row,
            sampled.decisions.seconds_saved()
        ));
        lines.extend(maps(records));
        let held = &sampled.cache_memory;
        memory += &format!(
            ", cache {} (declared {}){}",
            bytes(held.held_max),
            bytes(held.declared_max),
            items(held.holdings.iter().map(|h| (h.item, h.bytes, h.place)))
        );
        if held.leaked > 0 {
            memory += &format!("; {} leaked {}", cache.id, bytes(held.leaked));
        }
    }
    lines.push(memory);
    let seconds: Vec<String> =
        sidecar.phases.iter().map(|p| format!("{} {:.1} s", p.name, p.seconds)).collect();
    lines.push(format!("time: {} on {}", seconds.join(", "), sidecar.device));
    lines.join("\n")
}

/// Which evaluations were reused, a line per branch; one line where all branches did alike.
fn maps(records: &[EvaluationRecord]) -> Vec<String> {
    let branches = EvaluationRecord::branches(records);
    let maps = branches.iter().map(|b| shortened(EvaluationRecord::decision_map(records, b)));
    let maps: Vec<String> = maps.collect();
    if maps.windows(2).all(|pair| pair[0] == pair[1]) {
        return maps.into_iter().take(1).map(|map| format!("  steps: {map}")).collect();
    }
    branches.iter().zip(maps).map(|(branch, map)| format!("  {branch}: {map}")).collect()
}

/// Most decisions of a branch that are shown.
const SHOWN_MAX: usize = 400;

/// The first decisions of a long run; the sidecar has all.
fn shortened(map: String) -> String {
    if map.len() <= SHOWN_MAX {
        return map;
    }
    format!("{} ... ({} in all)", &map[..SHOWN_MAX], map.len())
}

/// `: residual 1 MB on the host, ...`, of items with their bytes and where they lie.
pub(super) fn items(holdings: impl Iterator<Item = (Item, u64, Place)>) -> String {
    let item = |(item, count, place)| {
        let place = if place == Place::Host { "host" } else { "device" };
        let name = serde_json::to_value(item).unwrap_or_default();
        format!("{} {} on the {place}", name.as_str().unwrap_or("?"), bytes(count))
    };
    let items: Vec<String> = holdings.map(item).collect();
    if items.is_empty() { String::new() } else { format!(": {}", items.join(", ")) }
}

/// Bytes, readable.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["B", "kB", "MB", "GB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.2} {}", UNITS[unit]) }
}
