//! What the authority asks of a cluster: about tokens ([`review`](TokenReviews)), and the Secret with the signing
//! certificate ([`CaSecret`]).

mod review;
mod secret;

pub(crate) use review::TokenReviews;
pub(crate) use secret::CaSecret;
