//! From a policy of traffic as it is written to what holds.

use std::time::Duration;

use culvert_http::balance::is_table_size;

use super::super::super::locality::Preference;
use super::super::super::model::HashBy;
use super::super::super::traffic::{Balancer, Keepalive, Outlier, Pings, Pool, RetryBudget, Traffic, Warmup};
use super::super::values::{self, Bad};
use super::client_tls;
use super::locality;
use super::traffic_spec::{
    BalancerSpec, BudgetSpec, HashSpec, KeepaliveSpec, OutlierSpec, PingsSpec, PolicySpec, PoolSpec, Simple, Upgrade,
};
use super::values::{optional, positive};

/// How long the answer to a ping may take where nothing is said.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Reads it.
///
/// # Errors
/// Where a value is none that proxies take.
pub(super) fn traffic(spec: &PolicySpec) -> Result<Traffic, Bad> {
    let tls = client_tls::tls(spec.tls.as_ref()).map_err(|bad| bad.below("tls"))?;
    let is_refused = tls.is_none() || spec.tunnel.is_some();
    let (balancer, hash) = match &spec.load_balancer {
        None => Default::default(),
        Some(spec) => balancer(spec).map_err(|bad| bad.below("loadBalancer"))?,
    };
    let warmup = spec.load_balancer.as_ref().map(warmup).transpose();
    let warmup = warmup.map_err(|bad| bad.below("loadBalancer"))?.flatten();
    let budget = spec.retry_budget.as_ref().map(budget).transpose();
    let pool = spec.connection_pool.as_ref().map(pool).transpose();
    let outlier = spec.outlier_detection.as_ref().map(outlier).transpose();
    let setting = spec
        .load_balancer
        .as_ref()
        .and_then(|balancer| balancer.locality.as_ref());
    // What is wrong with it is noted, and nothing is near then.
    let near = locality::preference(setting, spec.outlier_detection.is_some());
    let near = near.unwrap_or(Some(Preference::None));
    Ok(Traffic {
        balancer,
        hash,
        pool: pool.map_err(|bad| bad.below("connectionPool"))?.unwrap_or_default(),
        outlier: outlier.map_err(|bad| bad.below("outlierDetection"))?,
        warmup,
        retry_budget: budget.map_err(|bad| bad.below("retryBudget"))?,
        near,
        is_peak_ewma: false,
        health_check: None,
        tls: tls.unwrap_or_default(),
        proxy_protocol: spec.proxy_protocol.map(|spec| spec.version),
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

fn warmup(spec: &BalancerSpec) -> Result<Option<Warmup>, Bad> {
    let old = spec.warmup_duration_secs.as_ref();
    let (duration, field) = match &spec.warmup {
        Some(warmup) => (warmup.duration.as_ref(), "warmup.duration"),
        None => (old, "warmupDurationSecs"),
    };
    let Some(window) = positive(duration, field)? else {
        return Ok(None);
    };
    let written = spec.warmup.clone().unwrap_or_default();
    let least = written.minimum_percent.unwrap_or(10.0);
    if !(0.0..=100.0).contains(&least) {
        return Err(Bad::at("warmup.minimumPercent", format!("{least} is no percentage")));
    }
    let aggression = written.aggression.unwrap_or(1.0);
    if aggression.is_nan() || aggression < 1.0 {
        return Err(Bad::at("warmup.aggression", format!("{aggression} is below 1")));
    }
    Ok(Some(Warmup {
        window,
        least,
        aggression,
    }))
}

fn budget(spec: &BudgetSpec) -> Result<RetryBudget, Bad> {
    let percent = spec.percent.unwrap_or(20.0);
    if !(0.0..=100.0).contains(&percent) {
        return Err(Bad::at("percent", format!("{percent} is no percentage")));
    }
    Ok(RetryBudget {
        percent,
        least: spec.min_retry_concurrency.unwrap_or(3),
    })
}

fn keepalive(spec: &KeepaliveSpec) -> Result<Keepalive, Bad> {
    Ok(Keepalive {
        time: positive(spec.time.as_ref(), "tcp.tcpKeepalive.time")?,
        interval: positive(spec.interval.as_ref(), "tcp.tcpKeepalive.interval")?,
        probes: spec.probes.filter(|probes| *probes > 0),
    })
}

/// None where nothing says how often.
fn pings(spec: &PingsSpec) -> Result<Option<Pings>, Bad> {
    let timeout = positive(spec.timeout.as_ref(), "http.http2KeepAlive.timeout")?;
    let interval = positive(spec.interval.as_ref(), "http.http2KeepAlive.interval")?;
    Ok(interval.map(|interval| Pings {
        interval,
        timeout: timeout.unwrap_or(PING_TIMEOUT),
    }))
}

fn pool(spec: &PoolSpec) -> Result<Pool, Bad> {
    let set = |number: Option<u32>| number.filter(|number| *number > 0);
    let bytes_idle_timeout = optional(spec.tcp.idle_timeout.as_ref(), "tcp.idleTimeout")?;
    let idle_timeout = optional(spec.http.idle_timeout.as_ref(), "http.idleTimeout")?;
    let pings = spec.http.http2_keep_alive.as_ref().map(pings).transpose()?;
    Ok(Pool {
        connections: set(spec.tcp.max_connections),
        connect_timeout: positive(spec.tcp.connect_timeout.as_ref(), "tcp.connectTimeout")?,
        pending: set(spec.http.pending),
        requests: set(spec.http.requests),
        retries: set(spec.http.max_retries),
        per_connection: set(spec.http.max_requests_per_connection),
        // As with Istio.
        idle_timeout: idle_timeout.or(bytes_idle_timeout),
        bytes_idle_timeout,
        age: positive(spec.tcp.max_connection_duration.as_ref(), "tcp.maxConnectionDuration")?,
        streams: set(spec.http.max_concurrent_streams).filter(|streams| *streams <= i32::MAX as u32),
        keepalive: spec.tcp.tcp_keepalive.as_ref().map(keepalive).transpose()?,
        pings: pings.flatten(),
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
