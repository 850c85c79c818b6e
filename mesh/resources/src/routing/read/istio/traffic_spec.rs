//! A policy of traffic, as a DestinationRule writes it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::super::super::traffic::ProxyProtocol;
use super::super::values::list;
use super::destination::PortSpec;

/// A policy. Its parts are kept as they are written, since a subset's take the place of the rule's one by one.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PolicySpec {
    pub(super) connection_pool: Option<PoolSpec>,
    pub(super) load_balancer: Option<BalancerSpec>,
    pub(super) outlier_detection: Option<OutlierSpec>,
    pub(super) tls: Option<TlsSpec>,
    pub(super) proxy_protocol: Option<ProxyProtocolSpec>,
    pub(super) tunnel: Option<Value>,
    pub(super) retry_budget: Option<BudgetSpec>,
    pub(super) port: Option<PortSpec>,
    #[serde(default, deserialize_with = "list")]
    pub(super) port_level_settings: Vec<PolicySpec>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProxyProtocolSpec {
    #[serde(default = "text")]
    pub(super) version: ProxyProtocol,
}

fn text() -> ProxyProtocol {
    ProxyProtocol::V1
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PoolSpec {
    #[serde(default)]
    pub(super) tcp: TcpSpec,
    #[serde(default)]
    pub(super) http: HttpSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TcpSpec {
    pub(super) max_connections: Option<u32>,
    pub(super) connect_timeout: Option<String>,
    pub(super) idle_timeout: Option<String>,
    pub(super) max_connection_duration: Option<String>,
    pub(super) tcp_keepalive: Option<KeepaliveSpec>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeepaliveSpec {
    pub(super) time: Option<String>,
    pub(super) interval: Option<String>,
    pub(super) probes: Option<u32>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct BudgetSpec {
    pub(super) percent: Option<f64>,
    pub(super) min_retry_concurrency: Option<u32>,
    #[serde(rename = "budgetInterval")]
    pub(super) _budget_interval: Option<Value>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct WarmupSpec {
    pub(super) duration: Option<String>,
    pub(super) minimum_percent: Option<f64>,
    pub(super) aggression: Option<f64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct HttpSpec {
    #[serde(rename = "http1MaxPendingRequests")]
    pub(super) pending: Option<u32>,
    #[serde(rename = "http2MaxRequests")]
    pub(super) requests: Option<u32>,
    pub(super) max_requests_per_connection: Option<u32>,
    pub(super) max_retries: Option<u32>,
    pub(super) idle_timeout: Option<String>,
    pub(super) h2_upgrade_policy: Option<Upgrade>,
    #[serde(default)]
    pub(super) use_client_protocol: bool,
    pub(super) max_concurrent_streams: Option<u32>,
    #[serde(rename = "http2KeepAlive")]
    pub(super) http2_keep_alive: Option<PingsSpec>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PingsSpec {
    pub(super) interval: Option<String>,
    pub(super) timeout: Option<String>,
}

#[expect(clippy::enum_variant_names, reason = "they are called so in the API")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Upgrade {
    Default,
    DoNotUpgrade,
    Upgrade,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct BalancerSpec {
    pub(super) simple: Option<Simple>,
    pub(super) consistent_hash: Option<HashSpec>,
    #[serde(rename = "localityLbSetting")]
    pub(super) locality: Option<LocalitySpec>,
    #[serde(rename = "zoneAwareLbSetting")]
    pub(super) _zones: Option<Value>,
    pub(super) warmup: Option<WarmupSpec>,
    /// As it was written before there was `warmup`.
    pub(super) warmup_duration_secs: Option<String>,
    #[serde(rename = "backendUtilization")]
    pub(super) _utilization: Option<Value>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct LocalitySpec {
    #[serde(default, deserialize_with = "list")]
    pub(super) distribute: Vec<DistributeSpec>,
    #[serde(default, deserialize_with = "list")]
    pub(super) failover: Vec<FailoverSpec>,
    #[serde(default, deserialize_with = "list")]
    pub(super) failover_priority: Vec<String>,
    pub(super) enabled: Option<bool>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DistributeSpec {
    pub(super) from: String,
    #[serde(default)]
    pub(super) to: BTreeMap<String, u32>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FailoverSpec {
    pub(super) from: String,
    pub(super) to: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Simple {
    Unspecified,
    LeastConn,
    LeastRequest,
    Random,
    RoundRobin,
    /// The table of fields says that it is not served.
    Passthrough,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct HashSpec {
    pub(super) http_header_name: Option<String>,
    pub(super) http_query_parameter_name: Option<String>,
    pub(super) http_cookie: Option<CookieSpec>,
    #[serde(default)]
    pub(super) use_source_ip: bool,
    pub(super) minimum_ring_size: Option<u64>,
    pub(super) ring_hash: Option<RingSpec>,
    pub(super) maglev: Option<MaglevSpec>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CookieSpec {
    pub(super) name: String,
    #[serde(default)]
    pub(super) path: String,
    pub(super) ttl: Option<String>,
    #[serde(default, deserialize_with = "list")]
    pub(super) attributes: Vec<AttributeSpec>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AttributeSpec {
    pub(super) name: String,
    #[serde(default)]
    pub(super) value: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RingSpec {
    pub(super) minimum_ring_size: Option<u64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct MaglevSpec {
    pub(super) table_size: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct OutlierSpec {
    #[serde(rename = "consecutive5xxErrors")]
    pub(super) errors: Option<u32>,
    pub(super) consecutive_gateway_errors: Option<u32>,
    pub(super) consecutive_local_origin_failures: Option<u32>,
    #[serde(default)]
    pub(super) split_external_local_origin_errors: bool,
    pub(super) interval: Option<String>,
    pub(super) base_ejection_time: Option<String>,
    pub(super) max_ejection_percent: Option<u32>,
    pub(super) min_health_percent: Option<u32>,
    #[serde(rename = "consecutiveErrors")]
    pub(super) _consecutive_errors: Option<Value>,
    #[serde(rename = "failurePercentageThreshold")]
    pub(super) _failure_percentage: Option<Value>,
    #[serde(rename = "outlierDetectionHttpErrorCodes")]
    pub(super) _codes: Option<Value>,
}

/// What of it the table of fields refuses is known by its name alone.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TlsSpec {
    #[serde(default)]
    pub(super) mode: TlsMode,
    pub(super) sni: Option<String>,
    #[serde(default, deserialize_with = "list")]
    pub(super) subject_alt_names: Vec<String>,
    pub(super) insecure_skip_verify: Option<bool>,
    pub(super) ca_certificates: Option<String>,
    pub(super) ca_cert_credential_name: Option<String>,
    pub(super) ca_crl: Option<String>,
    pub(super) client_certificate: Option<String>,
    pub(super) credential_name: Option<String>,
    pub(super) private_key: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum TlsMode {
    #[default]
    Disable,
    IstioMutual,
    Simple,
    Mutual,
}

impl PolicySpec {
    /// With the parts that another names. What that one says of the port takes the place of all that is said of all ports.
    pub(super) fn overlaid(&self, other: &Self, port: u16) -> Self {
        let mut merged = self.clone();
        merged.connection_pool = other.connection_pool.clone().or(merged.connection_pool);
        merged.load_balancer = other.load_balancer.clone().or(merged.load_balancer);
        merged.outlier_detection = other.outlier_detection.clone().or(merged.outlier_detection);
        merged.tls = other.tls.clone().or(merged.tls);
        merged.proxy_protocol = other.proxy_protocol.or(merged.proxy_protocol);
        merged.tunnel = other.tunnel.clone().or(merged.tunnel);
        merged.retry_budget = other.retry_budget.clone().or(merged.retry_budget);
        let of_port = |spec: &&Self| spec.port.and_then(|asked| asked.number) == Some(port);
        if let Some(here) = other.port_level_settings.iter().find(of_port) {
            merged.connection_pool = here.connection_pool.clone();
            merged.load_balancer = here.load_balancer.clone();
            merged.outlier_detection = here.outlier_detection.clone();
            merged.tls = here.tls.clone();
        }
        merged
    }
}
