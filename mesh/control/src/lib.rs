//! What a proxy learns from the controller, kept in step: configuration over xDS, and certificates.
#![forbid(unsafe_code)]
