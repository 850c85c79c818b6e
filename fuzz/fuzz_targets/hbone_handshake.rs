//! The first bytes of a stranger: records to a TLS server that has no certificate to show, and so gets as far as the ClientHello.
#![no_main]

use std::sync::{Arc, LazyLock};

use culvert_hbone::Handshake;
use libfuzzer_sys::fuzz_target;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

#[derive(Debug)]
struct NoCertificate;

impl ResolvesServerCert for NoCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}

static CONFIG: LazyLock<Arc<ServerConfig>> = LazyLock::new(|| {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
    let mut config = builder
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(NoCertificate));
    config.enable_secret_extraction = true;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
});

fuzz_target!(|input: (u8, &[u8])| {
    let (size, bytes) = input;
    let mut server = Handshake::server(CONFIG.clone()).expect("a sound configuration");
    let (mut incoming, mut outgoing) = (Vec::new(), Vec::new());
    let mut failed = false;
    for piece in bytes.chunks(usize::from(size) + 1) {
        incoming.extend_from_slice(piece);
        let result = server.advance(&mut incoming, &mut outgoing);
        assert!(!failed || result.is_err());
        failed = result.is_err();
    }
});
