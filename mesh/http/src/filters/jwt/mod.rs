//! Tokens of people: the filter `envoy.filters.http.jwt_authn`. A [`JwtFilter`] has [`provider`]s, each with its [`keys`], and rules that say
//! which of them a request needs ([`requirement`]). [`token`] is the token itself, [`places`] are where it is looked for,
//! [`challenge`] is what a refused client is told, and [`proven`] remembers whose signatures were good.

mod challenge;
mod filter;
mod keys;
mod per_route;
mod places;
mod proven;
mod provider;
mod requirement;
mod status;
mod token;

pub use filter::{JwtFilter, Verified};
pub use keys::{Keys, KeysError};
pub use per_route::PerRoute;
pub use status::JwtStatus;

#[cfg(test)]
mod tests;
