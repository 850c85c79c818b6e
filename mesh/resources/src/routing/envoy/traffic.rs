//! What holds for connections to a backend.

use std::time::Duration;

use culvert_envoy::CULVERT;
use culvert_envoy::cluster::peak_ewma;
use culvert_envoy::pb::envoy::config::cluster::v3::circuit_breakers::{Thresholds, thresholds::RetryBudget};
use culvert_envoy::pb::envoy::config::cluster::v3::cluster::common_lb_config::{
    LocalityConfigSpecifier, LocalityWeightedLbConfig,
};
use culvert_envoy::pb::envoy::config::cluster::v3::cluster::{
    LbConfig, LbPolicy, LeastRequestLbConfig, MaglevLbConfig, RingHashLbConfig, RoundRobinLbConfig, SlowStartConfig,
};
use culvert_envoy::pb::envoy::config::cluster::v3::{Cluster, OutlierDetection, UpstreamConnectionOptions};
use culvert_envoy::pb::envoy::config::core::v3::{HttpProtocolOptions, KeepaliveSettings, RuntimeDouble, TcpKeepalive};
use culvert_envoy::pb::envoy::r#type::v3::Percent;
use culvert_envoy::pb::google::protobuf::UInt64Value;

use super::super::locality::Preference;
use super::super::traffic::{Balancer, Outlier, Pool, Traffic, Warmup};
use super::parts;

/// Writes it into a cluster.
pub(super) fn apply(traffic: &Traffic, cluster: &mut Cluster) {
    let (policy, config) = balancer(traffic.balancer, traffic.warmup);
    cluster.lb_policy = policy.into();
    cluster.lb_config = config;
    if traffic.is_peak_ewma {
        let metadata = cluster.metadata.get_or_insert_default();
        metadata.filter_metadata.insert(CULVERT.to_owned(), peak_ewma());
    }
    let pool = &traffic.pool;
    if let Some(time) = pool.connect_timeout {
        cluster.connect_timeout = Some(parts::duration(time));
    }
    let breakers = cluster.circuit_breakers.iter_mut();
    for thresholds in breakers.flat_map(|breakers| &mut breakers.thresholds) {
        bound(pool, thresholds);
        thresholds.retry_budget = traffic.retry_budget.map(|budget| RetryBudget {
            budget_percent: Some(Percent { value: budget.percent }),
            min_retry_concurrency: parts::number(budget.least),
            ..RetryBudget::default()
        });
    }
    cluster.upstream_connection_options = pool.keepalive.map(|keepalive| {
        let seconds = |time: Option<Duration>| {
            let seconds = time.map(|time| u32::try_from(time.as_secs()).unwrap_or(u32::MAX).max(1));
            seconds.and_then(parts::number)
        };
        UpstreamConnectionOptions {
            tcp_keepalive: Some(TcpKeepalive {
                keepalive_probes: keepalive.probes.and_then(parts::number),
                keepalive_time: seconds(keepalive.time),
                keepalive_interval: seconds(keepalive.interval),
            }),
            ..UpstreamConnectionOptions::default()
        }
    });
    if matches!(traffic.near, Some(Preference::Shares(_))) {
        let common = cluster.common_lb_config.get_or_insert_default();
        common.locality_config_specifier = Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(
            LocalityWeightedLbConfig::default(),
        ));
    }
    if let Some(found) = &traffic.outlier {
        cluster.outlier_detection = Some(outlier(found));
        let threshold = found.least_healthy.and_then(|percent| {
            let common = cluster.common_lb_config.as_mut()?;
            Some((common, Percent { value: percent.into() }))
        });
        if let Some((common, percent)) = threshold {
            common.healthy_panic_threshold = Some(percent);
        }
    }
}

fn bound(pool: &Pool, thresholds: &mut Thresholds) {
    for (asked, known) in [
        (pool.connections, &mut thresholds.max_connections),
        (pool.pending, &mut thresholds.max_pending_requests),
        (pool.requests, &mut thresholds.max_requests),
        (pool.retries, &mut thresholds.max_retries),
    ] {
        if let Some(asked) = asked {
            *known = parts::number(asked);
        }
    }
}

