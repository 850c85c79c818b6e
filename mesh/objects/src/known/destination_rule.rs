//! The fields of DestinationRule, and what holds for each. A policy of traffic is there in four places.

use super::entry::{Field, State, field, served};
use super::routes::UNKNOWN_VALUE;

use State::{Ignored, Refused, Served};

const FORWARD_PROXY: State =
    Refused("is not served: there is no endpoint, since connections would not go through the proxy that it names");
const ZONES: State =
    Ignored("is not served: endpoints of all localities get their share, unless localityLbSetting says more");
const OUTLIER: State = Ignored("is not served: the other numbers decide who is left out");
const PASSTHROUGH: State = Ignored("is not served: the endpoint with the fewest requests under way of two is taken");
const RETRY_BUDGET: State = Ignored("is not served: the requests that are under way at a time count");
const SELECTOR: State = Ignored("is for proxies beside workloads, of which there are none: the rule is not in force");
const TLS_FILE: State = Refused(
    "names a file, and a waypoint has none of its users: in the modes SIMPLE and MUTUAL there is no endpoint, in others it means nothing",
);
const TLS_MODE: State = Refused(
    "is not served: there is no endpoint, since nobody but a workload's own proxy has a certificate for it (SIMPLE and ISTIO_MUTUAL are served)",
);
const TLS_SECRET: State = Refused(
    "names a Secret, and Culvert may read none but its own: in the modes SIMPLE and MUTUAL there is no endpoint, in others it means nothing",
);
const UNKNOWN_VERSION: State = Refused("is unknown: there is no endpoint");
const UNKNOWN_MODE: State = Refused("is unknown: there is no endpoint");
const UTILIZATION: State = Ignored("is not served: what endpoints report of themselves counts for nothing");

const BALANCERS: &[(&str, State)] = &[
    ("LEAST_CONN", Served),
    ("LEAST_REQUEST", Served),
    ("PASSTHROUGH", PASSTHROUGH),
    ("RANDOM", Served),
    ("ROUND_ROBIN", Served),
    ("UNSPECIFIED", Served),
];
const MODES: &[(&str, State)] = &[
    ("DISABLE", Served),
    ("ISTIO_MUTUAL", Served),
    ("MUTUAL", TLS_MODE),
    ("SIMPLE", Served),
];
const AUTHORITIES: &[(&str, State)] = &[("system", Served)];
const UPGRADES: &[(&str, State)] = &[("DEFAULT", Served), ("DO_NOT_UPGRADE", Served), ("UPGRADE", Served)];
const VERSIONS: &[(&str, State)] = &[("V1", Served), ("V2", Served)];

