//! DestinationRule: subsets of a host, and what holds for connections to it and to them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::super::super::model::HashBy;
use super::super::super::traffic::{Balancer, Outlier, Pool, Traffic};
use super::super::notes::Notes;
use super::super::values::{self, Bad, list};
use super::destination::PortSpec;
use super::values::{optional, positive};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    #[serde(rename = "host")]
    _host: Option<String>,
    traffic_policy: Option<Value>,
    #[serde(default, deserialize_with = "list")]
    subsets: Vec<SubsetSpec>,
    #[serde(rename = "exportTo")]
    _export_to: Option<Value>,
    workload_selector: Option<Value>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SubsetSpec {
    name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    traffic_policy: Option<Value>,
}

/// A policy. Its parts are kept as they are written, since a subset's take the place of the rule's one by one.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PolicySpec {
    connection_pool: Option<PoolSpec>,
    load_balancer: Option<BalancerSpec>,
    outlier_detection: Option<OutlierSpec>,
    tls: Option<TlsSpec>,
    proxy_protocol: Option<Value>,
    tunnel: Option<Value>,
    #[serde(rename = "retryBudget")]
    _retry_budget: Option<Value>,
    port: Option<PortSpec>,
    #[serde(default, deserialize_with = "list")]
    port_level_settings: Vec<PolicySpec>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct PoolSpec {
    #[serde(default)]
    tcp: TcpSpec,
    #[serde(default)]
    http: HttpSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TcpSpec {
    max_connections: Option<u32>,
    connect_timeout: Option<String>,
    #[serde(rename = "idleTimeout")]
    _idle_timeout: Option<Value>,
    #[serde(rename = "maxConnectionDuration")]
    _max_connection_duration: Option<Value>,
    #[serde(rename = "tcpKeepalive")]
    _tcp_keepalive: Option<Value>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HttpSpec {
    #[serde(rename = "http1MaxPendingRequests")]
    pending: Option<u32>,
    #[serde(rename = "http2MaxRequests")]
    requests: Option<u32>,
    max_requests_per_connection: Option<u32>,
    max_retries: Option<u32>,
    idle_timeout: Option<String>,
    h2_upgrade_policy: Option<Upgrade>,
    #[serde(default)]
    use_client_protocol: bool,
    #[serde(rename = "maxConcurrentStreams")]
    _max_concurrent_streams: Option<Value>,
    #[serde(rename = "http2KeepAlive")]
    _http2_keep_alive: Option<Value>,
}

#[expect(clippy::enum_variant_names, reason = "they are called so in the API")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Upgrade {
    Default,
    DoNotUpgrade,
    Upgrade,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct BalancerSpec {
    simple: Option<Simple>,
    consistent_hash: Option<HashSpec>,
    #[serde(rename = "localityLbSetting")]
    _locality: Option<Value>,
    #[serde(rename = "zoneAwareLbSetting")]
    _zones: Option<Value>,
    #[serde(rename = "warmup")]
    _warmup: Option<Value>,
    #[serde(rename = "warmupDurationSecs")]
    _warmup_seconds: Option<Value>,
    #[serde(rename = "backendUtilization")]
    _utilization: Option<Value>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Simple {
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
struct HashSpec {
    http_header_name: Option<String>,
    http_query_parameter_name: Option<String>,
    http_cookie: Option<CookieSpec>,
    #[serde(default)]
    use_source_ip: bool,
    minimum_ring_size: Option<u64>,
    ring_hash: Option<RingSpec>,
    maglev: Option<MaglevSpec>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CookieSpec {
    name: String,
    #[serde(default)]
    path: String,
    ttl: Option<String>,
    #[serde(default, deserialize_with = "list")]
    attributes: Vec<AttributeSpec>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AttributeSpec {
    name: String,
    #[serde(default)]
    value: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RingSpec {
    minimum_ring_size: Option<u64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MaglevSpec {
    table_size: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct OutlierSpec {
    #[serde(rename = "consecutive5xxErrors")]
    errors: Option<u32>,
    consecutive_gateway_errors: Option<u32>,
    consecutive_local_origin_failures: Option<u32>,
    #[serde(default)]
    split_external_local_origin_errors: bool,
    interval: Option<String>,
    base_ejection_time: Option<String>,
    max_ejection_percent: Option<u32>,
    min_health_percent: Option<u32>,
    #[serde(rename = "consecutiveErrors")]
    _consecutive_errors: Option<Value>,
    #[serde(rename = "failurePercentageThreshold")]
    _failure_percentage: Option<Value>,
    #[serde(rename = "outlierDetectionHttpErrorCodes")]
    _codes: Option<Value>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct TlsSpec {
    #[serde(default)]
    mode: TlsMode,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum TlsMode {
    #[default]
    Disable,
    IstioMutual,
    Simple,
    Mutual,
}

/// What a DestinationRule says.
#[derive(Clone, Debug, Default)]
pub(crate) struct DestinationPolicy {
    own: Part,
    subsets: Vec<(String, BTreeMap<String, String>, Part)>,
}

/// A policy, if it could be read.
#[derive(Clone, Debug)]
enum Part {
    Read(Box<PolicySpec>),
    /// It could not: nobody knows in which way connections should go.
    Bad,
}

impl Default for Part {
    fn default() -> Self {
        Self::Read(Box::default())
    }
}

/// Reads a DestinationRule. None where it is not in force; one that cannot be read as a whole refuses connections.
pub(crate) fn read(spec: &Value, notes: &mut Notes) -> Option<DestinationPolicy> {
    let spec: Spec = match values::read(spec) {
        Ok(spec) => spec,
        Err(bad) => {
            let bad = bad.below("spec");
            notes.refuse(bad.field, format!("{}: there is no endpoint", bad.message));
            return Some(DestinationPolicy {
                own: Part::Bad,
                subsets: Vec::new(),
            });
        }
    };
    if spec.workload_selector.is_some() {
        return None;
    }
    let own = part(spec.traffic_policy.as_ref(), "spec.trafficPolicy", notes);
    let mut subsets: Vec<(String, BTreeMap<String, String>, Part)> = Vec::new();
    for (index, subset) in spec.subsets.into_iter().enumerate() {
        let field = format!("spec.subsets[{index}]");
        let is_plain = |name: &str| {
            let byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
            !name.is_empty() && name.bytes().all(byte)
        };
        if !is_plain(&subset.name) || subsets.iter().any(|(name, ..)| *name == subset.name) {
            let message = format!("{:?} is no name, or there twice: the subset is not there", subset.name);
            notes.refuse(format!("{field}.name"), message);
            continue;
        }
        let policy = part(subset.traffic_policy.as_ref(), &format!("{field}.trafficPolicy"), notes);
        subsets.push((subset.name, subset.labels, policy));
    }
    Some(DestinationPolicy { own, subsets })
}

fn part(value: Option<&Value>, field: &str, notes: &mut Notes) -> Part {
    let Some(value) = value else { return Part::default() };
    let read = values::read::<PolicySpec>(value).and_then(|spec| {
        check(&spec)?;
        for (index, port) in spec.port_level_settings.iter().enumerate() {
            check(port).map_err(|bad| bad.below(&format!("portLevelSettings[{index}]")))?;
        }
        Ok(spec)
    });
    match read {
        Ok(spec) => Part::Read(Box::new(spec)),
        Err(bad) => {
            let bad = bad.below(field);
            notes.refuse(bad.field, format!("{}: there is no endpoint", bad.message));
            Part::Bad
        }
    }
}

/// Whether the values are such as proxies take.
fn check(spec: &PolicySpec) -> Result<(), Bad> {
    traffic(spec).map(drop)
}

impl DestinationPolicy {
    /// The subsets: their names, and the labels of their endpoints.
    pub(crate) fn subsets(&self) -> impl Iterator<Item = (&str, &BTreeMap<String, String>)> {
        self.subsets.iter().map(|(name, labels, _)| (name.as_str(), labels))
    }

    /// What holds for connections to a port, or to a subset's endpoints there.
    pub(crate) fn at_port(&self, port: u16, subset: Option<&str>) -> Traffic {
        let refused = || Traffic {
            is_refused: true,
            ..Traffic::default()
        };
        let Part::Read(own) = &self.own else { return refused() };
        let subset = subset.and_then(|asked| self.subsets.iter().find(|(name, ..)| name == asked));
        let mut merged = PolicySpec::default().overlaid(own, port);
        match subset {
            Some((_, _, Part::Bad)) => return refused(),
            Some((_, _, Part::Read(subset))) => merged = merged.overlaid(subset, port),
            None => {}
        }
        traffic(&merged).unwrap_or_else(|_| refused())
    }
}

impl PolicySpec {
    /// With the parts that another names. What that one says of the port takes the place of all that is said of all ports.
    fn overlaid(&self, other: &Self, port: u16) -> Self {
        let mut merged = self.clone();
        merged.connection_pool = other.connection_pool.clone().or(merged.connection_pool);
        merged.load_balancer = other.load_balancer.clone().or(merged.load_balancer);
        merged.outlier_detection = other.outlier_detection.clone().or(merged.outlier_detection);
        merged.tls = other.tls.clone().or(merged.tls);
        merged.proxy_protocol = other.proxy_protocol.clone().or(merged.proxy_protocol);
        merged.tunnel = other.tunnel.clone().or(merged.tunnel);
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

fn traffic(spec: &PolicySpec) -> Result<Traffic, Bad> {
    let tls = spec.tls.as_ref().map_or(TlsMode::Disable, |tls| tls.mode);
    let is_refused =
        matches!(tls, TlsMode::Simple | TlsMode::Mutual) || spec.proxy_protocol.is_some() || spec.tunnel.is_some();
    let (balancer, hash) = match &spec.load_balancer {
        None => Default::default(),
        Some(spec) => balancer(spec).map_err(|bad| bad.below("loadBalancer"))?,
    };
    let pool = spec.connection_pool.as_ref().map(pool).transpose();
    let outlier = spec.outlier_detection.as_ref().map(outlier).transpose();
    Ok(Traffic {
        balancer,
        hash,
        pool: pool.map_err(|bad| bad.below("connectionPool"))?.unwrap_or_default(),
        outlier: outlier.map_err(|bad| bad.below("outlierDetection"))?,
        is_refused,
    })
}

fn balancer(spec: &BalancerSpec) -> Result<(Balancer, Option<HashBy>), Bad> {
    let Some(hash) = &spec.consistent_hash else {
        let balancer = match spec.simple {
            None | Some(Simple::Unspecified | Simple::LeastConn | Simple::LeastRequest | Simple::Passthrough) => {
                Balancer::LeastRequest
            }
            Some(Simple::Random) => Balancer::Random,
            Some(Simple::RoundRobin) => Balancer::RoundRobin,
        };
        return Ok((balancer, None));
    };
    let by = hash_by(hash).map_err(|bad| bad.below("consistentHash"))?;
    let balancer = match (&hash.ring_hash, &hash.maglev) {
        (Some(_), Some(_)) => {
            return Err(Bad::at("consistentHash", "ringHash and maglev exclude one another"));
        }
        (None, Some(maglev)) => {
            if let Some(size) = maglev.table_size.filter(|size| !is_table_size(*size)) {
                let message = format!("{size} is no prime number up to 5000011");
                return Err(Bad::at("consistentHash.maglev.tableSize", message));
            }
            Balancer::Maglev(maglev.table_size)
        }
        (ring, None) => {
            let minimum = ring.as_ref().and_then(|ring| ring.minimum_ring_size);
            let minimum = minimum
                .or(hash.minimum_ring_size)
                .filter(|size| *size > 0)
                .unwrap_or(1024);
            if minimum > 8 << 20 {
                return Err(Bad::at(
                    "consistentHash",
                    format!("a ring of {minimum} points is too large"),
                ));
            }
            Balancer::Ring(minimum)
        }
    };
    Ok((balancer, Some(by)))
}

/// Whether proxies take a table of Maglev's of this size.
fn is_table_size(size: u64) -> bool {
    (2..=5_000_011).contains(&size) && (2..).take_while(|n| n * n <= size).all(|n| !size.is_multiple_of(n))
}

fn hash_by(spec: &HashSpec) -> Result<HashBy, Bad> {
    match (
        &spec.http_header_name,
        &spec.http_query_parameter_name,
        &spec.http_cookie,
        spec.use_source_ip,
    ) {
        (Some(name), None, None, false) => values::header_name(name)
            .map(HashBy::Header)
            .map_err(|message| Bad::at("httpHeaderName", message)),
        (None, Some(name), None, false) if !name.is_empty() => Ok(HashBy::Query(name.clone())),
        (None, None, Some(cookie), false) => {
            let is_plain = |text: &str| {
                text.bytes()
                    .all(|b| b.is_ascii_graphic() && !matches!(b, b';' | b'=' | b','))
            };
            let texts = cookie.attributes.iter().flat_map(|found| [&found.name, &found.value]);
            if cookie.name.is_empty() || !texts.chain([&cookie.name, &cookie.path]).all(|text| is_plain(text)) {
                return Err(Bad::at("httpCookie", "has no name, or what no cookie can have"));
            }
            let attributes = cookie.attributes.iter();
            Ok(HashBy::Cookie {
                name: cookie.name.clone(),
                path: cookie.path.clone(),
                ttl: optional(cookie.ttl.as_ref(), "httpCookie.ttl")?,
                attributes: attributes
                    .map(|found| (found.name.clone(), found.value.clone()))
                    .collect(),
            })
        }
        (None, None, None, true) => Ok(HashBy::SourceAddress),
        _ => Err(Bad::at(
            "",
            "it must have one of httpHeaderName, httpQueryParameterName, httpCookie and useSourceIp",
        )),
    }
}

fn pool(spec: &PoolSpec) -> Result<Pool, Bad> {
    let set = |number: Option<u32>| number.filter(|number| *number > 0);
    Ok(Pool {
        connections: set(spec.tcp.max_connections),
        connect_timeout: positive(spec.tcp.connect_timeout.as_ref(), "tcp.connectTimeout")?,
        pending: set(spec.http.pending),
        requests: set(spec.http.requests),
        retries: set(spec.http.max_retries),
        per_connection: set(spec.http.max_requests_per_connection),
        idle_timeout: optional(spec.http.idle_timeout.as_ref(), "http.idleTimeout")?,
        is_upgraded: spec.http.h2_upgrade_policy == Some(Upgrade::Upgrade),
        uses_client_protocol: spec.http.use_client_protocol,
    })
}

fn outlier(spec: &OutlierSpec) -> Result<Outlier, Bad> {
    for (field, percent) in [
        ("maxEjectionPercent", spec.max_ejection_percent),
        ("minHealthPercent", spec.min_health_percent),
    ] {
        if let Some(percent) = percent.filter(|percent| *percent > 100) {
            return Err(Bad::at(field, format!("{percent} is no percentage")));
        }
    }
    Ok(Outlier {
        errors: spec.errors,
        gateway_errors: spec.consecutive_gateway_errors,
        local_errors: spec.consecutive_local_origin_failures,
        splits_local: spec.split_external_local_origin_errors,
        interval: positive(spec.interval.as_ref(), "interval")?,
        ejection: positive(spec.base_ejection_time.as_ref(), "baseEjectionTime")?,
        most_ejected: spec.max_ejection_percent,
        least_healthy: spec.min_health_percent,
    })
}
