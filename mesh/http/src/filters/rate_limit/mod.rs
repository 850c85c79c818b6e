//! Rate limits: those that this waypoint counts itself ([`RateLimit`]), and those that a service counts ([`GlobalRateLimit`]).
//!
//! | module | what |
//! |---|---|
//! | `local` | the filter `envoy.filters.http.local_ratelimit` |
//! | `global` | the filter `envoy.filters.http.ratelimit` |
//! | `descriptors` | what of a request limits go by |
//! | `buckets` | tokens, one bucket of them or one for each value |

mod buckets;
mod descriptors;
mod global;
mod local;

use http::HeaderName;

pub use global::{GlobalRateLimit, Ruling};
pub use local::{Decision, RateLimit};

/// What clients are told of limits, in draft 3 of RateLimit header fields.
const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
