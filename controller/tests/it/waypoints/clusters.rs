//! What holds for connections to backends, beside the recorded.

use std::collections::BTreeMap;

use culvert_controller::model::Model;
use culvert_envoy::pb::envoy::config::cluster::v3::cluster::LbConfig;
use culvert_envoy::pb::envoy::config::cluster::v3::{Cluster, OutlierDetection};
use culvert_envoy::pb::envoy::config::core::v3::{TransportSocket, transport_socket::ConfigType};
use culvert_envoy::pb::envoy::extensions::transport_sockets::internal_upstream::v3::InternalUpstreamTransport;
use culvert_envoy::pb::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;
use culvert_envoy::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use culvert_envoy::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    UpstreamProtocolOptions, explicit_http_config::ProtocolConfig,
};
use culvert_envoy::pb::google::protobuf::{Duration, UInt32Value};
use culvert_envoy::{CLUSTER_TYPE, unpack};
use culvert_xds::server::Resources as _;
use prost::Message as _;
use serde_json::{Map, Value, json};

use super::reduce::{kind, short};

/// Where ours differs: case, cluster, what of it, and why.
const DIFFERENCES: &[(&str, &str, &str, &str)] = &[
    (
        "21-load-balancers",
        "lb-c.shop:80",
        "type",
        "PASSTHROUGH for a Service is refused by its field: what is dialled is its virtual address",
    ),
    ("21-load-balancers", "lb-c.shop:80", "lbPolicy", "as its type"),
    (
        "22-pools-outliers",
        "web-v1.shop:80",
        "outlier",
        "a success rate that nobody counts is switched off whether local failures are told apart or not",
    ),
    ("22-pools-outliers", "web-v2.shop:80", "outlier", "the same"),
    (
        "31-headless",
        "db.shop:80",
        "type",
        "a headless Service has its endpoints, whichever of its addresses is dialled",
    ),
    ("31-headless", "db.shop:80", "lbPolicy", "as its type"),
    ("31-headless", "db.shop:5432", "type", "as its port for HTTP"),
    ("31-headless", "db.shop:5432", "lbPolicy", "as its port for HTTP"),
    (
        "33-virtual-service-tcp",
        "vault.shop:443",
        "connections",
        "a port of TCP has its idle time in its chain alone: here Envoy would count it for connections that nobody uses",
    ),
    (
        "33-virtual-service-tcp",
        "vault.shop:443/one",
        "connections",
        "a port of TCP has its idle time in its chain alone: here Envoy would count it for connections that nobody uses",
    ),
    (
        "33-virtual-service-tcp",
        "vault.shop:5000",
        "connections",
        "a port of TCP has its idle time in its chain alone: here Envoy would count it for connections that nobody uses",
    ),
    (
        "33-virtual-service-tcp",
        "vault.shop:5000/one",
        "connections",
        "a port of TCP has its idle time in its chain alone: here Envoy would count it for connections that nobody uses",
    ),
    (
        "33-virtual-service-tcp",
        "vault.shop:5001",
        "connections",
        "a port of TCP has its idle time in its chain alone: here Envoy would count it for connections that nobody uses",
    ),
    (
        "33-virtual-service-tcp",
        "vault.shop:5001/one",
        "connections",
        "a port of TCP has its idle time in its chain alone: here Envoy would count it for connections that nobody uses",
    ),
];

