//! The host's log, for lines of a library that come while no call with operations is under way: when an
//! object is made or ends, and from the library's own threads.

use std::sync::OnceLock;

use crate::LogLevel;

static LOG: OnceLock<fn(LogLevel, &str)> = OnceLock::new();

/// Sends such lines to `log`, which any thread may call. The first call counts.
pub fn log_to(log: fn(LogLevel, &str)) {
    LOG.get_or_init(|| log);
}

/// Writes a line, where the host has a log.
pub(crate) fn log_line(level: LogLevel, line: &str) {
    if let Some(log) = LOG.get() {
        log(level, line);
    }
}
