//! Matchers: for one text ([`text`]), for header fields ([`header`]), query parameters ([`query`]), metadata ([`json`]), paths ([`path`]) and who the client
//! is ([`client`]); and all of these together ([`route`]). Used by routes and by access policies alike.

pub(crate) mod client;
pub(crate) mod header;
pub(crate) mod json;
pub(crate) mod path;
pub(crate) mod query;
pub(crate) mod route;
pub(crate) mod text;
