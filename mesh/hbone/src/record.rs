//! TLS 1.3 record protection (RFC 8446 section 5).

/// The keys of an established TLS 1.3 connection, both directions, with what it takes to renew them.
pub struct TrafficKeys {}