/// What holds for each connection of HTTP; none where nothing does.
pub(super) fn connections(pool: &Pool) -> Option<HttpProtocolOptions> {
    let says_something = pool.idle_timeout.is_some() || pool.per_connection.is_some() || pool.age.is_some();
    says_something.then(|| HttpProtocolOptions {
        idle_timeout: pool.idle_timeout.map(parts::duration),
        max_connection_duration: pool.age.map(parts::duration),
        max_requests_per_connection: pool.per_connection.and_then(parts::number),
        ..HttpProtocolOptions::default()
    })
}

/// How a connection of HTTP/2 is tried.
pub(super) fn pings(pool: &Pool) -> Option<KeepaliveSettings> {
    pool.pings.map(|pings| KeepaliveSettings {
        interval: Some(parts::at_least_a_millisecond(pings.interval)),
        timeout: Some(parts::at_least_a_millisecond(pings.timeout)),
        ..KeepaliveSettings::default()
    })
}

fn balancer(balancer: Balancer, warmup: Option<Warmup>) -> (LbPolicy, Option<LbConfig>) {
    let slow_start = warmup.map(|warmup| SlowStartConfig {
        slow_start_window: Some(parts::duration(warmup.window)),
        aggression: Some(RuntimeDouble {
            default_value: warmup.aggression,
            // Envoy wants a name for it.
            runtime_key: "culvert.slow_start.aggression".to_owned(),
        }),
        min_weight_percent: Some(Percent { value: warmup.least }),
    });
    let number = |value| Some(UInt64Value { value });
    match balancer {
        Balancer::LeastRequest => {
            let config = slow_start.map(|slow_start| {
                LbConfig::LeastRequestLbConfig(LeastRequestLbConfig {
                    slow_start_config: Some(slow_start),
                    ..LeastRequestLbConfig::default()
                })
            });
            (LbPolicy::LeastRequest, config)
        }
        Balancer::RoundRobin => {
            let config = slow_start.map(|slow_start| {
                LbConfig::RoundRobinLbConfig(RoundRobinLbConfig {
                    slow_start_config: Some(slow_start),
                })
            });
            (LbPolicy::RoundRobin, config)
        }
        Balancer::Random => (LbPolicy::Random, None),
        Balancer::Ring(minimum) => {
            let config = RingHashLbConfig {
                minimum_ring_size: number(minimum),
                ..RingHashLbConfig::default()
            };
            (LbPolicy::RingHash, Some(LbConfig::RingHashLbConfig(config)))
        }
        Balancer::Maglev(size) => {
            let config = MaglevLbConfig {
                table_size: size.and_then(number),
            };
            (LbPolicy::Maglev, Some(LbConfig::MaglevLbConfig(config)))
        }
    }
}

fn outlier(outlier: &Outlier) -> OutlierDetection {
    let enforced = |count: Option<u32>| count.and_then(|count| parts::number(if count > 0 { 100 } else { 0 }));
    OutlierDetection {
        consecutive_5xx: outlier.errors.and_then(parts::number),
        enforcing_consecutive_5xx: enforced(outlier.errors),
        consecutive_gateway_failure: outlier.gateway_errors.and_then(parts::number),
        enforcing_consecutive_gateway_failure: enforced(outlier.gateway_errors),
        split_external_local_origin_errors: outlier.splits_local,
        consecutive_local_origin_failure: outlier.local_errors.and_then(parts::number),
        enforcing_consecutive_local_origin_failure: enforced(outlier.local_errors),
        enforcing_local_origin_success_rate: parts::number(0),
        enforcing_success_rate: parts::number(0),
        interval: outlier.interval.map(parts::duration),
        base_ejection_time: outlier.ejection.map(parts::duration),
        max_ejection_percent: outlier.most_ejected.and_then(parts::number),
        ..OutlierDetection::default()
    }
}
