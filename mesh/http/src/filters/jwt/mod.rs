//! Tokens of people: the filter `envoy.filters.http.jwt_authn`.

mod per_route;

pub use per_route::PerRoute;
