//! Setting up `tracing`.

use std::{
    fmt,
    io::{self, IsTerminal as _},
    str::FromStr,
};

use tracing::Metadata;
use tracing_subscriber::{
    EnvFilter, Layer as _, Registry,
    fmt::{MakeWriter, format::JsonFields},
    layer::{Layered, SubscriberExt as _},
    reload,
    util::SubscriberInitExt as _,
};

use crate::{
    access_json::{ACCESS, Lines},
    buffer::LineBuffer,
    lines::AccessLines,
};

/// The shape of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Text,
    /// For machines: one object a line.
    Json,
}

/// What can go wrong with logs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// The filter is neither a level nor a list of `target=level`.
    #[error("log filter `{filter}`: {reason}")]
    Filter {
        /// As given.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// None of `auto`, `text`, `json`.
    #[error("log format `{0}` is none of auto, text, json")]
    Format(String),
    /// Logs were set up before.
    #[error("logs are set up already")]
    Twice,
    /// The thread that writes access logs does not start.
    #[error("access log thread: {0}")]
    Thread(#[from] io::Error),
}

/// The running logs. Clones act on the same ones.
#[derive(Clone)]
pub struct Logging {
    filter: reload::Handle<EnvFilter, Registry>,
    access: LineBuffer,
}

/// Begins to log to standard error. `filter` is a level, or a list such as `info,culvert_ztunnel=debug`.
///
/// # Errors
/// When the filter does not parse, or logs were set up before.
pub fn init(program: &'static str, format: LogFormat, filter: &str) -> Result<Logging, TelemetryError> {
    let (layer, handle) = reload::Layer::new(parse(filter)?);
    let access = LineBuffer::spawn(io::stderr())?;
    let writers = Writers { access: access.clone() };
    let terminal = io::stderr().is_terminal();
    let json = match format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(writers);
    let lines = if json {
        lines.fmt_fields(JsonFields::new()).event_format(Lines::new()).boxed()
    } else {
        lines.with_ansi(terminal).boxed()
    };
    let subscriber: Layered<_, _> = tracing_subscriber::registry().with(layer).with(lines);
    subscriber.try_init().map_err(|_| TelemetryError::Twice)?;
    tracing::debug!(program, "logs begin");
    Ok(Logging { filter: handle, access })
}

impl Logging {
    /// Logs something else from now on.
    ///
    /// # Errors
    /// When the filter does not parse; the old one stays.
    pub fn set_filter(&self, filter: &str) -> Result<(), TelemetryError> {
        let new = parse(filter)?;
        self.filter.reload(new).map_err(|error| TelemetryError::Filter {
            filter: filter.to_owned(),
            reason: error.to_string(),
        })
    }

    /// The filter in force.
    pub fn filter(&self) -> String {
        self.filter.with_current(ToString::to_string).unwrap_or_default()
    }

    /// Takes lines of access logs whose form is said elsewhere.
    ///
    /// # Errors
    /// When the thread that writes them does not start.
    pub fn access_lines(&self) -> io::Result<AccessLines> {
        AccessLines::beside(self.access.clone())
    }

    /// Waits until all access log lines have been written. Call it last: a process that ends takes them with it.
    pub fn flush(&self) {
        self.access.flush();
    }
}

impl fmt::Debug for Logging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logging")
            .field("filter", &self.filter())
            .finish_non_exhaustive()
    }
}

fn parse(filter: &str) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::builder()
        .parse(filter)
        .map_err(|error| TelemetryError::Filter {
            filter: filter.to_owned(),
            reason: error.to_string(),
        })
}

impl FromStr for LogFormat {
    type Err = TelemetryError;

    fn from_str(text: &str) -> Result<Self, TelemetryError> {
        match text {
            "auto" => Ok(Self::Auto),
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(TelemetryError::Format(text.to_owned())),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// Access logs to the buffer, everything else straight out, so that the last words of a dying process are there.
#[derive(Clone)]
struct Writers {
    access: LineBuffer,
}

enum Writer {
    Access(LineBuffer),
    Direct(io::Stderr),
}

impl<'a> MakeWriter<'a> for Writers {
    type Writer = Writer;

    fn make_writer(&'a self) -> Writer {
        Writer::Direct(io::stderr())
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Writer {
        if meta.target() == ACCESS {
            Writer::Access(self.access.clone())
        } else {
            self.make_writer()
        }
    }
}

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Access(buffer) => buffer.write(bytes),
            Self::Direct(stderr) => stderr.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Access(_) => Ok(()),
            Self::Direct(stderr) => stderr.flush(),
        }
    }
}
