//! HTTP filters: what they decide about a request, and what routes change of it.

mod overrides;

pub use overrides::Overrides;
