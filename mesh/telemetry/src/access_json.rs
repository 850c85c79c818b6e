//! Access log lines as JSON, in the shape of all other lines.
//!
//! `tracing-subscriber` has a serializer write each piece of a line through three adapters, one of which looks for invalid UTF-8 in it
//! again, which was up to a tenth of a connection's CPU (`docs/performance.md`). Here pieces go straight into the line.

use std::{
    cell::RefCell,
    fmt::{self, Write as _},
};

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Format, Json, Writer},
        time::{FormatTime as _, SystemTime},
    },
    registry::LookupSpan,
};

/// The target of access logs.
pub const ACCESS: &str = "access";

thread_local! {
    /// The line that is being written. Its memory is used again: lines are of about one length.
    static LINE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Writes access log lines itself, and has others written as they always were.
pub(crate) struct Lines {
    others: Format<Json>,
}

impl Lines {
    pub(crate) fn new() -> Self {
        let others = Format::default().json().flatten_event(true).with_current_span(false);
        Self { others }
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        if event.metadata().target() != ACCESS {
            return self.others.format_event(context, writer, event);
        }
        LINE.with(|line| match line.try_borrow_mut() {
            Ok(mut line) => {
                line.clear();
                access(event, &mut line)?;
                writer.write_str(&line)
            }
            // An event while a value of another was written.
            Err(_) => self.others.format_event(context, writer, event),
        })
    }
}

fn access(event: &Event<'_>, line: &mut String) -> fmt::Result {
    line.push_str("{\"timestamp\":\"");
    SystemTime.format_time(&mut Writer::new(line))?;
    line.push_str("\",\"level\":\"");
    line.push_str(event.metadata().level().as_str());
    line.push('"');
    event.record(&mut Fields(line));
    line.push_str(",\"target\":\"");
    line.push_str(ACCESS);
    line.push_str("\"}\n");
    Ok(())
}

struct Fields<'a>(&'a mut String);

impl Fields<'_> {
    /// Names are those of this repository's source, which need no escape.
    fn name(&mut self, field: &Field) {
        self.0.push_str(",\"");
        self.0.push_str(field.name());
        self.0.push_str("\":");
    }

    fn bare(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        self.name(field);
        // Memory takes everything.
        let _ = self.0.write_fmt(value);
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.name(field);
        self.0.push('"');
        let _ = write!(Escaped(self.0), "{value:?}");
        self.0.push('"');
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.name(field);
        self.0.push('"');
        let _ = Escaped(self.0).write_str(value);
        self.0.push('"');
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.bare(field, format_args!("{value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.bare(field, format_args!("{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.bare(field, format_args!("{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.bare(field, format_args!("{value:?}"));
        } else {
            self.bare(field, format_args!("null"));
        }
    }
}

/// What is written becomes part of a JSON string (RFC 8259 section 7).
struct Escaped<'a>(&'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let needs = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
        let mut rest = text;
        while let Some(at) = rest.bytes().position(needs) {
            let (plain, special) = rest.split_at(at);
            self.0.push_str(plain);
            match special.as_bytes()[0] {
                b'"' => self.0.push_str("\\\""),
                b'\\' => self.0.push_str("\\\\"),
                b'\n' => self.0.push_str("\\n"),
                b'\r' => self.0.push_str("\\r"),
                b'\t' => self.0.push_str("\\t"),
                control => write!(self.0, "\\u{control:04x}")?,
            }
            // What is escaped is a byte long.
            rest = &special[1..];
        }
        self.0.push_str(rest);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use tracing_subscriber::{fmt::format::JsonFields, layer::SubscriberExt as _};

    use super::*;
    use crate::sink::Sink;

    /// Each kind of value, and every character that a peer's words could break a line with.
    fn say() {
        let strange: String = (0..0x30u8)
            .map(char::from)
            .chain("\u{7f}\\ ü 名 \u{1f980}".chars())
            .collect();
        let none: Option<&str> = None;
        tracing::info!(
            target: ACCESS,
            direction = "outbound",
            src.addr = %"198.18.0.1:80",
            strange = %strange,
            again = &*strange,
            debug = ?strange,
            absent = none,
            bytes = 1024u64,
            less = -7i64,
            duration_ms = 10.947f64,
            whole = 10.0f64,
            large = 1e300f64,
            nothing = f64::NAN,
            encrypted = true,
            "connection {}", "closed"
        );
        tracing::warn!(target: ACCESS, error = "reset", "connection closed");
        tracing::info!(target: "culvert_ztunnel", strange, "others");
    }

    fn lines(own: bool) -> Vec<Value> {
        let sink = Sink::default();
        let output = sink.clone();
        let layer = tracing_subscriber::fmt::layer().with_writer(move || output.clone());
        if own {
            let layer = layer.fmt_fields(JsonFields::new()).event_format(Lines::new());
            tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), say);
        } else {
            let layer = layer.json().flatten_event(true).with_current_span(false);
            tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), say);
        }
        let text = String::from_utf8(sink.written()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn an_access_log_line_holds_what_it_held_before() {
        let [own, theirs] = [true, false].map(|own| {
            let mut lines = lines(own);
            for line in &mut lines {
                let when = line.as_object_mut().unwrap().remove("timestamp").unwrap();
                assert!(when.as_str().unwrap().ends_with('Z'), "{when}");
            }
            lines
        });
        assert_eq!(own.len(), 3);
        assert_eq!(own, theirs);
    }
}
