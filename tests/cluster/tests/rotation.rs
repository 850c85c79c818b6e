//! The root is replaced while connections are open and new ones are made: nobody notices.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use culvert_cluster_tests::{Meshed, World, eventually, until};
use culvert_identity::TrustBundle;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, SystemTime},
};

const SYSTEM: &str = "culvert-system";

/// Where tunnels end.
const HBONE: u16 = 15008;

#[test]
fn the_root_is_replaced_under_load_and_no_connection_notices() {
    let world = World::installed();
    let _short = ShortTimes::begin(&world);
    let before = told(&world, SYSTEM);
    // Identities of a namespace that is new: their certificates are short-lived from the first on.
    let meshed = Meshed::start(&world, "rotation");
    let addresses = ["server1", "server2", "load1", "load2"].map(|pod| meshed.space.ip(pod));
    for address in addresses {
        until(&format!("{address} to show a certificate of the root before"), || {
            shows_one_of(&world, address, &before)
        });
    }
    system(&world, &["annotate", "secret", "culvert-ca", "culvert.dev/rotate=now"]);
    let new = eventually("a second root in the ConfigMap", || {
        let now = told(&world, SYSTEM);
        let new: BTreeSet<String> = now.difference(&before).cloned().collect();
        assert!(
            before.is_subset(&now),
            "a root is gone that certificates are still under"
        );
        (new.len() == 1).then_some(new)
    });
    until("the same in the namespace", || {
        told(&world, meshed.space.name()) == before.union(&new).cloned().collect()
    });
    meshed.newcomer("between1", "node1");
    for address in addresses {
        until(&format!("{address} to show a certificate of the new root"), || {
            shows_one_of(&world, address, &new)
        });
    }
    meshed.settle();
    // Nothing that the root before signed is about any more; by the Secret's own time that takes more than an hour.
    let long_ago = "culvert.dev/rotated-at=2000-01-01T00:00:00Z";
    system(&world, &["annotate", "--overwrite", "secret", "culvert-ca", long_ago]);
    for namespace in [SYSTEM, meshed.space.name()] {
        until(&format!("the new root alone in {namespace}"), || {
            told(&world, namespace) == new
        });
    }
    meshed.newcomer("after1", "node1");
    meshed.newcomer("after2", "node2");
    meshed.settle();
    assert!(addresses.iter().all(|address| shows_one_of(&world, *address, &new)));
    meshed.finish("another root");
}

/// Certificates that are replaced every half minute, and a root that signs soon after it was told.
struct ShortTimes<'a>(&'a World);

impl<'a> ShortTimes<'a> {
    fn begin(world: &'a World) -> Self {
        let times = ["CULVERT_LEAF_TTL=60s", "CULVERT_ROTATION_OVERLAP=10s"];
        system(
            world,
            &[&["set", "env", "deployment/culvert-controller"], &times[..]].concat(),
        );
        world.wait_ready();
        Self(world)
    }
}

impl Drop for ShortTimes<'_> {
    fn drop(&mut self) {
        let times = ["CULVERT_LEAF_TTL-", "CULVERT_ROTATION_OVERLAP-"];
        system(
            self.0,
            &[&["set", "env", "deployment/culvert-controller"], &times[..]].concat(),
        );
        self.0.wait_ready();
    }
}

/// The roots in a namespace's ConfigMap, each in PEM.
fn told(world: &World, namespace: &str) -> BTreeSet<String> {
    const END: &str = "-----END CERTIFICATE-----";
    let bundle = world
        .client()
        .get(&["configmap", "culvert-ca-root-cert", "-n", namespace]);
    // It is made a moment after the namespace has joined.
    let Ok(bundle) = bundle else { return BTreeSet::new() };
    let text = bundle["data"]["root-cert.pem"].as_str().unwrap_or_default().to_owned();
    let roots = text
        .split_inclusive(END)
        .map(str::trim)
        .filter(|root| root.ends_with(END));
    roots.map(str::to_owned).collect()
}

/// Whether the proxy shows a certificate under one of these roots to who connects to a pod's tunnel port.
fn shows_one_of(world: &World, pod: IpAddr, roots: &BTreeSet<String>) -> bool {
    let pem: Vec<&str> = roots.iter().map(String::as_str).collect();
    let bundle = TrustBundle::from_pem(pem.join("\n").as_bytes()).unwrap();
    let chain = world
        .control_plane()
        .run(|| shown(SocketAddr::new(pod, HBONE)))
        .unwrap();
    chain.is_some_and(|chain| bundle.verify(&chain, "cluster.local", SystemTime::now()).is_ok())
}

/// The certificates that are shown to who has none, leaf first.
fn shown(address: SocketAddr) -> Option<Vec<CertificateDer<'static>>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut connection = ClientConnection::new(Arc::new(config), ServerName::from(address.ip())).unwrap();
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    while connection.peer_certificates().is_none() {
        connection.complete_io(&mut stream).ok()?;
    }
    let chain = connection.peer_certificates()?;
    Some(chain.iter().map(|one| one.clone().into_owned()).collect())
}

/// Looks at what it is shown later.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 alone".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        // Whether it has the key is no question here.
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

fn system(world: &World, arguments: &[&str]) -> String {
    world.kubectl(&[&["-n", SYSTEM], arguments].concat())
}
