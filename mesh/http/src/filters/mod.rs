//! HTTP filters: what they decide about a request, and what routes change of it.

mod composite;
mod cors;
pub mod ext_authz;
mod fault;
pub mod jwt;
mod overrides;
mod rate_limit;
mod rbac;
mod session;

pub use cors::{Cors, Preflight};
pub use fault::{Abort, Fault, Injected};
pub use overrides::{Override, Overrides};
pub use rate_limit::{Decision as Limited, RateLimit};
pub use rbac::{Access, Attributes, Rbac};
pub use session::Session;
