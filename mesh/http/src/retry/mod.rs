//! When a request is tried again: the policy of a route ([`policy`]), the tries of one request ([`tries`]), how long to wait between them
//! ([`backoff`]), and how many of all requests may be such ([`budget`]).
//!
//! # Layers
//! A request that passes several waypoints or gateways may be tried again by each, so that tries multiply. Two numbers stop that, both in
//! [`ATTEMPT_HEADER`](culvert_envoy::ATTEMPT_HEADER). Upstream goes the number of the try, and of it what retries a layer in front has used
//! is known: they are gone for this one. Downstream comes how often it has been tried, and what a layer behind has used is gone too.

mod backoff;
mod budget;
mod conditions;
mod policy;
mod tries;

pub use budget::RetryBudget;
pub use conditions::{Outcome, Reset};
pub use policy::RetryPolicy;
pub use tries::{Decision, Refusal, Tries};

#[cfg(test)]
mod tests;
