//! One span: a request as one proxy saw it, or one attempt at it.

use std::borrow::Cow;
use std::time::SystemTime;

use super::context::{Context, SpanId, TraceId};

/// Which side of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It was received.
    Server,
    /// It was sent.
    Client,
}

/// A span that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Its trace.
    pub trace: TraceId,
    /// Whether the trace's name has only 64 bits.
    pub is_short: bool,
    /// Its own name in the trace.
    pub id: SpanId,
    /// The span around it.
    pub parent: Option<SpanId>,
    /// Whether another's span has the same id: what received a request in the span that it was sent in.
    pub is_shared: bool,
    /// `tracestate`; empty for none.
    pub state: String,
    /// What people see.
    pub name: String,
    /// Which side.
    pub kind: Kind,
    /// When it began.
    pub begun: SystemTime,
    /// When it ended.
    pub ended: SystemTime,
    /// Names and values.
    pub tags: Vec<(Cow<'static, str>, String)>,
    /// Whether something went wrong.
    pub is_error: bool,
}

impl Span {
    /// One of a context, with nothing said of it yet.
    pub fn of(context: &Context, name: String, kind: Kind, begun: SystemTime) -> Self {
        let state = context.state.as_ref().and_then(|state| state.to_str().ok());
        Self {
            trace: context.trace,
            is_short: context.is_short,
            id: context.span,
            parent: context.parent,
            is_shared: false,
            state: state.unwrap_or_default().to_owned(),
            name,
            kind,
            begun,
            ended: begun,
            tags: Vec::new(),
            is_error: false,
        }
    }

    /// Says something of it.
    pub fn tag(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) {
        self.tags.push((name.into(), value.into()));
    }
}
