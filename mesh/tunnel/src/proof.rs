//! What the certificates of a tunnel prove, and whether they still do.
//!
//! TLS checks certificates once. A tunnel that outlived them would carry new connections for an identity that was taken away.
//! So a tunnel remembers what was proved, and a regular look compares it with the clock and the roots of the day: where it
//! does not hold, no new stream is opened or taken. What is open is cut after a grace where nobody vouches for its ends any
//! more (the roots are others, or our own identity got no certificate since); that a certificate's day is over is no such sign,
//! and connections outlive it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use culvert_identity::{Credentials, SpiffeId};
use rustls::{RootCertStore, pki_types::CertificateDer};

/// What the certificates of a tunnel prove.
#[derive(Debug, Default)]
pub struct Proof {
    /// The peer's, its own first.
    chain: Vec<CertificateDer<'static>>,
    /// When the first of both sides' certificates expires.
    expires: Option<SystemTime>,
    /// The roots against which the chain was verified last.
    roots: Option<Arc<RootCertStore>>,
    /// That it has expired was found.
    expired: bool,
}

/// What a look at a proof found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It holds, or nothing new is known.
    Holds,
    /// Take no new streams, for this reason; what is open goes on.
    Expired(&'static str),
    /// Take no new streams, and end what is open after the grace, for this reason.
    Broken(&'static str),
}

impl Proof {
    /// Our own part, as the handshake begins.
    pub fn own(&mut self, credentials: &Credentials) {
        self.expires = Some(credentials.not_after());
        self.roots = Some(Arc::clone(credentials.bundle().roots()));
    }

    /// The peer's, verified in the handshake.
    pub fn peer(&mut self, chain: Vec<CertificateDer<'static>>) {
        // One that does not parse has not been accepted.
        let expires = chain.first().and_then(|leaf| culvert_identity::peer_expiry(leaf).ok());
        self.expires = self.expires.into_iter().chain(expires).min();
        self.chain = chain;
    }

    /// Compares it with the clock and with the credentials that our own identity has today. `peer` is whom it proved. The
    /// verification of a chain costs some 0.1 ms; `verifications` is how many there may still be, and is counted down.
    pub fn look(
        &mut self,
        today: SystemTime,
        held: Option<&Credentials>,
        peer: Option<&SpiffeId>,
        verifications: &mut usize,
    ) -> Finding {
        let expired = self.expires.filter(|at| today >= *at);
        if expired.is_some() && !std::mem::replace(&mut self.expired, true) {
            return Finding::Expired("a certificate has expired");
        }
        let Some(credentials) = held.filter(|held| held.valid_at(today)) else {
            return match self.expired {
                true => Finding::Broken("our own identity has no certificate any more"),
                false => Finding::Holds,
            };
        };
        let roots = credentials.bundle().roots();
        let is_known = self.roots.as_ref().is_some_and(|known| Arc::ptr_eq(known, roots));
        let Some(peer) = peer.filter(|_| !is_known && *verifications > 0) else {
            return Finding::Holds;
        };
        *verifications -= 1;
        // What has expired is asked about as of its last second: whether the roots would still vouch for it.
        let vouched = expired.map_or(today, |at| at - Duration::from_secs(1));
        match credentials.bundle().verify(&self.chain, peer.trust_domain(), vouched) {
            Ok(_) => {
                self.roots = Some(Arc::clone(roots));
                Finding::Holds
            }
            Err(error) => {
                tracing::debug!(%peer, %error, "a peer's certificate is no longer trusted");
                Finding::Broken("the peer's certificate is no longer trusted")
            }
        }
    }
}
