//! Certificates of both ends, and what Envoy is told of them: TLS 1.3, ECDSA P-256, both ends proven by a SPIFFE identity, as in the other
//! modes.

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use serde_json::{Value, json};
use std::{fs, path::Path};

/// A root, and a leaf with a SPIFFE identity for each end, in this folder.
pub(super) fn certificates(folder: &Path) -> Result<()> {
    let root_key = KeyPair::generate()?;
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // With the same default name as the leaves, these would look self-signed.
    root.distinguished_name.push(DnType::CommonName, "bench root");
    fs::write(folder.join("root.pem"), root.self_signed(&root_key)?.pem())?;
    let issuer = Issuer::new(root, root_key);
    for name in ["client", "server"] {
        let key = KeyPair::generate()?;
        let mut leaf = CertificateParams::default();
        leaf.subject_alt_names = vec![SanType::URI(identity(name).try_into()?)];
        fs::write(folder.join(format!("{name}.pem")), leaf.signed_by(&key, &issuer)?.pem())?;
        fs::write(folder.join(format!("{name}.key")), key.serialize_pem())?;
    }
    Ok(())
}

/// The client's side of TLS, which accepts only the server.
pub(super) fn upstream(folder: &Path) -> Value {
    transport(folder, "client", "UpstreamTlsContext", "server")
}

/// The server's side of TLS, which accepts only the client.
pub(super) fn downstream(folder: &Path) -> Value {
    let mut transport = transport(folder, "server", "DownstreamTlsContext", "client");
    transport["typed_config"]["require_client_certificate"] = json!(true);
    transport
}

fn transport(folder: &Path, name: &str, context: &str, peer: &str) -> Value {
    let file = |name: String| json!({ "filename": folder.join(name) });
    json!({ "name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": format!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{context}"),
        "common_tls_context": {
            "tls_params": { "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3" },
            "tls_certificates": [{
                "certificate_chain": file(format!("{name}.pem")),
                "private_key": file(format!("{name}.key")),
            }],
            "validation_context": {
                "trusted_ca": file("root.pem".to_owned()),
                "match_typed_subject_alt_names": [{ "san_type": "URI", "matcher": { "exact": identity(peer) } }],
            },
        },
    } })
}

fn identity(name: &str) -> String {
    format!("spiffe://cluster.local/ns/bench/sa/{name}")
}
