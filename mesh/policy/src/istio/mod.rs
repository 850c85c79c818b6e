//! From Istio's objects to the policies that a node's proxy enforces.
//!
//! The objects can say more than layer 4 can decide, and they may say what nobody understands. Neither is passed over: what
//! cannot be decided is decided for the worst, as far as a policy is concerned, and each such place is a [`Note`]. What
//! "for the worst" means depends on what the policy does ([`Side`]):
//!
//! | | in an ALLOW policy | in a DENY policy |
//! |---|---|---|
//! | a condition that needs layer 7, or that is unknown | does not hold: the rule allows nobody | holds: the rule denies whoever meets its other conditions |
//! | a value that means nothing, among others | is left out | the list holds for everybody |
//! | the same in a list of exceptions (`notPorts`) | the rule allows nobody | is left out: it excepts nobody |
//! | an empty `source` or `operation` | matches nobody | matches everybody |
//!
//! So an ALLOW policy lets in no more than it says, and a DENY policy keeps out no less. Istio's control plane leaves such
//! conditions out of DENY policies, or sends what matches nothing.
//!
//! | module | what |
//! |---|---|
//! | [`authorization`](fn@authorization) | AuthorizationPolicy |
//! | [`PeerAuthentication`] | PeerAuthentication, and what several of them mean for one workload |
//! | `rule` | a rule of an AuthorizationPolicy |
//! | `conditions` | what an entry of it comes to |
//! | [`Side`] | which way it may err |
//! | [`request`] | the same for waypoints, which read requests |
//! | `value` | its values: addresses, ports, names with wildcards |

mod authorization;
mod conditions;
mod notes;
mod peer;
pub mod request;
mod rule;
mod side;
mod value;

pub use authorization::{Source, Translation, authorization, is_for_node_proxies};
pub use notes::Note;
pub use peer::{Mode, Mtls, PeerAuthentication};
pub use side::Side;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
