//! Of a Cluster, how connections are tried that say nothing.

use std::time::Duration;

use culvert_envoy::pb::envoy::config::{cluster::v3::UpstreamConnectionOptions, core::v3::KeepaliveSettings};

use super::{
    refusal::{Refusal, nothing_else},
    values::{duration, value},
};

/// How a connection of HTTP/2 is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pings {
    /// How often.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// How a silent connection is probed; what is not said is as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe.
    pub time: Option<Duration>,
    /// Time between probes.
    pub interval: Option<Duration>,
    /// Probes without an answer that end the connection.
    pub probes: Option<u32>,
}

/// Reads how connections of HTTP/2 are. None where they are only to be tried before they are used again.
///
/// # Errors
/// Where more is asked for.
pub(super) fn pings(mut message: KeepaliveSettings) -> Result<Option<Pings>, Refusal> {
    let place = "http2_protocol_options.connection_keepalive";
    let read = |time: Option<_>, default| {
        let time = time.map(|time| duration(place, &time)).transpose()?;
        Ok(time.filter(|time| !time.is_zero()).or(default))
    };
    let interval: Option<Duration> = read(message.interval.take(), None)?;
    let timeout: Option<Duration> = read(message.timeout.take(), interval)?;
    nothing_else(place, &message)?;
    Ok(interval
        .zip(timeout)
        .map(|(interval, timeout)| Pings { interval, timeout }))
}

/// Reads how sockets are.
///
/// # Errors
/// Where more is asked for.
pub(super) fn of_sockets(message: Option<UpstreamConnectionOptions>) -> Result<Option<Keepalive>, Refusal> {
    let mut message = message.unwrap_or_default();
    let keepalive = message.tcp_keepalive.take();
    nothing_else("upstream_connection_options", &message)?;
    let seconds = |number| value(number).map(|seconds| Duration::from_secs(seconds.into()));
    Ok(keepalive.map(|keepalive| Keepalive {
        time: seconds(keepalive.keepalive_time),
        interval: seconds(keepalive.keepalive_interval),
        probes: value(keepalive.keepalive_probes),
    }))
}
