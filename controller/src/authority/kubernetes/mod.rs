//! What the authority asks of a cluster: about tokens ([`review`](TokenReviews)), and the Secret with the signing
//! certificate ([`CaSecret`]).

mod review;
mod secret;
mod signing_state;

pub(crate) use review::TokenReviews;
pub(crate) use secret::CaSecret;
