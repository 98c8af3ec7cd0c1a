//! Where log lines go: standard error, in the form and from the level that the configuration says.

use std::io::{self, IsTerminal};

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

use crate::config::{Format, Level, Log};

/// The level can be changed by a reload; the form is chosen once.
#[derive(Clone)]
pub struct Logs {
    level: reload::Handle<LevelFilter, Registry>,
    format: Format,
}

impl Logs {
    /// Begins to log.
    pub fn start(log: Log) -> Self {
        let (level, handle) = reload::Layer::new(filter(log.level));
        let registry = tracing_subscriber::registry().with(level);
        let started = match log.format {
            Format::Text => {
                let colours = io::stderr().is_terminal();
                let lines = fmt::layer().with_writer(io::stderr).with_target(false).with_ansi(colours);
                registry.with(lines).try_init()
            }
            Format::Json => registry
                .with(fmt::layer().with_writer(io::stderr).with_target(false).json().flatten_event(true))
                .try_init(),
        };
        if let Err(error) = started {
            // Only possible where a program that embeds this one logs already; its lines are then the log.
            tracing::debug!("{error}");
        }
        Self { level: handle, format: log.format }
    }

    /// Takes what a reload has changed.
    pub fn change(&self, log: Log) {
        if let Err(error) = self.level.reload(filter(log.level)) {
            tracing::warn!("log.level stays as it was: {error}");
        }
        if log.format != self.format {
            tracing::warn!("log.format is chosen at the start; restart waxseal to change it");
        }
    }
}

fn filter(level: Level) -> LevelFilter {
    match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    }
}
