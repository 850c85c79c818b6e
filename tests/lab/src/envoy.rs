//! Envoy as a waypoint: what it must be told so that it asks the controller for all the rest.

use crate::{
    control::CONTROL_IP4,
    mesh::{CONTROLLER_NAME, Mesh},
    pod::Pod,
};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
};

/// Which form of ADS it asks in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ads {
    /// What changed.
    Delta,
    /// The state of the world.
    World,
}

impl Ads {
    /// Its `api_type`.
    fn name(self) -> &'static str {
        match self {
            Self::Delta => "DELTA_GRPC",
            Self::World => "GRPC",
        }
    }
}

/// The bootstrap of Envoy in this pod: ADS of the lab's controller, and the admin pages on loopback at port 15000.
pub(crate) fn waypoint_bootstrap(mesh: &Mesh<'_>, pod: &Pod, gateway: &str, ads_form: Ads) -> Result<Value> {
    let token = mesh.workload_token(pod)?;
    let token = fs::read_to_string(&token).with_context(|| format!("cannot read {}", token.display()))?;
    let ads = json!({ "resource_api_version": "V3", "ads": {}, "initial_fetch_timeout": "15s" });
    let tls = json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "sni": CONTROLLER_NAME,
            "common_tls_context": {
                "alpn_protocols": ["h2"],
                "tls_params": { "tls_maximum_protocol_version": "TLSv1_3" },
                "validation_context": {
                    "trusted_ca": { "filename": mesh.controller_ca() },
                    "match_typed_subject_alt_names": [{ "san_type": "DNS", "matcher": { "exact": CONTROLLER_NAME } }],
                },
            },
        },
    });
    let http2 = json!({ "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": { "http2_protocol_options": {} },
    } });
    let controller = json!({
        "name": "controller",
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": "controller",
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(CONTROL_IP4, 15012) } }] }],
        },
        "transport_socket": tls,
        "typed_extension_protocol_options": http2,
    });
    Ok(json!({
        "node": { "id": format!("waypoint~{}~{}.{}~{gateway}", pod.ip4(), pod.name(), pod.namespace()), "cluster": gateway },
        "admin": { "address": address(Ipv4Addr::LOCALHOST, 15000) },
        "bootstrap_extensions": [{ "name": "envoy.bootstrap.internal_listener", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener" } }],
        "layered_runtime": { "layers": [{ "name": "culvert", "static_layer": {
            "envoy.reloadable_features.enable_send_rst_on_user_space_socket": false,
            "re2.max_program_size.error_level": 1_000_000 } }] },
        "static_resources": { "clusters": [controller] },
        "dynamic_resources": {
            "ads_config": {
                "api_type": ads_form.name(),
                "transport_api_version": "V3",
                "grpc_services": [{
                    "envoy_grpc": { "cluster_name": "controller" },
                    "initial_metadata": [{ "key": "authorization", "value": format!("Bearer {}", token.trim()) }],
                }],
            },
            "cds_config": ads,
            "lds_config": ads,
        },
    }))
}

/// What a bootstrap says so that names are asked of this resolver alone.
pub(crate) fn ask_names_of(resolver: SocketAddr) -> Value {
    json!({
        "name": "envoy.network.dns_resolver.cares",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
            "resolvers": [{ "socket_address": { "address": resolver.ip().to_string(), "port_value": resolver.port() } }],
        },
    })
}

fn address(address: Ipv4Addr, port: u16) -> Value {
    json!({ "socket_address": { "address": address.to_string(), "port_value": port } })
}
