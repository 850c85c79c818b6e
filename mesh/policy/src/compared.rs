//! A text of a connection that many texts of policies are compared with.

use std::hash::Hasher as _;

use rustc_hash::FxHasher;

use crate::Connection;

/// What policies compare with of a connection, found out once for all of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) connection: &'a Connection<'a>,
    /// Of a peer with an identity.
    pub(crate) peer: Option<Peer<'a>>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer<'a> {
    pub(crate) namespace: Compared<'a>,
    pub(crate) service_account: &'a str,
    pub(crate) principal: Compared<'a>,
}

/// A text, and its digest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Compared<'a> {
    pub(crate) text: &'a str,
    pub(crate) digest: Digest,
}

/// Texts with different ones differ; nearly all that differ have different ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Digest(u32);

impl<'a> Facts<'a> {
    pub(crate) fn of(connection: &'a Connection<'a>) -> Self {
        let peer = connection.identity.map(|identity| Peer {
            namespace: Compared::of(identity.namespace()),
            service_account: identity.service_account(),
            principal: Compared::of(identity.principal()),
        });
        Self { connection, peer }
    }
}

impl<'a> Compared<'a> {
    fn of(text: &'a str) -> Self {
        Self {
            text,
            digest: Digest::of(text),
        }
    }
}

impl Digest {
    pub(crate) fn of(text: &str) -> Self {
        let mut hasher = FxHasher::default();
        hasher.write(text.as_bytes());
        let hash = hasher.finish();
        Self((hash ^ (hash >> 32)) as u32)
    }

    /// Six bits of it, from this one on.
    pub(crate) fn six_bits(self, from: u32) -> u32 {
        (self.0 >> from) & 63
    }
}
