//! Lines of an access log, without I/O: [`AccessLog::compile`] reads an `AccessLog` of Envoy's, [`AccessLog::line`] makes the line of a
//! request, or of a connection, from what is known of it ([`Facts`]). The line is the one that Envoy 1.40 writes.

mod command;
mod config;
mod expression;
mod facts;
mod filter;
mod flags;
mod format;

pub use config::{AccessLog, Output};
pub use expression::Expression;
pub use facts::{Facts, Heads};

#[cfg(test)]
mod tests;
