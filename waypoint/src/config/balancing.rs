//! From a Cluster to how it is balanced.

use culvert_envoy::{
    CULVERT,
    cluster::wants_peak_ewma,
    pb::envoy::config::{
        cluster::v3::{
            Cluster as Message,
            cluster::{
                LbConfig, LbPolicy, LeastRequestLbConfig, RingHashLbConfig, RoundRobinLbConfig, SlowStartConfig,
            },
        },
        core::v3::Metadata,
    },
    pb::google::protobuf::UInt64Value,
};
use culvert_http::balance::{Policy, SlowStart};

use super::refusal::{Refusal, compiled, nothing_else};

/// How an endpoint is chosen.
#[derive(Clone, Copy, Debug)]
pub struct Balancing {
    /// By what.
    pub policy: Policy,
    /// Whether an endpoint that takes long to answer counts as busy.
    pub is_peak_ewma: bool,
    /// How new endpoints begin.
    pub slow_start: Option<SlowStart>,
    /// Whether localities have weights.
    pub is_by_locality: bool,
}

impl Balancing {
    /// Whether the request decides by itself who serves it.
    pub fn is_by_hash(&self) -> bool {
        matches!(self.policy, Policy::RingHash { .. } | Policy::Maglev { .. })
    }
}

/// Takes what a cluster says of it out of the message.
///
/// # Errors
/// Where it is not served.
pub fn take(cluster: &mut Message) -> Result<Balancing, Refusal> {
    let policy = LbPolicy::try_from(std::mem::take(&mut cluster.lb_policy))
        .map_err(|_| Refusal::new("lb_policy", "is unknown"))?;
    let config = cluster.lb_config.take();
    let number = |message: Option<UInt64Value>, default| message.map_or(default, |message| message.value);
    let mut slow_start = None;
    let policy = match (policy, config) {
        (LbPolicy::RoundRobin, config) => {
            if let Some(LbConfig::RoundRobinLbConfig(mut config)) = config {
                slow_start = read_slow_start(config.slow_start_config.take())?;
                nothing_else::<RoundRobinLbConfig>("round_robin_lb_config", &config)?;
            }
            Policy::RoundRobin
        }
        (LbPolicy::Random, _) => Policy::Random,
        (LbPolicy::LeastRequest, Some(LbConfig::LeastRequestLbConfig(mut config))) => {
            slow_start = read_slow_start(config.slow_start_config.take())?;
            let choices = config.choice_count.take().map_or(2, |count| count.value);
            nothing_else::<LeastRequestLbConfig>("least_request_lb_config", &config)?;
            Policy::LeastRequest { choices }
        }
        (LbPolicy::LeastRequest, _) => Policy::LeastRequest { choices: 2 },
        (LbPolicy::RingHash, Some(LbConfig::RingHashLbConfig(ring))) if ring.hash_function == 0 => Policy::RingHash {
            minimum: number(ring.minimum_ring_size, 1024),
            maximum: number(ring.maximum_ring_size, 8 << 20),
        },
        (LbPolicy::RingHash, Some(LbConfig::RingHashLbConfig(RingHashLbConfig { .. }))) => {
            return Err(Refusal::new(
                "ring_hash_lb_config.hash_function",
                "only XX_HASH is served here",
            ));
        }
        (LbPolicy::RingHash, _) => Policy::RingHash {
            minimum: 1024,
            maximum: 8 << 20,
        },
        (LbPolicy::Maglev, Some(LbConfig::MaglevLbConfig(maglev))) => Policy::Maglev {
            size: number(maglev.table_size, 65_537),
        },
        (LbPolicy::Maglev, _) => Policy::Maglev { size: 65_537 },
        (other, _) => {
            return Err(Refusal::new(
                "lb_policy",
                format!("{} is not served here", other.as_str_name()),
            ));
        }
    };
    let own = cluster
        .metadata
        .as_ref()
        .and_then(|Metadata { filter_metadata, .. }| filter_metadata.get(CULVERT));
    Ok(Balancing {
        policy,
        is_peak_ewma: own.is_some_and(wants_peak_ewma) && matches!(policy, Policy::LeastRequest { .. }),
        slow_start,
        is_by_locality: false,
    })
}

fn read_slow_start(message: Option<SlowStartConfig>) -> Result<Option<SlowStart>, Refusal> {
    let read = message.map(|message| SlowStart::compile(&message).map_err(compiled("slow_start_config")));
    Ok(read.transpose()?.flatten())
}