/// What a policy has, for all ports and for one.
macro_rules! of_port {
    ($at:literal) => {
        [
            served(concat!($at, ".connectionPool")),
            served(concat!($at, ".connectionPool.http")),
            Field { values: UPGRADES, other_values: Some(UNKNOWN_VALUE), ..served(concat!($at, ".connectionPool.http.h2UpgradePolicy")) },
            served(concat!($at, ".connectionPool.http.http1MaxPendingRequests")),
            served(concat!($at, ".connectionPool.http.http2KeepAlive")),
            served(concat!($at, ".connectionPool.http.http2KeepAlive.interval")),
            served(concat!($at, ".connectionPool.http.http2KeepAlive.timeout")),
            served(concat!($at, ".connectionPool.http.http2MaxRequests")),
            served(concat!($at, ".connectionPool.http.idleTimeout")),
            served(concat!($at, ".connectionPool.http.maxConcurrentStreams")),
            served(concat!($at, ".connectionPool.http.maxRequestsPerConnection")),
            served(concat!($at, ".connectionPool.http.maxRetries")),
            served(concat!($at, ".connectionPool.http.useClientProtocol")),
            served(concat!($at, ".connectionPool.tcp")),
            served(concat!($at, ".connectionPool.tcp.connectTimeout")),
            served(concat!($at, ".connectionPool.tcp.idleTimeout")),
            served(concat!($at, ".connectionPool.tcp.maxConnectionDuration")),
            served(concat!($at, ".connectionPool.tcp.maxConnections")),
            served(concat!($at, ".connectionPool.tcp.tcpKeepalive")),
            served(concat!($at, ".connectionPool.tcp.tcpKeepalive.interval")),
            served(concat!($at, ".connectionPool.tcp.tcpKeepalive.probes")),
            served(concat!($at, ".connectionPool.tcp.tcpKeepalive.time")),
            served(concat!($at, ".loadBalancer")),
            field(concat!($at, ".loadBalancer.backendUtilization"), UTILIZATION),
            field(concat!($at, ".loadBalancer.backendUtilization.errorUtilizationPenaltyPercent"), UTILIZATION),
            field(concat!($at, ".loadBalancer.backendUtilization.metricNamesForComputingUtilization"), UTILIZATION),
            field(concat!($at, ".loadBalancer.backendUtilization.weightExpirationPeriod"), UTILIZATION),
            field(concat!($at, ".loadBalancer.backendUtilization.weightStabilizationPeriod"), UTILIZATION),
            field(concat!($at, ".loadBalancer.backendUtilization.weightUpdatePeriod"), UTILIZATION),
            served(concat!($at, ".loadBalancer.consistentHash")),
            served(concat!($at, ".loadBalancer.consistentHash.httpCookie")),
            served(concat!($at, ".loadBalancer.consistentHash.httpCookie.attributes")),
            served(concat!($at, ".loadBalancer.consistentHash.httpCookie.attributes[].name")),
            served(concat!($at, ".loadBalancer.consistentHash.httpCookie.attributes[].value")),
            served(concat!($at, ".loadBalancer.consistentHash.httpCookie.name")),
            served(concat!($at, ".loadBalancer.consistentHash.httpCookie.path")),
            served(concat!($at, ".loadBalancer.consistentHash.httpCookie.ttl")),
            served(concat!($at, ".loadBalancer.consistentHash.httpHeaderName")),
            served(concat!($at, ".loadBalancer.consistentHash.httpQueryParameterName")),
            served(concat!($at, ".loadBalancer.consistentHash.maglev")),
            served(concat!($at, ".loadBalancer.consistentHash.maglev.tableSize")),
            served(concat!($at, ".loadBalancer.consistentHash.minimumRingSize")),
            served(concat!($at, ".loadBalancer.consistentHash.ringHash")),
            served(concat!($at, ".loadBalancer.consistentHash.ringHash.minimumRingSize")),
            served(concat!($at, ".loadBalancer.consistentHash.useSourceIp")),
            served(concat!($at, ".loadBalancer.localityLbSetting")),
            served(concat!($at, ".loadBalancer.localityLbSetting.distribute")),
            served(concat!($at, ".loadBalancer.localityLbSetting.distribute[].from")),
            served(concat!($at, ".loadBalancer.localityLbSetting.distribute[].to")),
            served(concat!($at, ".loadBalancer.localityLbSetting.distribute[].to.*")),
            served(concat!($at, ".loadBalancer.localityLbSetting.enabled")),
            served(concat!($at, ".loadBalancer.localityLbSetting.failover")),
            served(concat!($at, ".loadBalancer.localityLbSetting.failoverPriority")),
            served(concat!($at, ".loadBalancer.localityLbSetting.failover[].from")),
            served(concat!($at, ".loadBalancer.localityLbSetting.failover[].to")),
            Field { values: BALANCERS, other_values: Some(UNKNOWN_VALUE), ..served(concat!($at, ".loadBalancer.simple")) },
            served(concat!($at, ".loadBalancer.warmup")),
            served(concat!($at, ".loadBalancer.warmup.aggression")),
            served(concat!($at, ".loadBalancer.warmup.duration")),
            served(concat!($at, ".loadBalancer.warmup.minimumPercent")),
            served(concat!($at, ".loadBalancer.warmupDurationSecs")),
            field(concat!($at, ".loadBalancer.zoneAwareLbSetting"), ZONES),
            field(concat!($at, ".loadBalancer.zoneAwareLbSetting.enabled"), ZONES),
            field(concat!($at, ".loadBalancer.zoneAwareLbSetting.failover"), ZONES),
            field(concat!($at, ".loadBalancer.zoneAwareLbSetting.failoverPriority"), ZONES),
            field(concat!($at, ".loadBalancer.zoneAwareLbSetting.failover[].from"), ZONES),
            field(concat!($at, ".loadBalancer.zoneAwareLbSetting.failover[].to"), ZONES),
            field(concat!($at, ".loadBalancer.zoneAwareLbSetting.minClusterSize"), ZONES),
            served(concat!($at, ".outlierDetection")),
            served(concat!($at, ".outlierDetection.baseEjectionTime")),
            served(concat!($at, ".outlierDetection.consecutive5xxErrors")),
            field(concat!($at, ".outlierDetection.consecutiveErrors"), OUTLIER),
            served(concat!($at, ".outlierDetection.consecutiveGatewayErrors")),
            served(concat!($at, ".outlierDetection.consecutiveLocalOriginFailures")),
            field(concat!($at, ".outlierDetection.failurePercentageThreshold"), OUTLIER),
            served(concat!($at, ".outlierDetection.interval")),
            served(concat!($at, ".outlierDetection.maxEjectionPercent")),
            served(concat!($at, ".outlierDetection.minHealthPercent")),
            field(concat!($at, ".outlierDetection.outlierDetectionHttpErrorCodes"), OUTLIER),
            served(concat!($at, ".outlierDetection.splitExternalLocalOriginErrors")),
            served(concat!($at, ".tls")),
            field(concat!($at, ".tls.caCertCredentialName"), TLS_SECRET),
            Field { values: AUTHORITIES, other_values: Some(TLS_FILE), ..served(concat!($at, ".tls.caCertificates")) },
            field(concat!($at, ".tls.caCrl"), TLS_FILE),
            field(concat!($at, ".tls.clientCertificate"), TLS_FILE),
            field(concat!($at, ".tls.credentialName"), TLS_SECRET),
            served(concat!($at, ".tls.insecureSkipVerify")),
            Field { values: MODES, other_values: Some(UNKNOWN_MODE), ..served(concat!($at, ".tls.mode")) },
            field(concat!($at, ".tls.privateKey"), TLS_FILE),
            served(concat!($at, ".tls.sni")),
            served(concat!($at, ".tls.subjectAltNames")),
        ]
    };
}

