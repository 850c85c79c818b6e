//! Envoy in the place of our own proxy: its bootstrap, by which it asks the controller for the rest.

use serde_json::{Value, json};

/// Where the pod's token and the controller's roots are mounted.
const ACCESS: &str = "/var/run/secrets/culvert";
/// The plug-in by which Envoy reads its token from a file again for each stream, as the kubelet renews it.
const TOKEN_FROM_FILE: &str = "envoy.grpc_credentials.file_based_metadata";

/// Without this guard of 1.40 what Envoy has sent last is lost where it closes first, as after `connection: close`: behind an internal
/// listener the client gets a reset instead (`findings/envoy-internal-listener-close-reset.sh`).
const WHOLE_ANSWERS: &str = "envoy.reloadable_features.enable_send_rst_on_user_space_socket";

/// How large a regular expression may be when it is compiled, in RE2's instructions. By Envoy's default of 100 a configuration with
/// `[a-z.-]{1,63}` is refused as a whole; RE2's own bound of 8 MiB, which our waypoint has, too, stays.
const REGEX_SIZE: (&str, u32) = ("re2.max_program_size.error_level", 1_000_000);

/// The arguments of Envoy in a pod whose environment has `CULVERT_POD_IP`, `CULVERT_POD_NAME` and `CULVERT_NAMESPACE`, which
/// Kubernetes puts in their places. `controller` is a URL.
pub(super) fn arguments(controller: &str, gateway: &str) -> Value {
    let target = controller.trim_start_matches("https://");
    json!([
        "--config-yaml",
        bootstrap(target, gateway).to_string(),
        "--disable-hot-restart",
        "--log-level",
        "info",
        // What clients have under way may end when the pod does.
        "--drain-time-s",
        "60",
    ])
}

fn bootstrap(target: &str, gateway: &str) -> Value {
    let ads = json!({ "resource_api_version": "V3", "ads": {}, "initial_fetch_timeout": "15s" });
    json!({
        "node": {
            "id": "waypoint~$(CULVERT_POD_IP)~$(CULVERT_POD_NAME).$(CULVERT_NAMESPACE)~$(CULVERT_NAMESPACE).svc.cluster.local",
            "cluster": gateway,
        },
        "admin": { "address": address("127.0.0.1", 15000) },
        "bootstrap_extensions": [{
            "name": "envoy.bootstrap.internal_listener",
            "typed_config": { "@type": of("bootstrap.internal_listener.v3.InternalListener") },
        }],
        "layered_runtime": { "layers": [{
            "name": "culvert",
            "static_layer": { WHOLE_ANSWERS: false, REGEX_SIZE.0: REGEX_SIZE.1 },
        }] },
        "static_resources": {
            "listeners": [
                page("metrics", 15020, "/metrics", "/stats/prometheus"),
                page("readiness", 15021, "/healthz/ready", "/ready"),
            ],
            "clusters": [{
                "name": "admin",
                "type": "STATIC",
                "load_assignment": {
                    "cluster_name": "admin",
                    "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address("127.0.0.1", 15000) } }] }],
                },
            }],
        },
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{ "google_grpc": {
                    "target_uri": target,
                    "stat_prefix": "controller",
                    "channel_credentials": {
                        "ssl_credentials": { "root_certs": { "filename": format!("{ACCESS}/root-cert.pem") } },
                    },
                    "credentials_factory_name": TOKEN_FROM_FILE,
                    "call_credentials": [{ "from_plugin": {
                        "name": TOKEN_FROM_FILE,
                        "typed_config": {
                            "@type": "type.googleapis.com/envoy.config.grpc_credential.v3.FileBasedMetadataConfig",
                            "secret_data": { "filename": format!("{ACCESS}/token") },
                            "header_key": "authorization",
                            "header_prefix": "Bearer ",
                        },
                    } }],
                } }],
            },
            "cds_config": ads,
            "lds_config": ads,
        },
    })
}

/// A listener that shows one page of the admin server, and no other.
fn page(name: &str, port: u16, path: &str, of_admin: &str) -> Value {
    let manager = json!({
        "@type": of("filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": name,
        "route_config": { "virtual_hosts": [{
            "name": name,
            "domains": ["*"],
            "routes": [{
                "match": { "path": path },
                "route": { "cluster": "admin", "prefix_rewrite": of_admin },
            }],
        }] },
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": { "@type": of("filters.http.router.v3.Router") },
        }],
    });
    json!({
        "name": name,
        "address": address("0.0.0.0", port),
        "filter_chains": [{ "filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": manager,
        }] }],
    })
}

fn of(message: &str) -> String {
    format!("type.googleapis.com/envoy.extensions.{message}")
}

fn address(address: &str, port: u16) -> Value {
    json!({ "socket_address": { "address": address, "port_value": port } })
}
