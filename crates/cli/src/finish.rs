//! The last lines of a run.

use std::path::Path;

use wan_host::parts::{EvaluationRecord, Item};
use wan_host::{Generated, Sampled};
use wan_plugin_api::Place;

/// The last lines of a run whose video lies at `path`.
pub(super) fn summary(path: &Path, video: &Generated, sampled: &Sampled) -> String {
    let Generated { frames, sidecar, .. } = video;
    let mut lines = vec![format!(
        "wrote {} ({} frames, {}x{}, {} fps) and {}",
        path.display(),
        frames.frames(),
        frames.width(),
        frames.height(),
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
        lines.extend(maps(&sampled.records));
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
    let maps: Vec<String> =
        branches.iter().map(|b| EvaluationRecord::decision_map(records, b)).collect();
    if maps.windows(2).all(|pair| pair[0] == pair[1]) {
        return maps.into_iter().take(1).map(|map| format!("  steps: {map}")).collect();
    }
    branches.iter().zip(maps).map(|(branch, map)| format!("  {branch}: {map}")).collect()
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
