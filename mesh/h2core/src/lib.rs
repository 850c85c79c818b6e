//! HTTP/2 (RFC 9113) as a state machine without I/O: framing, header compression, windows, streams.
#![forbid(unsafe_code)]
