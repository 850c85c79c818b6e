//! What of a trace is in a request's header fields.

use http::HeaderMap;

use super::context::{Context, Extracted, Form};
use super::{b3, w3c};

/// Which fields are read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// `traceparent` and `tracestate`: Envoy's OpenTelemetry tracer.
    W3c,
    /// B3's, in the form that the request has them: Envoy's Zipkin tracer.
    B3,
    /// B3's, and `traceparent` where there are none; both are written.
    B3WithW3c,
}

impl Propagation {
    /// Reads a request's fields.
    pub fn extract(self, headers: &HeaderMap) -> Extracted {
        match self {
            Self::W3c => w3c::extract(headers),
            Self::B3 => b3::extract(headers),
            Self::B3WithW3c => match b3::extract(headers) {
                Extracted::Nothing => match w3c::extract(headers) {
                    Extracted::Context(context) => Extracted::Context(Context {
                        form: Form::B3Multi,
                        ..context
                    }),
                    other => other,
                },
                found => found,
            },
        }
    }

    /// Writes them.
    pub fn inject(self, context: &Context, headers: &mut HeaderMap) {
        if self != Self::W3c {
            b3::inject(context, headers);
        }
        if self != Self::B3 {
            w3c::inject(context, headers);
        }
    }

    /// The form in which a trace that begins here goes on.
    pub(super) fn form(self) -> Form {
        match self {
            Self::W3c => Form::W3c,
            Self::B3 | Self::B3WithW3c => Form::B3Multi,
        }
    }
}
