//! What node proxies send to the certificate authority: certificate requests (here DER; the first byte counts bytes of a bearer token
//! that come before it).
#![no_main]
#![allow(dead_code, unused_imports, reason = "the controller's files as they are")]

#[path = "../../controller/src/authority/anchor.rs"]
mod anchor;
#[path = "../../controller/src/authority/authenticate.rs"]
mod authenticate;
#[path = "../../controller/src/authority/bundle.rs"]
mod bundle;
#[path = "../../controller/src/authority/caller.rs"]
mod caller;
#[path = "../../controller/src/clock.rs"]
mod clock;
#[path = "../../controller/src/authority/error.rs"]
mod error;
#[path = "../../controller/src/authority/leaf.rs"]
mod leaf;
#[path = "../../controller/src/authority/root.rs"]
mod root;
#[path = "../../controller/src/authority/sign.rs"]
mod sign;
#[path = "../../controller/src/authority/signer.rs"]
mod signer;
#[path = "../../controller/src/authority/tokens.rs"]
mod tokens;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use anchor::Anchor;
use authenticate::{Authenticator, Unauthenticated};
use caller::{Authenticated, Caller, Source};
use clock::Clock;
use culvert_identity::{SpiffeId, TrustBundle, peer_identity};
use error::AuthorityError;
use libfuzzer_sys::fuzz_target;
use root::RootFolder;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use sign::Authority;
use signer::{Material, Signer};
use tokens::Tokens;

struct Setup {
    _folder: tempfile::TempDir,
    authority: Authority,
    tokens: Tokens,
    good: String,
}

static SETUP: LazyLock<Setup> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let root = RootFolder::new(&folder.path().join("ca"), "cluster.local")
        .open()
        .expect("a root");
    let authority = Authority::new(Duration::from_secs(3600), Duration::ZERO, Clock::system());
    authority.take(Arc::new(root));
    let tokens = Tokens::below(folder.path());
    let good = std::fs::read_to_string(tokens.issue("node1").expect("a token")).expect("its text");
    Setup {
        authority,
        tokens,
        good: good.trim().to_owned(),
        _folder: folder,
    }
});

fuzz_target!(|input: &[u8]| {
    let &[length, ref rest @ ..] = input else { return };
    let (token, request) = rest.split_at(usize::from(length).min(rest.len()));
    let setup = &*SETUP;
    if let Ok(token) = std::str::from_utf8(token) {
        assert!(setup.tokens.find(token).is_none() || token == setup.good);
    }
    let wanted = SpiffeId::new("cluster.local", "shop", "web").expect("well-formed");
    let mut pem = String::from("-----BEGIN CERTIFICATE REQUEST-----\n");
    for line in base64::Engine::encode(&base64::prelude::BASE64_STANDARD, request)
        .as_bytes()
        .chunks(64)
    {
        pem.extend(line.iter().map(|&byte| char::from(byte)));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE REQUEST-----\n");
    if let Ok(chain) = setup.authority.sign(&pem, &wanted, Duration::from_secs(60)) {
        // Whatever the request says, the certificate says what was authorised.
        let leaf = CertificateDer::from_pem_slice(chain[0].as_bytes()).expect("a certificate");
        assert_eq!(peer_identity(&leaf).as_ref().ok(), Some(&wanted));
        TrustBundle::from_pem(chain[1].as_bytes()).expect("a root");
    }
});
