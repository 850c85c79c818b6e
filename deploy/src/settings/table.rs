//! All settings.

use super::{Kind, Setting};

/// An hour, in milliseconds.
const HOUR: u64 = 3_600_000;
/// What the nodes' programs take as a time.
const UP_TO_AN_HOUR: Kind = Kind::Time { least: 0, most: HOUR };
/// The same where no time at all makes no sense.
const SOME_TIME: Kind = Kind::Time { least: 1, most: HOUR };
/// What the controller takes as a time: a century is the most.
const LONG_TIME: Kind = Kind::Time {
    least: 1000,
    most: 100 * 366 * 24 * HOUR,
};
/// What a map may hold.
const ENTRIES: Kind = Kind::Number {
    least: 1,
    most: u32::MAX,
};

const AGENT: &[&str] = &["agent"];
const ZTUNNEL: &[&str] = &["ztunnel"];
const CONTROLLER: &[&str] = &["controller"];
const ALL: &[&str] = &["agent", "ztunnel", "controller"];
const NOT_AGENT: &[&str] = &["ztunnel", "controller"];

/// Labels that the connection metrics can do without. `tests/tests/settings.rs` asks the program for them.
const METRIC_LABELS: &[&str] = &[
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "destination_service",
    "destination_service_namespace",
    "destination_service_name",
    "destination_workload",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_cluster",
    "request_protocol",
    "response_flags",
    "connection_security_policy",
    "source_region",
    "source_zone",
    "destination_region",
    "destination_zone",
];

/// All of them, in the order of the ConfigMap's comments.
pub const SETTINGS: &[Setting] = &[
    // Of the mesh.
    own_flag("mesh-cidr", "config.meshCidrs", ZTUNNEL, "", Kind::Ranges),
    own_flag("exclude-cidr", "config.excludeCidrs", AGENT, "", Kind::Ranges),
    own_flag("exclude-port", "config.excludePorts", AGENT, "", Kind::Ports),
    own_flag(
        "trust-domain",
        "config.trustDomain",
        NOT_AGENT,
        "cluster.local",
        Kind::TrustDomain,
    ),
    own_flag("cluster-id", "config.clusterId", NOT_AGENT, "Kubernetes", Kind::Word),
    setting(
        "cluster-domain",
        "config.clusterDomain",
        NOT_AGENT,
        "cluster.local",
        Kind::Name,
    ),
    setting(
        "root-namespace",
        "config.rootNamespace",
        CONTROLLER,
        "istio-system",
        Kind::Name,
    ),
    setting(
        "resolver",
        "config.resolvers",
        ZTUNNEL,
        "of /etc/resolv.conf",
        Kind::Resolvers,
    ),
    // How pods are captured.
    setting(
        "dns-capture",
        "config.dnsCapture",
        AGENT,
        "enabled",
        Kind::OneOf(&["enabled", "disabled"]),
    ),
    setting("connection-wait", "config.connectionWait", AGENT, "60s", UP_TO_AN_HOUR),
    setting("proxy-wait", "config.proxyWait", AGENT, "2s", UP_TO_AN_HOUR),
    setting("leave-grace", "config.leaveGrace", AGENT, "3s", UP_TO_AN_HOUR),
    setting("same-node-idle", "config.sameNodeIdle", AGENT, "10m", UP_TO_AN_HOUR),
    setting(
        "guard-hook",
        "config.guardHook",
        AGENT,
        "auto",
        Kind::OneOf(&["auto", "tcx", "clsact"]),
    ),
    setting(
        "local-legs",
        "config.localLegs",
        AGENT,
        "tcp",
        Kind::OneOf(&["tcp", "kernel", "polled"]),
    ),
    setting(
        "no-cni",
        "config.noCni",
        AGENT,
        "false",
        Kind::OneOf(&["true", "false"]),
    ),
    setting("cni-network", "config.cniNetwork", AGENT, "", Kind::Word),
    setting("map-pods", "config.mapSizes.pods", AGENT, "1024", ENTRIES),
    setting("map-addresses", "config.mapSizes.addresses", AGENT, "4096", ENTRIES),
    setting("map-flows", "config.mapSizes.flows", AGENT, "65536", ENTRIES),
    setting(
        "map-flows-per-pod",
        "config.mapSizes.flowsPerPod",
        AGENT,
        "an eighth of map-flows",
        ENTRIES,
    ),
    setting("map-exclusions", "config.mapSizes.exclusions", AGENT, "1024", ENTRIES),
    // How connections are carried.
    setting(
        "config-mode",
        "config.configMode",
        ZTUNNEL,
        "on-demand",
        Kind::OneOf(&["on-demand", "wildcard"]),
    ),
    setting("connect-timeout", "config.connectTimeout", ZTUNNEL, "10s", SOME_TIME),
    setting(
        "held-memory",
        "config.heldMemory",
        ZTUNNEL,
        "an eighth of the container's limit",
        Kind::Size,
    ),
    setting(
        "loops",
        "config.loops",
        ZTUNNEL,
        "1",
        Kind::Number { least: 1, most: 256 },
    ),
    setting("tunnel-grace", "config.tunnelGrace", ZTUNNEL, "1h", UP_TO_AN_HOUR),
    setting("tunnel-idle", "config.tunnelIdle", ZTUNNEL, "5m", SOME_TIME),
    setting(
        "tunnel-ping-interval",
        "config.tunnelPingInterval",
        ZTUNNEL,
        "10s",
        SOME_TIME,
    ),
    setting(
        "tunnel-ping-timeout",
        "config.tunnelPingTimeout",
        ZTUNNEL,
        "20s",
        SOME_TIME,
    ),
    // Certificates, tokens, streams and waypoints.
    setting("leaf-ttl", "config.leafTtl", CONTROLLER, "24h", LONG_TIME),
    setting(
        "rotation-overlap",
        "config.rotationOverlap",
        CONTROLLER,
        "5m",
        LONG_TIME,
    ),
    setting("jwks-ca", "config.jwksCa", CONTROLLER, "public roots", Kind::Path),
    setting("jwks-refresh", "config.jwksRefresh", CONTROLLER, "20m", LONG_TIME),
    setting("stream-age", "config.streamAge", CONTROLLER, "30m", LONG_TIME),
    setting(
        "envoy-image",
        "config.envoyImage",
        CONTROLLER,
        "of Docker Hub",
        Kind::Image,
    ),
    // What is told.
    setting(
        "metric-labels-drop",
        "config.metrics.dropLabels",
        ZTUNNEL,
        "",
        Kind::SomeOf(METRIC_LABELS),
    ),
    setting(
        "metric-series-limit",
        "config.metrics.seriesLimit",
        ZTUNNEL,
        "10000",
        Kind::Number {
            least: 1,
            most: 1_000_000,
        },
    ),
    setting("log", "config.log", ALL, "info", Kind::LogFilter),
    setting(
        "log-format",
        "config.logFormat",
        ALL,
        "auto",
        Kind::OneOf(&["auto", "text", "json"]),
    ),
];

const fn setting(
    key: &'static str,
    helm: &'static str,
    programs: &'static [&'static str],
    default: &'static str,
    kind: Kind,
) -> Setting {
    Setting {
        key,
        helm,
        flag: None,
        programs,
        default,
        kind,
    }
}

/// One that has a flag of its own at `culvert install`, which is called as the key is.
const fn own_flag(
    key: &'static str,
    helm: &'static str,
    programs: &'static [&'static str],
    default: &'static str,
    kind: Kind,
) -> Setting {
    Setting {
        flag: Some(key),
        ..setting(key, helm, programs, default, kind)
    }
}
