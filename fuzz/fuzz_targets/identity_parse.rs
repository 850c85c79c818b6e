//! Identities, certificates, trust bundles and the authority's answers, as strangers write them.
#![no_main]

use std::sync::LazyLock;

use culvert_identity::{CertificateRequest, SpiffeId, TrustBundle, peer_identity};
use libfuzzer_sys::fuzz_target;
use rustls::pki_types::CertificateDer;

static WANTED: LazyLock<SpiffeId> =
    LazyLock::new(|| SpiffeId::new("cluster.local", "shop", "web").expect("well-formed"));

fuzz_target!(|bytes: &[u8]| {
    if let Ok(identity) = peer_identity(&CertificateDer::from(bytes)) {
        assert_eq!(SpiffeId::parse(identity.as_str()).as_ref(), Ok(&identity));
    }
    let bundle = TrustBundle::from_pem(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(identity) = SpiffeId::parse(text) {
        assert_eq!(identity.to_string(), text);
        let parts = (
            identity.trust_domain(),
            identity.namespace(),
            identity.service_account(),
        );
        assert_eq!(SpiffeId::new(parts.0, parts.1, parts.2), Ok(identity.clone()));
    }
    if let Ok(bundle) = bundle {
        let request = CertificateRequest::new(&WANTED).expect("a key");
        let answer = request.complete(&[text.to_owned()], &bundle);
        assert!(answer.is_err(), "nobody can have signed the key that was made just now");
    }
});
