//! Handshakes between credentials of every kind, in memory.

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};
use rustls::{ClientConnection, ServerConnection};
use time::OffsetDateTime;

use crate::{CertificateRequest, Credentials, IdentityError, SpiffeId, TrustBundle};

const HOUR: Duration = Duration::from_secs(3600);

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: String,
    bundle: TrustBundle,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let root = params.self_signed(&key).unwrap();
        Self {
            bundle: TrustBundle::from_pem(root.pem().as_bytes()).unwrap(),
            issuer: Issuer::new(params, key),
            root: root.pem(),
        }
    }

    fn sign(&self, uris: &[&str], from: OffsetDateTime, to: OffsetDateTime) -> (String, String) {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = uris
            .iter()
            .map(|uri| SanType::URI((*uri).try_into().unwrap()))
            .collect();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        (params.not_before, params.not_after) = (from, to);
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// The root with a list of revoked certificates, by their serial numbers.
    fn revoking(&self, serials: &[&str]) -> TrustBundle {
        let now = OffsetDateTime::now_utc();
        let revoked = |serial: &&str| RevokedCertParams {
            serial_number: SerialNumber::from(bytes_of(serial)),
            revocation_time: now - HOUR,
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: now - HOUR,
            next_update: now + HOUR,
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).unwrap().pem().unwrap();
        TrustBundle::from_pem((self.root.clone() + &list).as_bytes()).unwrap()
    }

    fn credentials(&self, uris: &[&str]) -> Result<Credentials, IdentityError> {
        let now = OffsetDateTime::now_utc();
        let (chain, key) = self.sign(uris, now - HOUR, now + HOUR);
        Credentials::from_pem(chain.as_bytes(), key.as_bytes(), &self.bundle)
    }
}

fn handshake(client: &Credentials, server: &Credentials, expected: &[SpiffeId]) -> Result<(), rustls::Error> {
    let name = "workload.invalid".try_into().unwrap();
    let mut client = ClientConnection::new(client.client_config(expected.into()).unwrap(), name).unwrap();
    let mut server = ServerConnection::new(server.server_config()).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets()?;
        wire.clear();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    Ok(())
}

/// A serial number as [`Credentials::serial`] shows it.
fn bytes_of(serial: &str) -> Vec<u8> {
    serial
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect()
}

fn id(text: &str) -> SpiffeId {
    SpiffeId::parse(text).unwrap()
}

const CART: &str = "spiffe://cluster.local/ns/shop/sa/cart";
const FRONT: &str = "spiffe://cluster.local/ns/shop/sa/front";

#[test]
fn a_client_accepts_the_identity_that_it_expects_and_no_other() {
    let authority = Authority::new();
    let (front, cart) = (
        authority.credentials(&[FRONT]).unwrap(),
        authority.credentials(&[CART]).unwrap(),
    );
    handshake(&front, &cart, &[id(CART)]).expect("the expected identity must be accepted");
    let error = handshake(&front, &cart, &[id(FRONT)]).expect_err("another identity must be refused");
    assert!(
        error.to_string().contains(CART),
        "the refusal must name the peer: {error}"
    );
    handshake(&front, &cart, &[]).expect_err("where nobody is expected, nobody is accepted");
}

#[test]
fn both_ends_refuse_a_chain_that_ends_in_another_root() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (front, cart) = (
        ours.credentials(&[FRONT]).unwrap(),
        theirs.credentials(&[CART]).unwrap(),
    );
    handshake(&front, &cart, &[id(CART)]).expect_err("the client must refuse a server of another root");
    handshake(&cart, &front, &[id(FRONT)]).expect_err("the server must refuse a client of another root");
}

#[test]
fn a_new_root_is_accepted_with_the_certificates_that_are_there() {
    let (old, new) = (Authority::new(), Authority::new());
    let (front, cart) = (old.credentials(&[FRONT]).unwrap(), new.credentials(&[CART]).unwrap());
    handshake(&front, &cart, &[id(CART)]).expect_err("nobody has heard of the new root");
    let both = TrustBundle::from_pem(format!("{}{}", old.root, new.root).as_bytes()).unwrap();
    let (front, cart) = (front.with_bundle(&both).unwrap(), cart.with_bundle(&both).unwrap());
    handshake(&front, &cart, &[id(CART)]).expect("both ends know both roots");
    handshake(&cart, &front, &[id(FRONT)]).expect("both ends know both roots");
    let after = front.with_bundle(&new.bundle).unwrap();
    handshake(&cart, &after, &[id(FRONT)]).expect("the other end still knows the old root");
    handshake(&after, &front, &[id(FRONT)]).expect_err("the old root is gone here");
}

