//! A compiled route table: a request in, a decision out. Without I/O.

#![forbid(unsafe_code)]

mod error;
pub mod re2;

pub use error::{CompileError, Problem};
