//! The per-node agent. `kernel` is its kernel side; start reading there for how capture works.

pub mod kernel;