#[test]
fn roots_in_an_answer_are_not_shown_to_peers() {
    let authority = Authority::new();
    let request = CertificateRequest::new(&id(CART)).unwrap();
    let csr = rcgen::CertificateSigningRequestParams::from_pem(request.csr_pem()).unwrap();
    let leaf = csr.signed_by(&authority.issuer).unwrap().pem();
    let credentials = request
        .complete(&[leaf, authority.root.clone()], &authority.bundle)
        .unwrap();
    assert_eq!(credentials.chain().len(), 1);
}

#[test]
fn a_server_refuses_a_client_of_another_trust_domain_even_under_the_same_root() {
    let authority = Authority::new();
    let stranger = authority
        .credentials(&["spiffe://elsewhere.example/ns/shop/sa/front"])
        .unwrap();
    let cart = authority.credentials(&[CART]).unwrap();
    let error = handshake(&stranger, &cart, &[id(CART)]).expect_err("another trust domain must be refused");
    assert!(
        error.to_string().contains("elsewhere.example"),
        "the refusal must name the peer: {error}"
    );
}

#[test]
fn a_client_refuses_another_trust_domain_under_its_own_root_though_it_expects_it() {
    let authority = Authority::new();
    let elsewhere = "spiffe://elsewhere.example/ns/shop/sa/cart";
    let (front, stranger) = (
        authority.credentials(&[FRONT]).unwrap(),
        authority.credentials(&[elsewhere]).unwrap(),
    );
    let error = handshake(&front, &stranger, &[id(elsewhere)]).expect_err("our roots speak for our domain alone");
    assert!(error.to_string().contains("elsewhere.example"), "{error}");
}

#[test]
fn keys_are_exchanged_in_a_way_that_outlasts_quantum_computers() {
    let authority = Authority::new();
    let (front, cart) = (
        authority.credentials(&[FRONT]).unwrap(),
        authority.credentials(&[CART]).unwrap(),
    );
    let name = "workload.invalid".try_into().unwrap();
    let mut client = ClientConnection::new(front.client_config([id(CART)].into()).unwrap(), name).unwrap();
    let mut server = ServerConnection::new(cart.server_config()).unwrap();
    let mut wire = Vec::new();
    client.write_tls(&mut wire).unwrap();
    server.read_tls(&mut wire.as_slice()).unwrap();
    server.process_new_packets().unwrap();
    let group = server.negotiated_key_exchange_group().expect("a group was agreed upon");
    assert_eq!(group.name(), rustls::NamedGroup::X25519MLKEM768);
    // And no round trip more: the server is done with the first flight.
    assert_eq!(server.handshake_kind(), Some(rustls::HandshakeKind::Full));
}

#[test]
fn both_ends_refuse_a_certificate_that_is_revoked_and_no_other() {
    let authority = Authority::new();
    let (front, cart) = (
        authority.credentials(&[FRONT]).unwrap(),
        authority.credentials(&[CART]).unwrap(),
    );
    let revoking = |of: &Credentials| authority.revoking(&[of.serial()]);
    let known = |credentials: &Credentials, bundle: &TrustBundle| credentials.with_bundle(bundle).unwrap();
    // The client looks at the server's.
    let error = handshake(&known(&front, &revoking(&cart)), &cart, &[id(CART)]).unwrap_err();
    assert!(error.to_string().contains("Revoked"), "{error}");
    // The server at the client's.
    let error = handshake(&front, &known(&cart, &revoking(&front)), &[id(CART)]).unwrap_err();
    assert!(error.to_string().contains("Revoked"), "{error}");
    // Others under the same root are as good as before, and so is what another root has signed under the same number.
    handshake(
        &known(&front, &revoking(&front)),
        &known(&cart, &revoking(&cart)),
        &[id(CART)],
    )
    .unwrap();
    let (now, domain) = (std::time::SystemTime::now(), "cluster.local");
    let bundle = revoking(&cart);
    assert!(bundle.verify(cart.chain(), domain, now).is_err());
    assert!(bundle.verify(front.chain(), domain, now).is_ok());
    assert_eq!(bundle.revocations().revoked(), 1);
    assert!(bundle.revocations().next_update().unwrap() > now);
}

#[test]
fn a_revocation_list_that_does_not_parse_is_an_error_and_none_is_none() {
    let authority = Authority::new();
    let cut = "-----BEGIN X509 CRL-----\nMIIB\n-----END X509 CRL-----\n";
    let error = TrustBundle::from_pem((authority.root.clone() + cut).as_bytes()).unwrap_err();
    assert!(matches!(error, IdentityError::Revocation(_)), "{error}");
    assert!(authority.bundle.revocations().is_empty());
}

