//! What is said of each connection: its line in the access log, its metrics, and whether it is open.
#![forbid(unsafe_code)]
