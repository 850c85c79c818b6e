//! Traces of requests, without I/O: which requests are traced ([`sampling`]), what of a trace travels with them ([`propagation`]),
//! what is said of each ([`Span`]), and how that is written down for a receiver ([`otlp`], [`zipkin`]). [`Tracing::compile`] reads an
//! HttpConnectionManager's `tracing`; what it does is what Envoy 1.40 does with the same.

mod b3;
mod config;
mod context;
pub mod otlp;
pub mod propagation;
pub mod sampling;
mod span;
mod tags;
mod w3c;
pub mod zipkin;

pub use config::{Begun, Exporter, Receiver, Tracing, child};
pub use context::{Context, Extracted, Form, SpanId, TraceId};
pub use span::{Kind, Span};

#[cfg(test)]
mod tests;