/// What a policy has for all ports alone.
macro_rules! of_policy {
    ($at:literal) => {
        [
            served($at),
            served(concat!($at, ".proxyProtocol")),
            Field {
                values: VERSIONS,
                other_values: Some(UNKNOWN_VERSION),
                ..served(concat!($at, ".proxyProtocol.version"))
            },
            served(concat!($at, ".retryBudget")),
            field(concat!($at, ".retryBudget.budgetInterval"), RETRY_BUDGET),
            served(concat!($at, ".retryBudget.minRetryConcurrency")),
            served(concat!($at, ".retryBudget.percent")),
            field(concat!($at, ".tunnel"), FORWARD_PROXY),
            field(concat!($at, ".tunnel.protocol"), FORWARD_PROXY),
            field(concat!($at, ".tunnel.targetHost"), FORWARD_PROXY),
            field(concat!($at, ".tunnel.targetPort"), FORWARD_PROXY),
            served(concat!($at, ".portLevelSettings")),
            served(concat!($at, ".portLevelSettings[].port")),
            served(concat!($at, ".portLevelSettings[].port.number")),
        ]
    };
}

const OWN: &[Field] = &[
    served("spec"),
    served("spec.exportTo"),
    served("spec.host"),
    served("spec.subsets"),
    served("spec.subsets[].labels"),
    served("spec.subsets[].labels.*"),
    served("spec.subsets[].name"),
    field("spec.workloadSelector", SELECTOR),
    field("spec.workloadSelector.matchLabels", SELECTOR),
    field("spec.workloadSelector.matchLabels.*", SELECTOR),
];

const PARTS: &[&[Field]] = &[
    OWN,
    &of_policy!("spec.trafficPolicy"),
    &of_port!("spec.trafficPolicy"),
    &of_port!("spec.trafficPolicy.portLevelSettings[]"),
    &of_policy!("spec.subsets[].trafficPolicy"),
    &of_port!("spec.subsets[].trafficPolicy"),
    &of_port!("spec.subsets[].trafficPolicy.portLevelSettings[]"),
];

/// `networking.istio.io` DestinationRule.
pub(super) static DESTINATION_RULE: [Field; count(PARTS)] = joined(PARTS);

const fn count(parts: &[&[Field]]) -> usize {
    let (mut part, mut count) = (0, 0);
    while part < parts.len() {
        count += parts[part].len();
        part += 1;
    }
    count
}

const fn joined<const N: usize>(parts: &[&[Field]]) -> [Field; N] {
    let mut all = [served("spec"); N];
    let (mut part, mut index, mut next) = (0, 0, 0);
    while part < parts.len() {
        if index == parts[part].len() {
            part += 1;
            index = 0;
            continue;
        }
        all[next] = parts[part][index];
        next += 1;
        index += 1;
    }
    all
}
