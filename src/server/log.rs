//! The log: lines of text on a terminal, lines of JSON elsewhere, both on standard error. Standard output has the start message
//! only.
//!
//! Nothing secret gets here: `Secret` has no `Display`, and dependencies, which do not know ours, speak from `warn` on only.

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::config::LogLevel;
use crate::metrics::record;

/// Changes the level of a running log.
pub struct Log {
    filter: Option<reload::Handle<Targets, Registry>>,
}

impl Log {
    /// Starts the log of this process. A panic becomes a line of it like any other, so that JSON stays JSON.
    pub fn start(level: LogLevel) -> Self {
        let (filter, handle) = reload::Layer::new(targets(level));
        let terminal = io::stderr().is_terminal();
        // https://no-color.org: present and not empty.
        let color = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let lines = fmt::layer().with_writer(io::stderr).with_target(false);
        let lines = if terminal {
            lines.with_ansi(color).boxed()
        } else {
            lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
        };
        let started = tracing_subscriber::registry().with(filter).with(lines).try_init();
        std::panic::set_hook(Box::new(log_panic));
        // Only a second start in one process fails, and then the first one's log goes on.
        Self { filter: started.is_ok().then_some(handle) }
    }

    /// Takes over a new level.
    pub fn change_level(&self, level: LogLevel) {
        if let Some(filter) = &self.filter {
            // The handle fails only when the log is gone.
            let _ = filter.reload(targets(level));
        }
    }
}

fn targets(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    Targets::new().with_default(level.min(LevelFilter::WARN)).with_target("sluice", level)
}

fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let message = panic.payload_as_str().unwrap_or("no message");
    let count = record::panicked();
    tracing::error!(thread = thread.name().unwrap_or("unnamed"), place, count, "panic: {message}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn dependencies_are_quiet() {
        let debug = targets(LogLevel::Debug);
        assert!(debug.would_enable("sluice::net", &Level::DEBUG));
        assert!(!debug.would_enable("sluice::net", &Level::TRACE));
        assert!(!debug.would_enable("rustls::conn", &Level::INFO));
        assert!(debug.would_enable("rustls::conn", &Level::WARN));
        assert!(!targets(LogLevel::Error).would_enable("rustls::conn", &Level::WARN));
    }
}
