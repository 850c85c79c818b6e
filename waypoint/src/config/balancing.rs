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
use culvert_http::balance::{Policy, SlowStart, is_table_size};

use super::refusal::{Refusal, compiled, nothing_else};

/// Points of a ring at most, as Envoy has it: 16 bytes each, in every thread.
const LARGEST_RING: u64 = 8 << 20;

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
        (LbPolicy::RingHash, Some(LbConfig::RingHashLbConfig(ring))) if ring.hash_function == 0 => {
            let minimum = number(ring.minimum_ring_size, 1024);
            let maximum = number(ring.maximum_ring_size, LARGEST_RING);
            if minimum.max(maximum) > LARGEST_RING {
                let message = format!("a ring of more than {LARGEST_RING} points is too large");
                return Err(Refusal::new("ring_hash_lb_config", message));
            }
            Policy::RingHash { minimum, maximum }
        }
        (LbPolicy::RingHash, Some(LbConfig::RingHashLbConfig(RingHashLbConfig { .. }))) => {
            return Err(Refusal::new(
                "ring_hash_lb_config.hash_function",
                "only XX_HASH is served here",
            ));
        }
        (LbPolicy::RingHash, _) => Policy::RingHash {
            minimum: 1024,
            maximum: LARGEST_RING,
        },
        (LbPolicy::Maglev, Some(LbConfig::MaglevLbConfig(maglev))) => {
            let size = number(maglev.table_size, 65_537);
            if !is_table_size(size) {
                let message = format!("{size} is no prime number up to 5000011");
                return Err(Refusal::new("maglev_lb_config.table_size", message));
            }
            Policy::Maglev { size }
        }
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

#[cfg(test)]
mod tests {
    use culvert_envoy::pb::envoy::config::cluster::v3::cluster::MaglevLbConfig;

    use super::*;

    fn size(value: u64) -> Option<UInt64Value> {
        Some(UInt64Value { value })
    }

    fn refused(policy: LbPolicy, config: LbConfig) -> Option<String> {
        let mut cluster = Message {
            lb_policy: policy.into(),
            lb_config: Some(config),
            ..Message::default()
        };
        take(&mut cluster).err().map(|refusal| refusal.to_string())
    }

    #[test]
    fn tables_that_would_never_be_full_and_rings_without_bounds_are_refused_by_name() {
        let maglev = |value: u64| {
            let config = MaglevLbConfig {
                table_size: size(value),
            };
            refused(LbPolicy::Maglev, LbConfig::MaglevLbConfig(config))
        };
        assert_eq!(maglev(65_537), None);
        for bad in [0, 1, 4, 65_536, 5_000_021, u64::MAX] {
            let refusal = maglev(bad).unwrap_or_default();
            assert!(refusal.contains("maglev_lb_config.table_size"), "{bad}: {refusal}");
        }
        let ring = |minimum: u64, maximum: u64| {
            let config = RingHashLbConfig {
                minimum_ring_size: size(minimum),
                maximum_ring_size: size(maximum),
                ..RingHashLbConfig::default()
            };
            refused(LbPolicy::RingHash, LbConfig::RingHashLbConfig(config))
        };
        assert_eq!(ring(1024, 8 << 20), None);
        for (minimum, maximum) in [(u64::MAX, 1024), (1024, u64::MAX)] {
            let refusal = ring(minimum, maximum).unwrap_or_default();
            assert!(refusal.contains("ring_hash_lb_config"), "{refusal}");
        }
    }
}
