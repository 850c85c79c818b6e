//! What others give the certificate authority: a service account token's claims, and a Secret with a signing certificate. The
//! first byte says which; a Secret's parts are separated by a zero byte.
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
#[path = "../../controller/src/authority/claims.rs"]
mod claims;
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

use anchor::Anchor;
use authenticate::{Authenticator, Unauthenticated};
use caller::{Authenticated, Caller, Source};
use claims::Claims;
use error::AuthorityError;
use libfuzzer_sys::fuzz_target;
use root::RootFolder;
use sign::Authority;
use signer::{Material, Signer};
use tokens::Tokens;

fuzz_target!(|input: &[u8]| {
    let &[which, ref rest @ ..] = input else { return };
    let text = String::from_utf8_lossy(rest);
    if which % 2 == 0 {
        // As a whole token, and as the claims of one.
        let claims = base64::Engine::encode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, rest);
        for token in [text.into_owned(), format!("a.{claims}.c")] {
            if let Ok(claims) = Claims::parse(&token) {
                let why = claims.explain("istio-ca", 1_700_000_000, "no");
                assert!(!why.is_empty() && why.len() < 2000, "{why}");
            }
        }
        return;
    }
    let mut parts = text.split('\0').map(str::to_owned);
    let mut part = || parts.next().unwrap_or_default();
    let material = Material {
        certificate: part(),
        key: part(),
        roots: part(),
    };
    if let Ok(signer) = Signer::new(material, "the Secret", "cluster.local") {
        assert!(!signer.anchors().is_empty());
    }
});
