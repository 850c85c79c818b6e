//! What is counted: Istio's metrics of requests and connections, under its names and labels, and what a waypoint refuses.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, Instant},
};

use culvert_http::access_log::Facts;

use culvert_telemetry::{
    names::BoundedNames,
    prometheus::{
        metrics::{counter::Counter, family::Family, histogram::Histogram},
        registry::Registry,
    },
    tcp::{TcpMetrics, TcpSettings},
};

use super::{
    expiring::{Expiring, LIMIT, Labels},
    overload::Limit,
};
use crate::config::metrics::{Metric, MetricOverrides};

/// Upper ends of durations in milliseconds: Istio's.
const MILLISECONDS: [f64; 20] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1000.0,
    2500.0,
    5000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
    7_200_000.0,
];

/// Upper ends of sizes in bytes.
const BYTES: [f64; 10] = [
    100.0,
    1000.0,
    5000.0,
    10_000.0,
    50_000.0,
    100_000.0,
    500_000.0,
    1_000_000.0,
    10_000_000.0,
    100_000_000.0,
];

/// How often it is looked for series that nobody uses.
const SWEEP: Duration = Duration::from_secs(60);

/// Everything that is counted of requests.
#[derive(Clone, Debug)]
pub struct Telemetry {
    requests: Expiring<Counter>,
    durations: Expiring<Histogram>,
    request_bytes: Expiring<Histogram>,
    response_bytes: Expiring<Histogram>,
    request_messages: Expiring<Counter>,
    response_messages: Expiring<Counter>,
    pub(super) tcp: Arc<TcpMetrics>,
    refused: Family<[(&'static str, &'static str); 2], Counter>,
    overloads: Family<[(&'static str, &'static str); 1], Counter>,
    retries: Family<[(&'static str, String); 1], Counter>,
    services: BoundedNames,
    tried: Family<[(&'static str, String); 2], Counter>,
    audited: Family<[(&'static str, String); 1], Counter>,
    policies: BoundedNames,
    broken: Counter,
    lost_spans: Family<[(&'static str, &'static str); 1], Counter>,
    health_checks: Family<[(&'static str, &'static str); 1], Counter>,
    health_changes: Family<[(&'static str, &'static str); 1], Counter>,
}

fn milliseconds() -> Histogram {
    Histogram::new(MILLISECONDS)
}

fn bytes() -> Histogram {
    Histogram::new(BYTES)
}

impl Telemetry {
    /// Nothing has happened yet.
    pub fn register(registry: &mut Registry) -> Arc<Self> {
        let overflows = Counter::default();
        let counters = || Expiring::new(Counter::default, LIMIT, overflows.clone());
        let histograms = |make| Expiring::new(make, LIMIT, overflows.clone());
        let telemetry = Self {
            requests: counters(),
            durations: histograms(milliseconds),
            request_bytes: histograms(bytes),
            response_bytes: histograms(bytes),
            request_messages: counters(),
            response_messages: counters(),
            tcp: Arc::new(TcpMetrics::new(TcpSettings::default())),
            refused: Family::default(),
            overloads: Family::default(),
            retries: Family::default(),
            services: BoundedNames::default(),
            tried: Family::default(),
            audited: Family::default(),
            policies: BoundedNames::default(),
            broken: Counter::default(),
            lost_spans: Family::default(),
            health_checks: Family::default(),
            health_changes: Family::default(),
        };
        registry.register("istio_requests", "Requests", telemetry.requests.clone());
        registry.register(
            "istio_request_duration_milliseconds",
            "From a request's head to the end of its answer",
            telemetry.durations.clone(),
        );
        registry.register(
            "istio_request_bytes",
            "Bodies of requests",
            telemetry.request_bytes.clone(),
        );
        registry.register(
            "istio_response_bytes",
            "Bodies of answers",
            telemetry.response_bytes.clone(),
        );
        registry.register(
            "istio_request_messages",
            "Messages of gRPC in requests",
            telemetry.request_messages.clone(),
        );
        registry.register(
            "istio_response_messages",
            "Messages of gRPC in answers",
            telemetry.response_messages.clone(),
        );
        registry.register(
            "culvert_waypoint_series_overflows",
            "Times that a series of requests was wanted for which there was no room",
            overflows,
        );
        registry.register_collector(Box::new(Arc::clone(&telemetry.tcp)));
        registry.register(
            "culvert_waypoint_refused",
            "Tunnels and connections inside of them that were refused",
            telemetry.refused.clone(),
        );
        registry.register(
            "culvert_waypoint_overloads",
            "Tunnels, connections, requests and retries that were refused because a limit was reached, by limit",
            telemetry.overloads.clone(),
        );
        registry.register(
            "culvert_waypoint_retries",
            "Requests that were sent once more, by the service that was asked for",
            telemetry.retries.clone(),
        );
        registry.register(
            "culvert_waypoint_policy_dry_run",
            "Requests and connections that policies which are tried out would refuse, by policy; `-` where they allow others alone",
            telemetry.tried.clone(),
        );
        registry.register(
            "culvert_waypoint_policy_audited",
            "Requests and connections that a policy with the action AUDIT matches",
            telemetry.audited.clone(),
        );
        registry.register(
            "culvert_waypoint_broken_connections",
            "Clients' HTTP connections that ended by an error",
            telemetry.broken.clone(),
        );
        registry.register(
            "culvert_waypoint_lost_spans",
            "Spans that found no room in the queue, or were not taken by their receiver",
            telemetry.lost_spans.clone(),
        );
        registry.register(
            "culvert_waypoint_health_checks",
            "Active health checks of endpoints",
            telemetry.health_checks.clone(),
        );
        registry.register(
            "culvert_waypoint_health_changes",
            "Endpoints that health checks left out or took back",
            telemetry.health_changes.clone(),
        );
        telemetry.show_zeros();
        Arc::new(telemetry)
    }

    /// Shows what has not happened yet, so that its first time is an increase.
    fn show_zeros(&self) {
        for limit in Limit::ALL {
            drop(self.overloads.get_or_create(&[("limit", limit.word())]));
        }
        for place in ["queue", "receiver"] {
            drop(self.lost_spans.get_or_create(&[("place", place)]));
        }
        for result in ["good", "bad"] {
            drop(self.health_checks.get_or_create(&[("result", result)]));
        }
        for to in ["healthy", "unhealthy"] {
            drop(self.health_changes.get_or_create(&[("to", to)]));
        }
    }

    pub(crate) fn refused_tunnel(&self, reason: &'static str) {
        self.refused
            .get_or_create(&[("what", "tunnel"), ("reason", reason)])
            .inc();
    }

    pub(crate) fn refused_connection(&self, reason: &'static str) {
        self.refused
            .get_or_create(&[("what", "connection"), ("reason", reason)])
            .inc();
    }

    /// Something was refused because there was too much of this.
    pub(crate) fn overloaded(&self, limit: Limit) {
        self.overloads.get_or_create(&[("limit", limit.word())]).inc();
    }

    /// A request to a service is sent once more.
    pub(super) fn retried(&self, service: &str) {
        let labels = [("service", self.services.of(service).to_owned())];
        self.retries.get_or_create(&labels).inc();
    }

    /// Policies that are tried out would refuse something: this one denies it, or none allows it.
    pub(super) fn would_refuse(&self, policy: Option<&str>) {
        let (outcome, policy) = match policy {
            Some(policy) => ("denied", self.policies.of(policy)),
            None => ("not_allowed", "-"),
        };
        let labels = [("outcome", outcome.to_owned()), ("policy", policy.to_owned())];
        self.tried.get_or_create(&labels).inc();
    }

    /// A policy with the action AUDIT matches something.
    pub(super) fn audited(&self, policy: &str) {
        let labels = [("policy", self.policies.of(policy).to_owned())];
        self.audited.get_or_create(&labels).inc();
    }

    pub(crate) fn broken_connection(&self, _: &hyper::Error) {
        self.broken.inc();
    }

    pub(crate) fn health_check(&self, is_good: bool) {
        let result = if is_good { "good" } else { "bad" };
        self.health_checks.get_or_create(&[("result", result)]).inc();
    }

    pub(crate) fn health_change(&self, is_healthy: bool) {
        let to = if is_healthy { "healthy" } else { "unhealthy" };
        self.health_changes.get_or_create(&[("to", to)]).inc();
    }

    pub(super) fn lost_spans(&self, place: &'static str, count: u64) {
        self.lost_spans.get_or_create(&[("place", place)]).inc_by(count);
    }

    /// Drops series that nobody has used for long, now and then.
    pub(crate) async fn tend(self: Arc<Self>) {
        loop {
            tokio::time::sleep(SWEEP).await;
            self.tcp.sweep();
            let now = Instant::now();
            for series in [&self.requests, &self.request_messages, &self.response_messages] {
                series.sweep(now);
            }
            for series in [&self.durations, &self.request_bytes, &self.response_bytes] {
                series.sweep(now);
            }
        }
    }

    /// What requests with these labels are counted in. Finding it compares all labels under a lock that threads share, so it is for those
    /// who keep it. `overrides` are what is otherwise, and what is known of the request.
    pub(super) fn series(
        &self,
        labels: &Labels,
        is_grpc: bool,
        overrides: Option<(&MetricOverrides, Facts<'_>)>,
    ) -> Series {
        let of = |metric: Metric| -> Option<Cow<'_, Labels>> {
            match &overrides {
                None => Some(Cow::Borrowed(labels)),
                Some((overrides, facts)) => overrides.labels(metric, labels, facts).map(Cow::Owned),
            }
        };
        let counter = |series: &Expiring<Counter>, metric| Some(series.get(&*of(metric)?));
        let histogram = |series: &Expiring<Histogram>, metric| Some(series.get(&*of(metric)?));
        // Of requests that are not gRPC nothing is counted of messages.
        let messages = |series, metric| if is_grpc { counter(series, metric) } else { None };
        Series {
            requests: counter(&self.requests, Metric::Requests),
            durations: histogram(&self.durations, Metric::Duration),
            request_bytes: histogram(&self.request_bytes, Metric::RequestBytes),
            response_bytes: histogram(&self.response_bytes, Metric::ResponseBytes),
            request_messages: messages(&self.request_messages, Metric::RequestMessages),
            response_messages: messages(&self.response_messages, Metric::ResponseMessages),
        }
    }
}

/// What requests with the same labels are counted in; not in what is not wanted.
#[derive(Clone, Debug)]
pub(super) struct Series {
    requests: Option<Arc<Counter>>,
    durations: Option<Arc<Histogram>>,
    request_bytes: Option<Arc<Histogram>>,
    response_bytes: Option<Arc<Histogram>>,
    request_messages: Option<Arc<Counter>>,
    response_messages: Option<Arc<Counter>>,
}

impl Series {
    /// A call of gRPC is over, with so many messages in both directions.
    pub(super) fn messages(&self, received: u64, sent: u64) {
        for (counter, count) in [(&self.request_messages, received), (&self.response_messages, sent)] {
            if let Some(counter) = counter {
                counter.inc_by(count);
            }
        }
    }

    /// A request is over that took so long, with so many bytes in both directions.
    pub(super) fn request(&self, took: Duration, received: u64, sent: u64) {
        if let Some(requests) = &self.requests {
            requests.inc();
        }
        for (histogram, value) in [
            (&self.durations, took.as_secs_f64() * 1000.0),
            (&self.request_bytes, received as f64),
            (&self.response_bytes, sent as f64),
        ] {
            if let Some(histogram) = histogram {
                histogram.observe(value);
            }
        }
    }
}
