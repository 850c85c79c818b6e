//! Rate limits: those that this waypoint counts itself ([`RateLimit`]).
//!
//! | module | what |
//! |---|---|
//! | `local` | the filter `envoy.filters.http.local_ratelimit` |
//! | `descriptors` | what of a request limits go by |
//! | `buckets` | tokens, one bucket of them or one for each value |

mod buckets;
mod descriptors;
mod local;

pub use local::{Decision, RateLimit};
