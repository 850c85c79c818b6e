//! Signing certificates that people give, good and bad.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, GeneralSubtree, IsCa, KeyUsagePurpose, NameConstraints,
    PKCS_ECDSA_P384_SHA384,
};

use super::*;

struct Ca {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn root(change: impl FnOnce(&mut CertificateParams)) -> Ca {
    let key = KeyPair::generate().unwrap();
    let mut params = params("root");
    change(&mut params);
    let pem = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::from_ca_cert_pem(&pem, key).unwrap();
    Ca { pem, issuer }
}

/// An intermediate as cert-manager would put it into a Secret.
fn intermediate(root: &Ca, change: impl FnOnce(&mut CertificateParams)) -> Material {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let mut params = params("intermediate");
    change(&mut params);
    Material {
        certificate: params.signed_by(&key, &root.issuer).unwrap().pem(),
        key: key.serialize_pem(),
        roots: root.pem.clone(),
    }
}

fn check(material: Material) -> Result<Signer, Unusable> {
    Signer::new(material, "the Secret", "cluster.local")
}

#[test]
fn a_given_intermediate_signs_and_follows_its_leaves() {
    let root = root(|_| {});
    let signer = check(intermediate(&root, |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    }))
    .unwrap();
    assert_eq!(signer.chain().len(), 1);
    assert_eq!(signer.anchors().len(), 1);
    assert!(signer.ends_in(&signer.anchors()[0]));
}

#[test]
fn keys_of_all_forms_that_certificate_managers_write_are_read() {
    for (what, key) in [
        ("PKCS #1, RSA", include_str!("tests/rsa.key")),
        ("SEC 1, P-256", include_str!("tests/ec.key")),
    ] {
        let key_der = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let pair = KeyPair::try_from(&key_der).unwrap_or_else(|error| panic!("{what}: {error}"));
        let certificate = params(what).self_signed(&pair).unwrap().pem();
        let material = Material {
            certificate,
            key: key.to_owned(),
            roots: String::new(),
        };
        check(material).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
}

#[test]
fn what_nodes_would_refuse_is_refused_here_with_the_reason() {
    let ca = root(|_| {});
    let good = || intermediate(&ca, |_| {});
    check(good()).unwrap();
    let cases = [
        (
            "no certificate",
            Material {
                certificate: String::new(),
                ..good()
            },
            "PEM",
        ),
        (
            "garbage",
            Material {
                certificate: "x".into(),
                ..good()
            },
            "PEM",
        ),
        (
            "no key",
            Material {
                key: String::new(),
                ..good()
            },
            "key does not parse",
        ),
        (
            "another's key",
            Material {
                key: good().key,
                ..good()
            },
            "another certificate",
        ),
        (
            "no root",
            Material {
                roots: String::new(),
                ..good()
            },
            "ca.crt",
        ),
        (
            "a damaged root",
            Material {
                roots: "-----BEGIN CERTIFICATE-----\nAA==\n".into(),
                ..good()
            },
            "ca.crt",
        ),
        (
            "another root",
            Material {
                roots: root(|_| {}).pem,
                ..good()
            },
            "refused by every node",
        ),
        (
            "a leaf",
            intermediate(&ca, |params| params.is_ca = IsCa::NoCa),
            "may not sign",
        ),
        (
            "no keyCertSign",
            intermediate(&ca, |params| {
                params.key_usages = vec![KeyUsagePurpose::DigitalSignature]
            }),
            "may not sign",
        ),
        (
            "a root that allows no intermediate",
            intermediate(
                &root(|params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0))),
                |_| {},
            ),
            "path length",
        ),
        (
            "an extended usage that excludes clients",
            intermediate(&ca, |params| {
                params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
            }),
            "refused by every node",
        ),
    ];
    for (what, material, reason) in cases {
        match check(material) {
            Ok(_) => panic!("{what} was accepted"),
            Err(error) => assert!(error.to_string().contains(reason), "{what}: {error}"),
        }
    }
}

#[test]
fn name_constraints_decide_as_they_do_at_the_nodes() {
    let constrained = |permitted| {
        root(|params| {
            params.name_constraints = Some(NameConstraints {
                permitted_subtrees: vec![permitted],
                excluded_subtrees: vec![],
            });
        })
    };
    // Constraints on DNS names alone do not concern identities, which are URIs.
    let dns = constrained(GeneralSubtree::DnsName("cluster.local".into()));
    check(intermediate(&dns, |_| {})).unwrap();
}

#[test]
fn an_expired_certificate_is_named_as_such_when_it_should_sign() {
    let ca = root(|params| params.not_before = OffsetDateTime::now_utc() - time::Duration::days(900));
    let material = intermediate(&ca, |params| {
        params.not_before = OffsetDateTime::now_utc() - time::Duration::days(800);
        params.not_after = OffsetDateTime::now_utc() - time::Duration::days(1);
    });
    let signer = check(material).unwrap();
    let error = signer.check_clock(OffsetDateTime::now_utc()).unwrap_err();
    assert!(error.to_string().contains("the Secret is valid from"), "{error}");
}

#[test]
fn the_key_is_in_no_debug_text() {
    let material = crate::authority::make("cluster.local", OffsetDateTime::now_utc()).unwrap();
    let text = format!("{material:?}");
    assert!(text.contains("CERTIFICATE") && !text.contains("PRIVATE KEY"), "{text}");
}
