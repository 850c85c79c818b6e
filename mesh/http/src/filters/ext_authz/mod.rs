//! Requests that a service is asked about: the filter `envoy.filters.http.ext_authz`, without I/O.
//!
//! | module | what |
//! |---|---|
//! | `filter` | its configuration |
//! | `service` | which service, and how it is asked |
//! | `check` | what it is asked |
//! | `verdict` | what its answer means |
//! | `rules` | which headers it may change
//! | `changes` | what it makes of the request and of its answer |

mod changes;
mod check;
mod filter;
mod rules;
mod service;
mod verdict;

pub use changes::Changes;
pub use check::{Check, Shown};
pub use filter::{ExtAuthz, Shadow};
pub use service::Body;
pub use verdict::{Denial, Verdict};

#[cfg(test)]
mod tests;
