//! What policies for the requests and endpoints of a port ask for, in words, for people who ask what holds.

use std::time::Duration;

use super::backend_tls::{AltName, BackendTls, Trust};
use super::model::Match;
use super::policy::{
    Algorithm, Ask, Attribute, Compression, Counter, Entry, GlobalLimit, HealthCheck, LocalLimit, Timeouts,
    TrafficPolicy,
};
use super::words;

/// What begins a certificate in PEM (RFC 7468 section 5.1).
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

/// What a TrafficPolicy asks for, one thing after the other, health checks last. At a port that does not speak HTTP these alone count.
pub(crate) fn of_policy(policy: &TrafficPolicy, counter: Option<&Counter>, is_http: bool) -> Vec<String> {
    let mut words = Vec::new();
    if is_http {
        words.extend(policy.local.iter().map(of_local));
        words.extend(policy.global.iter().map(|limit| of_global(limit, counter)));
        words.extend(policy.compression.iter().map(of_compression));
        words.extend(of_times(&policy.timeouts));
        words.extend(policy.retry.after_most.map(|most| {
            format!(
                "retries: wait as long as an endpoint's retry-after says, up to {}",
                words::of_duration(most)
            )
        }));
    }
    words.extend(policy.health_check.iter().map(of_health_check));
    words
}

/// TLS with endpoints.
pub(crate) fn of_tls(tls: &BackendTls) -> String {
    let asked = tls.server_name.as_deref().unwrap_or("the Service's host");
    let trusted = match &tls.trust {
        Trust::Anybody => return format!("TLS to endpoints: asks for {asked}, believes any certificate"),
        Trust::System => "the system's authorities".to_owned(),
        Trust::Bundle(pem) => format!("{} authorities of its own", pem.matches(CERTIFICATE).count()),
    };
    let names: Vec<String> = tls.names.iter().map(of_name).collect();
    let names = match names.as_slice() {
        [] => asked.to_owned(),
        names => names.join(" or "),
    };
    format!("TLS to endpoints: asks for {asked}, demands a certificate for {names} by {trusted}")
}

fn of_name(name: &AltName) -> String {
    match name {
        AltName::Dns(text) | AltName::Uri(text) => text.clone(),
        AltName::Address(address) => address.to_string(),
    }
}

fn of_local(limit: &LocalLimit) -> String {
    let mut words = format!("{} requests in {}", limit.requests, words::of_duration(limit.per));
    if limit.burst != limit.requests {
        words += &format!(", {} at once", limit.burst);
    }
    if let Some(by) = &limit.by {
        words += &format!(", by {}", of_attribute(by));
    }
    words + &of_matched(&limit.matched)
}

fn of_attribute(attribute: &Attribute) -> String {
    match attribute {
        Attribute::Header(name) => format!("header {name}"),
        Attribute::ClientAddress => "address of the client".to_owned(),
        Attribute::ClientIdentity => "identity of the client".to_owned(),
    }
}

fn of_matched(matched: &Match) -> String {
    match words::of_match(matched).as_slice() {
        [] => String::new(),
        words => format!(", of those with {}", words.join(", ")),
    }
}

fn of_global(limit: &GlobalLimit, counter: Option<&Counter>) -> String {
    let mut words = match counter.map(|counter| (counter, &counter.backend)) {
        Some((counter, Some(backend))) => {
            let without = if counter.fails_open {
                "goes on"
            } else {
                "is answered 500"
            };
            format!(
                "limit of {}:{} ({}, domain {}), a request without its word within {} {without}",
                counter.host,
                backend.port,
                limit.provider,
                limit.domain,
                words::of_duration(counter.timeout)
            )
        }
        _ => format!(
            "limit of {}, which is not there, domain {}",
            limit.provider, limit.domain
        ),
    };
    for descriptor in &limit.descriptors {
        let entries = descriptor.entries.iter().map(|(key, entry)| match entry {
            Entry::Text(text) => format!("{key}={text}"),
            Entry::Of(attribute) => format!("{key} ({})", of_attribute(attribute)),
        });
        words += &format!(
            "; asked about {}{}",
            entries.collect::<Vec<_>>().join(" "),
            of_matched(&descriptor.matched)
        );
    }
    words
}

fn of_compression(compression: &Compression) -> String {
    let algorithms = compression.algorithms.iter().map(|algorithm| match algorithm {
        Algorithm::Brotli => "br",
        Algorithm::Gzip => "gzip",
        Algorithm::Zstd => "zstd",
    });
    format!(
        "compression by {}, from {} bytes",
        algorithms.collect::<Vec<_>>().join(", "),
        compression.minimum
    )
}

fn of_health_check(check: &HealthCheck) -> String {
    let asked = match &check.ask {
        Ask::Http { path, .. } => format!("GET {path}"),
        Ask::Grpc { service } if service.is_empty() => "gRPC health".to_owned(),
        Ask::Grpc { service } => format!("gRPC health of {service}"),
        Ask::Tcp => "a connection".to_owned(),
    };
    format!("health check: {asked} every {}", words::of_duration(check.interval))
}

fn of_times(times: &Timeouts) -> Option<String> {
    let said = [
        ("without a byte", times.stream_idle),
        ("in all", times.stream_duration),
        ("by grpc-timeout at most", times.grpc_most),
        ("for the whole request to come", times.receive),
        ("for a client's connection without a request", times.client_idle),
        ("for an endpoint's connection without a request", times.endpoint_idle),
    ];
    let said = said.into_iter().filter_map(|(what, time)| {
        let time = match time? {
            Duration::ZERO => "any time".to_owned(),
            time => words::of_duration(time),
        };
        Some(format!("{time} {what}"))
    });
    let said: Vec<String> = said.collect();
    (!said.is_empty()).then(|| format!("times: {}", said.join(", ")))
}