#[test]
fn the_end_of_a_peers_certificate_is_read() {
    let authority = Authority::new();
    let cart = authority.credentials(&[CART]).unwrap();
    assert_eq!(crate::peer_expiry(&cart.chain()[0]).unwrap(), cart.not_after());
}

#[test]
fn a_certificate_with_no_uri_or_two_proves_nothing() {
    let authority = Authority::new();
    assert!(matches!(authority.credentials(&[]), Err(IdentityError::Uris(0))));
    assert!(matches!(
        authority.credentials(&[CART, FRONT]),
        Err(IdentityError::Uris(2))
    ));
    assert!(matches!(
        authority.credentials(&["https://cart.example/"]),
        Err(IdentityError::Spiffe(_))
    ));
}

#[test]
fn a_wrong_clock_is_named_as_such() {
    let authority = Authority::new();
    let now = OffsetDateTime::now_utc();
    let read = |(chain, key): (String, String)| {
        Credentials::from_pem(chain.as_bytes(), key.as_bytes(), &authority.bundle).unwrap_err()
    };
    let late = read(authority.sign(&[CART], now - 2 * HOUR, now - HOUR));
    assert!(matches!(late, IdentityError::Expired { .. }), "{late}");
    let early = read(authority.sign(&[CART], now + HOUR, now + 2 * HOUR));
    assert!(matches!(early, IdentityError::NotYetValid { .. }), "{early}");
}

#[test]
fn a_request_is_completed_only_by_a_certificate_for_its_own_key_and_identity() {
    let authority = Authority::new();
    let now = OffsetDateTime::now_utc();
    let request = CertificateRequest::new(&id(CART)).unwrap();
    let csr = rcgen::CertificateSigningRequestParams::from_pem(request.csr_pem()).unwrap();
    let chain = csr.signed_by(&authority.issuer).unwrap().pem();
    let credentials = request.complete(&[chain], &authority.bundle).unwrap();
    assert_eq!(credentials.identity().as_str(), CART);

    let (other_key, _) = authority.sign(&[CART], now - HOUR, now + HOUR);
    let error = CertificateRequest::new(&id(CART))
        .unwrap()
        .complete(&[other_key], &authority.bundle)
        .unwrap_err();
    assert!(matches!(error, IdentityError::Key(_)), "{error}");

    let garbage = CertificateRequest::new(&id(CART))
        .unwrap()
        .complete(&["no PEM".into()], &authority.bundle);
    assert!(matches!(garbage, Err(IdentityError::Pem { .. })));
}

#[test]
fn renewal_comes_at_half_life() {
    let credentials = Authority::new().credentials(&[CART]).unwrap();
    let half = (credentials
        .not_after()
        .duration_since(credentials.not_before())
        .unwrap())
        / 2;
    assert_eq!(credentials.renew_at(), credentials.not_before() + half);
}

#[test]
fn identities_of_other_forms_are_refused() {
    for text in [
        "",
        "spiffe://",
        "spiffe:///ns/a/sa/b",
        "spiffe://td/ns/a/sa/",
        "spiffe://td/ns//sa/b",
        "spiffe://td/ns/a/sa/b/c",
        "spiffe://td/ns/a",
        "spiffe://TD/ns/a/sa/b",
        "spiffe://td/ns/a/sa/b?x",
        "spiffe://td/ns/a b/sa/c",
        "https://td/ns/a/sa/b",
        "spiffe://td:1/ns/a/sa/b",
        "spiffe://td/sa/a/ns/b",
    ] {
        assert!(SpiffeId::parse(text).is_err(), "{text:?} must be refused");
    }
    assert!(
        SpiffeId::parse(&format!("spiffe://td/ns/{}/sa/b", "a".repeat(3000))).is_err(),
        "overlong must be refused"
    );
}

proptest! {
    #[test]
    fn an_identity_survives_its_text(td in "[a-z0-9._-]{1,60}", ns in "[a-z0-9.-]{1,63}", sa in "[a-z0-9.-]{1,63}") {
        let one = SpiffeId::new(&td, &ns, &sa).unwrap();
        prop_assert_eq!((one.trust_domain(), one.namespace(), one.service_account()), (&*td, &*ns, &*sa));
        prop_assert_eq!(&SpiffeId::parse(one.as_str()).unwrap(), &one);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,200}") {
        let _ = SpiffeId::parse(&text);
    }

    #[test]
    fn no_bytes_make_the_certificate_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = crate::peer_identity(&bytes.into());
    }
}

#[test]
fn credentials_never_print_their_key() {
    let text = format!("{:?}", Arc::new(Authority::new().credentials(&[CART]).unwrap()));
    assert!(!text.contains("key"), "{text}");
}
