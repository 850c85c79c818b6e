//! Envoy as two sidecars: what one writes to carry a TCP stream inside mutual TLS with it.
//!
//! Certificates and configuration are as close to the other modes as Envoy has it: TLS 1.3, ECDSA P-256, both ends
//! proven by a SPIFFE identity. Envoy's own defaults stand for everything else, worker threads included.

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use serde_json::{Value, json};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// Where the client application finds its sidecar, and the server's sidecar its application.
pub(super) struct Route {
    /// The client sidecar's listener, which the client dials: traffic reaches it without netfilter rules.
    pub(super) client_listener: SocketAddr,
    /// The server sidecar's listener, reached over the network inside TLS.
    pub(super) server_listener: SocketAddr,
    /// The server application.
    pub(super) application: SocketAddr,
}

/// The two configuration files.
pub(super) struct Files {
    pub(super) client: PathBuf,
    pub(super) server: PathBuf,
}

/// Makes certificates for this run and writes both sidecars' configuration into `folder`.
pub(super) fn write(folder: &Path, route: &Route) -> Result<Files> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    certificates(folder)?;
    let upstream_tls = tls(folder, "client", "UpstreamTlsContext", "server");
    let client = sidecar(
        "client",
        route.client_listener,
        None,
        route.server_listener,
        Some(upstream_tls),
    );
    let downstream_tls = tls(folder, "server", "DownstreamTlsContext", "client");
    let server = sidecar(
        "server",
        route.server_listener,
        Some(downstream_tls),
        route.application,
        None,
    );
    let files = Files {
        client: folder.join("client.json"),
        server: folder.join("server.json"),
    };
    fs::write(&files.client, serde_json::to_vec_pretty(&client)?)?;
    fs::write(&files.server, serde_json::to_vec_pretty(&server)?)?;
    Ok(files)
}

fn identity(name: &str) -> String {
    format!("spiffe://cluster.local/ns/bench/sa/{name}")
}

/// A root, and a leaf with a SPIFFE identity for each end.
fn certificates(folder: &Path) -> Result<()> {
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

/// A TLS transport for one end, which accepts only the other.
fn tls(folder: &Path, name: &str, context: &str, peer: &str) -> Value {
    let file = |name: String| json!({ "filename": folder.join(name) });
    let mut typed = json!({
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
    });
    if context == "DownstreamTlsContext" {
        typed["require_client_certificate"] = json!(true);
    }
    json!({ "name": "envoy.transport_sockets.tls", "typed_config": typed })
}

/// A TCP proxy from one listener to one address.
fn sidecar(name: &str, listen: SocketAddr, tls_in: Option<Value>, to: SocketAddr, tls_out: Option<Value>) -> Value {
    let socket = |address: SocketAddr| json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } });
    let mut chain = json!({
        "filters": [{
            "name": "envoy.filters.network.tcp_proxy",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                "stat_prefix": name,
                "cluster": "other",
            },
        }],
    });
    if let Some(tls) = tls_in {
        chain["transport_socket"] = tls;
    }
    let mut cluster = json!({
        "name": "other",
        "type": "STATIC",
        "connect_timeout": "10s",
        "circuit_breakers": { "thresholds": [{ "max_connections": 100_000, "max_pending_requests": 100_000 }] },
        "load_assignment": {
            "cluster_name": "other",
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": socket(to) } }] }],
        },
    });
    if let Some(tls) = tls_out {
        cluster["transport_socket"] = tls;
    }
    json!({
        "node": { "id": name, "cluster": "bench" },
        "static_resources": {
            "listeners": [{ "name": "in", "address": socket(listen), "filter_chains": [chain] }],
            "clusters": [cluster],
        },
    })
}
