//! Metrics of DNS queries. Where Istio's ztunnel has the same, its name is kept.

use culvert_telemetry::prometheus::{
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};

/// Upper bounds of the histogram's buckets, in seconds: those of Istio's ztunnel, in order.
const SECONDS: [f64; 6] = [0.001, 0.005, 0.01, 0.1, 1.0, 5.0];

/// Why a forwarded query got no answer.
const FAILURES: [&str; 2] = ["refused", "timeout"];

/// Why a datagram came to nothing.
const DROPS: [&str; 9] = [
    "overflow",
    "no_query",
    "no_resolver",
    "no_socket",
    "descriptors",
    "busy",
    "stranger",
    "unmatched_reply",
    "answer",
];

/// What may become of a question about an endpoint's name.
const RESOLUTIONS: [&str; 7] = [
    "resolved",
    "no_address",
    "refused",
    "timeout",
    "no_resolver",
    "overflow",
    "malformed",
];

/// What is counted of DNS queries.
#[derive(Clone, Debug)]
pub(crate) struct DnsMetrics {
    /// Queries, by type (`request_query_type`) and transport (`request_protocol`).
    pub(crate) requests: Family<[(&'static str, &'static str); 2], Counter>,
    /// Those that the mesh answered.
    pub(crate) answers: Counter,
    /// Those about whose names the controller was asked.
    pub(crate) on_demand: Counter,
    /// Those that were sent on to pods' resolvers.
    pub(crate) forwarded: Counter,
    /// Those of them without an answer, by reason: `refused` (the client was told SERVFAIL), `timeout`.
    pub(crate) failures: Family<[(&'static str, &'static str); 1], Counter>,
    /// How long resolvers take.
    pub(crate) duration: Histogram,
    /// Those whose names the controller was not asked about, because the pod has asked about too many.
    pub(crate) unasked: Counter,
    /// Questions of the proxy's own about names of endpoints, by outcome.
    pub(crate) resolutions: Family<[(&'static str, &'static str); 1], Counter>,
    /// Datagrams that came to nothing, by reason.
    pub(crate) dropped: Family<[(&'static str, &'static str); 1], Counter>,
}

impl DnsMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            answers: Counter::default(),
            on_demand: Counter::default(),
            forwarded: Counter::default(),
            failures: Family::default(),
            duration: Histogram::new(SECONDS),
            unasked: Counter::default(),
            resolutions: Family::default(),
            dropped: Family::default(),
        };
        registry.register("istio_dns_requests", "DNS queries of pods", metrics.requests.clone());
        registry.register(
            "culvert_ztunnel_dns_answers",
            "DNS queries that were answered from the mesh",
            metrics.answers.clone(),
        );
        registry.register(
            "istio_on_demand_dns",
            "DNS queries that waited for what the controller says of their names",
            metrics.on_demand.clone(),
        );
        registry.register(
            "istio_dns_upstream_requests",
            "DNS queries that were forwarded to pods' resolvers",
            metrics.forwarded.clone(),
        );
        registry.register(
            "istio_dns_upstream_failures",
            "Forwarded DNS queries that got no answer",
            metrics.failures.clone(),
        );
        registry.register_with_unit(
            "istio_dns_upstream_request_duration",
            "Time that resolvers take to answer forwarded DNS queries",
            Unit::Seconds,
            metrics.duration.clone(),
        );
        registry.register(
            "culvert_ztunnel_dns_unasked",
            "DNS queries whose names the controller was not asked about, because their pod asks about too many",
            metrics.unasked.clone(),
        );
        registry.register(
            "culvert_ztunnel_name_resolutions",
            "Questions to pods' resolvers about endpoints that are known by their DNS names, by outcome",
            metrics.resolutions.clone(),
        );
        registry.register(
            "culvert_ztunnel_dns_dropped",
            "Datagrams on sockets for DNS that came to nothing, by reason",
            metrics.dropped.clone(),
        );
        metrics.show_zeros();
        metrics
    }

    /// Shows what has not happened yet, so that its first time is an increase.
    fn show_zeros(&self) {
        for reason in FAILURES {
            drop(self.failures.get_or_create(&[("reason", reason)]));
        }
        for reason in DROPS {
            drop(self.dropped.get_or_create(&[("reason", reason)]));
        }
        for outcome in RESOLUTIONS {
            drop(self.resolutions.get_or_create(&[("outcome", outcome)]));
        }
    }
}
