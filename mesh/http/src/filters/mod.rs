//! HTTP filters: what they decide about a request, and what routes change of it.

mod composite;
mod compressor;
mod cors;
pub mod ext_authz;
mod fault;
mod grpc;
pub mod jwt;
mod overrides;
mod rate_limit;
mod rbac;
mod session;

pub use compressor::{Algorithm, Compressor};
pub use cors::{Cors, Preflight};
pub use fault::{Abort, Fault, Injected};
pub use grpc::Answer;
pub use overrides::{Override, Overrides};
pub use rate_limit::{Decision as Limited, GlobalRateLimit, RateLimit, Ruling};
pub use rbac::{Access, Attributes, Rbac, Remark};
pub use session::Session;
