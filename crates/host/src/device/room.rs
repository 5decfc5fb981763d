//! How much main memory this process has, and may still take.

use std::path::Path;

/// What may still be taken, and what limits it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Room {
    bytes: u64,
    limit: &'static str,
}

/// Bytes that may still be taken, and what limits them; none where the system tells of no limit.
pub(crate) fn free() -> Option<(u64, &'static str)> {
    room().map(|room| (room.bytes, room.limit))
}

/// Most memory that this process has had so far, where the system tells.
pub(crate) fn peak_resident_bytes() -> Option<u64> {
    kilobytes(&read("/proc/self/status")?, "VmHWM")
}

/// Memory that this process has now, where the system tells.
pub(crate) fn resident_bytes() -> Option<u64> {
    kilobytes(&read("/proc/self/status")?, "VmRSS")
}

/// The tightest limit; none where the system tells of none.
fn room() -> Option<Room> {
    let of_system = read("/proc/meminfo").and_then(|text| available(&text));
    let of_system = of_system.map(|bytes| Room { bytes, limit: "available memory" });
    [of_system, of_group(), of_process()].into_iter().flatten().min_by_key(|room| room.bytes)
}

/// A file of the system's, where it has that.
fn read(path: impl AsRef<Path>) -> Option<String> {
    // Not every system has them, and none of them is the user's.
    std::fs::read_to_string(path).ok()
}

/// Bytes of a line `NAME: 123 kB`.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn available(meminfo: &str) -> Option<u64> {
    kilobytes(meminfo, "MemAvailable")
}

/// What the control groups (version 2) that this process is in leave.
fn of_group() -> Option<Room> {
    let own = read("/proc/self/cgroup")?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let root = Path::new("/sys/fs/cgroup");
    let groups = Path::new(own).ancestors().map(|group| root.join(group));
    let left = groups.filter_map(|group| {
        let file = |name: &str| read(group.join(name));
        left_in_group(&file("memory.max")?, &file("memory.current")?, &file("memory.stat")?)
    });
    left.min().map(|bytes| Room { bytes, limit: "memory.max of its control group" })
}

/// What is left below the limit of a group, with cached files counted as free.
fn left_in_group(max: &str, current: &str, stat: &str) -> Option<u64> {
    let max: u64 = max.trim().parse().ok()?;
    let current: u64 = current.trim().parse().ok()?;
    let cached = |name: &str| {
        let line = stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|number| number.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    let used = current.saturating_sub(cached("inactive_file") + cached("active_file"));
    Some(max.saturating_sub(used))
}

/// What the limit on this process's address space leaves.
#[cfg(target_os = "linux")]
fn of_process() -> Option<Room> {
    use rustix::process::{Resource, getrlimit};

    let limit = getrlimit(Resource::As).current?;
    let used = kilobytes(&read("/proc/self/status")?, "VmSize")?;
    Some(Room { bytes: limit.saturating_sub(used), limit: "RLIMIT_AS (ulimit -v)" })
}

/// As above, where nobody tells.
#[cfg(not(target_os = "linux"))]
fn of_process() -> Option<Room> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_the_system_writes_them() {
        let meminfo = "MemTotal:       24601456 kB\nMemAvailable:   20000000 kB\n";
        assert_eq!(available(meminfo), Some(20_000_000 * 1024));
        let stat = "anon 5000\ninactive_file 300\nactive_file 200\n";
        assert_eq!(left_in_group("10000\n", "6000\n", stat), Some(4500));
        assert_eq!(left_in_group("max\n", "6000\n", stat), None);
        assert_eq!(left_in_group("1000\n", "6000\n", stat), Some(0));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_system_tells_of_its_room() {
        assert!(room().is_some_and(|room| room.bytes > 0));
    }
}
