//! Logging: one line an event, for people on a terminal and for machines otherwise.

use std::{
    io::{self, IsTerminal as _},
    sync::Arc,
};

use tracing_subscriber::{EnvFilter, Registry, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _};

/// The flags about logging that every program has.
#[derive(Clone, Debug, clap::Args)]
pub struct LogArgs {
    /// What to log: a level (error, warn, info, debug, trace), or a filter such as `info,culvert_ztunnel=debug`. Access
    /// logs have the target `access`.
    #[arg(long = "log", env = "CULVERT_LOG", default_value = "info", value_name = "FILTER")]
    pub filter: String,

    /// How to log.
    #[arg(long = "log-format", env = "CULVERT_LOG_FORMAT", value_enum, default_value_t = LogFormat::Auto)]
    pub format: LogFormat,
}

/// The shape of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Text,
    /// For machines: one object a line.
    Json,
}

/// Why logging cannot be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter does not parse.
    #[error("`{filter}` is not a log filter")]
    Filter {
        /// As given.
        filter: String,
        /// Why.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Something else has set logging up already.
    #[error("logging is set up already")]
    Twice,
}

/// Changes what is logged while the program runs.
#[derive(Clone)]
pub struct LogControl {
    handle: reload::Handle<EnvFilter, Registry>,
    filter: Arc<std::sync::Mutex<String>>,
}

impl LogArgs {
    /// Sends the program's events to standard error. Call once, first thing.
    ///
    /// # Errors
    /// When the filter does not parse, or logging was set up before.
    pub fn init(&self) -> Result<LogControl, LogError> {
        let (filter, handle) = reload::Layer::new(parse(&self.filter)?);
        let json = match self.format {
            LogFormat::Auto => !io::stderr().is_terminal(),
            LogFormat::Text => false,
            LogFormat::Json => true,
        };
        let registry = tracing_subscriber::registry().with(filter);
        let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr);
        let outcome = if json {
            registry
                .with(
                    layer
                        .json()
                        .flatten_event(true)
                        .with_current_span(false)
                        .with_span_list(false),
                )
                .try_init()
        } else {
            registry.with(layer.with_ansi(io::stderr().is_terminal())).try_init()
        };
        outcome.map_err(|_| LogError::Twice)?;
        Ok(LogControl {
            handle,
            filter: Arc::new(std::sync::Mutex::new(self.filter.clone())),
        })
    }
}

impl LogControl {
    /// The filter in force.
    pub fn filter(&self) -> String {
        self.filter.lock().map(|filter| filter.clone()).unwrap_or_default()
    }

    /// Logs by another filter from now on.
    ///
    /// # Errors
    /// When the filter does not parse; the earlier one stays.
    pub fn set_filter(&self, filter: &str) -> Result<(), LogError> {
        let parsed = parse(filter)?;
        self.handle.reload(parsed).map_err(|_| LogError::Twice)?;
        if let Ok(mut current) = self.filter.lock() {
            filter.clone_into(&mut current);
        }
        Ok(())
    }
}

impl std::fmt::Debug for LogControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LogControl").field(&self.filter()).finish()
    }
}

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::try_new(filter).map_err(|source| LogError::Filter {
        filter: filter.to_owned(),
        source,
    })
}
