//! Matchers: for one text ([`text`]), for header fields ([`header`]), query parameters ([`query`]), paths ([`path`]) and who the client
//! is ([`client`]). Used by routes and by access policies alike.

pub(crate) mod client;
pub(crate) mod header;
pub(crate) mod path;
pub(crate) mod query;
pub(crate) mod text;
