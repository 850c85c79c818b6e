//! The configuration of both sidecars, in the shape of Istio's: one listener for each direction that finds out where a connection was to
//! go, a listener or a filter chain for each port of the server, and a cluster behind it.
//!
//! What Istio's filters would cost on top (metadata exchange, its statistics, fault, CORS) is left out: only the router is there.

use super::{
    rules::{INBOUND, OUTBOUND},
    tls,
};
use serde_json::{Value, json};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

/// A port of the server's application, and what is spoken there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Port {
    pub(super) number: u16,
    pub(super) protocol: Protocol,
}

/// How its bytes are carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Tcp,
    Http1,
    Http2,
}

/// Istio binds what it sends to its own pod's application to this address, so that the rules let it through.
const INBOUND_SOURCE: &str = "127.0.0.6";
/// Istio's default, shortened by what only its own filters know.
const HTTP_FORMAT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% \
    %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
    %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \
    \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% \
    %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

/// The client's sidecar: what its application sends to `server` goes there inside TLS.
pub(super) fn client(folder: &Path, server: Ipv4Addr, ports: &[Port]) -> Value {
    let mut capture = listener("virtualOutbound", (Ipv4Addr::UNSPECIFIED, OUTBOUND).into(), json!([]));
    // It hands a connection to the listener of its own destination, and has nothing for those without one.
    capture["use_original_dst"] = json!(true);
    capture["filter_chains"] = json!([{ "filters": [tcp_proxy(folder, "client", "nowhere")] }]);
    let mut listeners = vec![capture];
    let mut clusters = vec![json!({ "name": "nowhere", "type": "STATIC", "connect_timeout": "10s" })];
    for port in ports {
        let name = format!("outbound|{}", port.number);
        let chain = json!({ "filters": [filter(folder, "client", &name, *port)] });
        let mut own = listener(&name, (server, port.number).into(), json!([chain]));
        own["bind_to_port"] = json!(false);
        listeners.push(own);
        let mut cluster = cluster(&name, *port);
        cluster["type"] = json!("STATIC");
        cluster["load_assignment"] = json!({
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address((server, port.number).into()) } }] }],
        });
        cluster["transport_socket"] = tls::upstream(folder);
        clusters.push(cluster);
    }
    bootstrap("client", listeners, clusters)
}

/// The server's sidecar: what comes inside TLS for one of the ports goes to the application at the address to which it was sent.
pub(super) fn server(folder: &Path, ports: &[Port]) -> Value {
    let mut chains = Vec::new();
    let mut clusters = Vec::new();
    for port in ports {
        let name = format!("inbound|{}", port.number);
        chains.push(json!({
            "name": name,
            "filter_chain_match": { "destination_port": port.number, "transport_protocol": "tls" },
            "filters": [filter(folder, "server", &name, *port)],
            "transport_socket": tls::downstream(folder),
        }));
        let mut cluster = cluster(&name, *port);
        cluster["type"] = json!("ORIGINAL_DST");
        cluster["lb_policy"] = json!("CLUSTER_PROVIDED");
        cluster["upstream_bind_config"] = json!({ "source_address": { "address": INBOUND_SOURCE, "port_value": 0 } });
        clusters.push(cluster);
    }
    let mut capture = listener("virtualInbound", (Ipv4Addr::UNSPECIFIED, INBOUND).into(), json!(chains));
    capture["listener_filters"] = json!([
        inspector("original_dst", "original_dst.v3.OriginalDst"),
        inspector("tls_inspector", "tls_inspector.v3.TlsInspector"),
    ]);
    bootstrap("server", vec![capture], clusters)
}

fn bootstrap(name: &str, listeners: Vec<Value>, clusters: Vec<Value>) -> Value {
    json!({
        "node": { "id": name, "cluster": "bench" },
        "static_resources": { "listeners": listeners, "clusters": clusters },
    })
}

fn listener(name: &str, at: SocketAddr, chains: Value) -> Value {
    json!({ "name": name, "address": address(at), "filter_chains": chains })
}

fn address(at: SocketAddr) -> Value {
    json!({ "socket_address": { "address": at.ip().to_string(), "port_value": at.port() } })
}

fn inspector(name: &str, of: &str) -> Value {
    json!({
        "name": format!("envoy.filters.listener.{name}"),
        "typed_config": { "@type": format!("type.googleapis.com/envoy.extensions.filters.listener.{of}") },
    })
}

fn filter(folder: &Path, side: &str, cluster: &str, port: Port) -> Value {
    match port.protocol {
        Protocol::Tcp => tcp_proxy(folder, side, cluster),
        Protocol::Http1 | Protocol::Http2 => connection_manager(folder, side, cluster),
    }
}

fn tcp_proxy(folder: &Path, side: &str, cluster: &str) -> Value {
    json!({ "name": "envoy.filters.network.tcp_proxy", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": cluster,
        "cluster": cluster,
        "access_log": access_log(folder, side),
    } })
}

fn connection_manager(folder: &Path, side: &str, cluster: &str) -> Value {
    json!({ "name": "envoy.filters.network.http_connection_manager", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": cluster,
        "server_name": "istio-envoy",
        "use_remote_address": false,
        "access_log": access_log(folder, side),
        "route_config": { "name": cluster, "validate_clusters": false, "virtual_hosts": [{
            "name": cluster,
            "domains": ["*"],
            "routes": [{ "name": "default", "match": { "prefix": "/" }, "route": { "cluster": cluster, "timeout": "0s" } }],
        }] },
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
        }],
    } })
}

fn access_log(folder: &Path, side: &str) -> Value {
    json!([{ "name": "envoy.access_loggers.file", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
        "path": folder.join("log").join(format!("{side}.log")),
        "log_format": { "text_format_source": { "inline_string": HTTP_FORMAT } },
    } }])
}

fn cluster(name: &str, port: Port) -> Value {
    let unlimited = u32::MAX;
    let mut cluster = json!({
        "name": name,
        "connect_timeout": "10s",
        "circuit_breakers": { "thresholds": [{
            "max_connections": unlimited, "max_pending_requests": unlimited, "max_requests": unlimited, "max_retries": unlimited,
        }] },
    });
    let protocol = match port.protocol {
        Protocol::Tcp => return cluster,
        Protocol::Http1 => "http_protocol_options",
        Protocol::Http2 => "http2_protocol_options",
    };
    cluster["typed_extension_protocol_options"] = json!({ "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": { (protocol): {} },
    } });
    cluster
}
