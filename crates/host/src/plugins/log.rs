//! What plugins say to the log.

use wan_plugin_api::LogLevel;

/// Writes a line of a plugin to the log.
pub(crate) fn write(level: LogLevel, text: &str) {
    match level {
        LogLevel::Error => tracing::error!(target: "wan::plugin", "{text}"),
        LogLevel::Warn => tracing::warn!(target: "wan::plugin", "{text}"),
        LogLevel::Info => tracing::info!(target: "wan::plugin", "{text}"),
        LogLevel::Debug => tracing::debug!(target: "wan::plugin", "{text}"),
        LogLevel::Trace => tracing::trace!(target: "wan::plugin", "{text}"),
    }
}