#[test]
fn connections_to_backends_are_bound_as_istio_recorded_it() {
    let base = super::json(&super::golden().join("base.json"));
    let mut wrong = Vec::new();
    let mut unused: Vec<_> = DIFFERENCES
        .iter()
        .map(|(case, cluster, part, _)| (*case, *cluster, *part))
        .collect();
    for case in super::cases() {
        let name = case.file_name().unwrap().to_str().unwrap();
        let ours = clusters(&super::modelled(&case));
        for (cluster, expected) in recorded(&base, &super::json(&case.join("expected.json"))) {
            let Some(made) = ours.get(&cluster) else {
                wrong.push(format!("{name} {cluster}: is not there"));
                continue;
            };
            let parts = made.keys().chain(expected.keys());
            let parts: std::collections::BTreeSet<&String> = parts.collect();
            for part in parts {
                if made.get(part) == expected.get(part) {
                    continue;
                }
                let at = (name, cluster.as_str(), part.as_str());
                match unused.iter().position(|known| *known == at) {
                    Some(place) => drop(unused.remove(place)),
                    None => wrong.push(format!(
                        "{name} {cluster} {part}: recorded {:?}, ours {:?}",
                        expected.get(part),
                        made.get(part)
                    )),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(unused.is_empty(), "these do not differ: {unused:?}");
}

/// The waypoint's clusters of Services and entries, by `HOST:PORT` or `HOST:PORT/SUBSET`.
fn clusters(model: &Model) -> BTreeMap<String, Map<String, Value>> {
    let all = model.snapshot().all(CLUSTER_TYPE).unwrap();
    let services = all.filter(|(name, _)| name.matches('/').count() > 2);
    let one = services.map(|(name, entry)| (short(name), reduced(&Cluster::decode(&*entry.body).unwrap())));
    one.collect()
}

fn reduced(cluster: &Cluster) -> Map<String, Value> {
    let mut found = Map::new();
    found.insert("type".to_owned(), json!(kind(cluster).as_str_name()));
    found.insert("lbPolicy".to_owned(), json!(cluster.lb_policy().as_str_name()));
    let config = match &cluster.lb_config {
        Some(LbConfig::RingHashLbConfig(ring)) => json!(ring.minimum_ring_size.unwrap().value),
        Some(LbConfig::MaglevLbConfig(maglev)) => json!(maglev.table_size.unwrap().value),
        _ => Value::Null,
    };
    found.insert("table".to_owned(), config);
    found.insert("connectTimeout".to_owned(), seconds(cluster.connect_timeout.as_ref()));
    let breakers = cluster.circuit_breakers.as_ref().unwrap();
    let thresholds = &breakers.thresholds[0];
    let bounds = [
        thresholds.max_connections,
        thresholds.max_pending_requests,
        thresholds.max_requests,
        thresholds.max_retries,
    ];
    found.insert("bounds".to_owned(), bounds.map(number).to_vec().into());
    let panic = cluster
        .common_lb_config
        .as_ref()
        .and_then(|common| common.healthy_panic_threshold);
    found.insert("panic".to_owned(), json!(panic.unwrap().value));
    let keepalive = cluster
        .upstream_connection_options
        .as_ref()
        .and_then(|options| options.tcp_keepalive);
    let keepalive = keepalive.map(|keepalive| {
        [
            keepalive.keepalive_probes,
            keepalive.keepalive_time,
            keepalive.keepalive_interval,
        ]
        .map(number)
    });
    found.insert("keepalive".to_owned(), json!(keepalive));
    found.insert(
        "outlier".to_owned(),
        cluster.outlier_detection.as_ref().map_or(Value::Null, outlier),
    );
    let options = cluster.typed_extension_protocol_options.values().next();
    let options = options.map_or_else(Default::default, |any| unpack::<HttpProtocolOptions>(any).unwrap());
    let protocol = match options.upstream_protocol_options {
        None => "http1",
        Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(_)) => "downstream",
        Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)) => match explicit.protocol_config {
            Some(ProtocolConfig::Http2ProtocolOptions(_)) => "http2",
            _ => "http1",
        },
        other => panic!("{other:?}"),
    };
    found.insert("protocol".to_owned(), protocol.into());
    found.insert("proxyProtocol".to_owned(), proxy_protocol(cluster));
    let common = options.common_http_protocol_options.unwrap_or_default();
    let connections = json!([
        seconds(common.idle_timeout.as_ref()),
        seconds(common.max_connection_duration.as_ref()),
        number(common.max_requests_per_connection),
    ]);
    found.insert("connections".to_owned(), connections);
    found
}

/// Its version, where the transport inside of the tunnel's has it.
fn proxy_protocol(cluster: &Cluster) -> Value {
    let typed = |socket: Option<TransportSocket>| {
        let config = socket.and_then(|socket| socket.config_type);
        config.map(|ConfigType::TypedConfig(config)| config)
    };
    let outer = typed(cluster.transport_socket.clone());
    let outer = outer.and_then(|outer| unpack::<InternalUpstreamTransport>(&outer).ok());
    let inner = outer.and_then(|outer| typed(outer.transport_socket));
    let inner = inner.and_then(|inner| unpack::<ProxyProtocolUpstreamTransport>(&inner).ok());
    json!(inner.map(|inner| inner.config.unwrap().version().as_str_name()))
}

fn number(value: Option<UInt32Value>) -> Value {
    json!(value.map(|value| value.value))
}

fn seconds(value: Option<&Duration>) -> Value {
    json!(value.map(|value| value.seconds as f64 + f64::from(value.nanos) / 1e9))
}

fn outlier(from: &OutlierDetection) -> Value {
    let parts = [
        ("consecutive5xx", number(from.consecutive_5xx)),
        ("interval", seconds(from.interval.as_ref())),
        ("baseEjectionTime", seconds(from.base_ejection_time.as_ref())),
        ("maxEjectionPercent", number(from.max_ejection_percent)),
        ("enforcingConsecutive5xx", number(from.enforcing_consecutive_5xx)),
        ("enforcingSuccessRate", number(from.enforcing_success_rate)),
        ("consecutiveGatewayFailure", number(from.consecutive_gateway_failure)),
        (
            "enforcingConsecutiveGatewayFailure",
            number(from.enforcing_consecutive_gateway_failure),
        ),
        (
            "splitExternalLocalOriginErrors",
            json!(from.split_external_local_origin_errors.then_some(true)),
        ),
        (
            "consecutiveLocalOriginFailure",
            number(from.consecutive_local_origin_failure),
        ),
        (
            "enforcingConsecutiveLocalOriginFailure",
            number(from.enforcing_consecutive_local_origin_failure),
        ),
        (
            "enforcingLocalOriginSuccessRate",
            number(from.enforcing_local_origin_success_rate),
        ),
    ];
    let set = parts.into_iter().filter(|(_, value)| !value.is_null());
    Value::Object(set.map(|(name, value)| (name.to_owned(), value)).collect())
}

/// The recorded ones, reduced to the same. Where a port is sniffed, HTTP's.
fn recorded(base: &Value, case: &Value) -> BTreeMap<String, Map<String, Value>> {
    let mut merged: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    let defaults = &base["defaults"]["cluster"];
    for all in [base, case] {
        for (name, cluster) in all["clusters"].as_object().into_iter().flatten() {
            // The waypoint's own, of Services and entries; others are as these, or the tunnel's.
            if name.starts_with("outbound ") || !name.contains(':') || !name.contains('.') {
                continue;
            }
            if cluster.is_null() {
                merged.remove(name);
                continue;
            }
            let entry = merged
                .entry(name.clone())
                .or_insert_with(|| defaults.as_object().unwrap().clone());
            for (field, value) in cluster.as_object().unwrap() {
                match value {
                    Value::Null => drop(entry.remove(field)),
                    value => drop(entry.insert(field.clone(), value.clone())),
                }
            }
        }
    }
    let mut found = BTreeMap::new();
    for (name, cluster) in &merged {
        let plain = name.trim_end_matches(" tcp");
        if plain == name || !merged.contains_key(plain) {
            found.insert(plain.to_owned(), recorded_one(cluster));
        }
    }
    found
}

fn recorded_one(cluster: &Map<String, Value>) -> Map<String, Value> {
    let time = |value: &Value| {
        let text = value
            .as_str()
            .map(|text| text.trim_end_matches('s').parse::<f64>().unwrap());
        json!(text)
    };
    let at = |field: &str| cluster.get(field).cloned().unwrap_or(Value::Null);
    let size = |field: &str, part: &str| at(field)[part].as_str().map(|text| text.parse::<u64>().unwrap());
    let mut found = Map::new();
    found.insert("type".to_owned(), at("type"));
    found.insert("lbPolicy".to_owned(), at("lbPolicy"));
    let table = size("ringHashLbConfig", "minimumRingSize").or(size("maglevLbConfig", "tableSize"));
    found.insert("table".to_owned(), json!(table));
    found.insert("connectTimeout".to_owned(), time(&at("connectTimeout")));
    let thresholds = &at("circuitBreakers")["thresholds"][0];
    let bounds = ["maxConnections", "maxPendingRequests", "maxRequests", "maxRetries"];
    found.insert(
        "bounds".to_owned(),
        bounds.map(|bound| thresholds[bound].clone()).to_vec().into(),
    );
    let panic = at("commonLbConfig")["healthyPanicThreshold"]["value"]
        .as_f64()
        .unwrap_or(0.0);
    found.insert("panic".to_owned(), json!(panic));
    let keepalive = at("upstreamConnectionOptions")["tcpKeepalive"].clone();
    let probes = ["keepaliveProbes", "keepaliveTime", "keepaliveInterval"];
    let keepalive = (!keepalive.is_null()).then(|| probes.map(|part| keepalive[part].clone()));
    found.insert("keepalive".to_owned(), json!(keepalive));
    let mut outlier = at("outlierDetection");
    for field in ["interval", "baseEjectionTime"] {
        if !outlier[field].is_null() {
            outlier[field] = time(&outlier[field]);
        }
    }
    found.insert("outlier".to_owned(), outlier);
    let protocol = at("protocol");
    let kind = match &protocol {
        all if !all["useDownstreamProtocolConfig"].is_null() => "downstream",
        all if !all["explicitHttpConfig"]["http2ProtocolOptions"].is_null() => "http2",
        _ => "http1",
    };
    found.insert("protocol".to_owned(), kind.into());
    let version = &at("transportSocket")["internal_upstream"]["upstream_proxy_protocol"]["config"]["version"];
    found.insert("proxyProtocol".to_owned(), version.clone());
    let common = &protocol["commonHttpProtocolOptions"];
    let connections = json!([
        time(&common["idleTimeout"]),
        time(&common["maxConnectionDuration"]),
        common["maxRequestsPerConnection"],
    ]);
    found.insert("connections".to_owned(), connections);
    found
}
