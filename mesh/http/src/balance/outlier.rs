//! Outlier detection: an endpoint that fails too often in a row is ejected for a while. The caller tells every result, asks
//! [`Detector::sweep`] every `interval`, and treats what is ejected as unhealthy.

use std::time::{Duration, Instant};

use culvert_envoy::pb::envoy::config::cluster::v3::OutlierDetection;
use culvert_envoy::pb::google::protobuf::UInt32Value;

use crate::error::{CompileError, take};
use crate::value::optional_duration;

/// When endpoints are ejected.
#[derive(Clone, Debug)]
pub struct Settings {
    consecutive_5xx: Option<u32>,
    consecutive_gateway: Option<u32>,
    consecutive_local: Option<u32>,
    split: bool,
    interval: Duration,
    base: Duration,
    most: Duration,
    max_ejection_percent: u32,
    always_one: bool,
}

/// How a request to an endpoint went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Result {
    /// An answer below 500.
    Success,
    /// An answer of 500 or above.
    ServerError {
        /// Whether it was 502, 503 or 504.
        gateway: bool,
    },
    /// No connection, a reset or a timeout: what this side saw, not what the endpoint said.
    Local,
}

/// What is known of one endpoint.
#[derive(Clone, Debug, Default)]
pub struct Record {
    consecutive_5xx: u32,
    consecutive_gateway: u32,
    consecutive_local: u32,
    ejected: Option<Instant>,
    /// How often it was ejected, less one for each interval without.
    times: u32,
}

/// Watches the endpoints of a cluster.
#[derive(Clone, Debug)]
pub struct Detector(Settings);

impl Settings {
    /// Reads a cluster's settings.
    ///
    /// # Errors
    /// Where one is not valid or not served: of what Envoy has, success rates and failure percentages are not.
    pub fn compile(message: &OutlierDetection) -> std::result::Result<Self, CompileError> {
        take!(message => OutlierDetection {
            consecutive_5xx, interval, base_ejection_time, max_ejection_percent, enforcing_consecutive_5xx,
            enforcing_success_rate, success_rate_minimum_hosts, success_rate_request_volume, success_rate_stdev_factor,
            consecutive_gateway_failure, enforcing_consecutive_gateway_failure, split_external_local_origin_errors,
            consecutive_local_origin_failure, enforcing_consecutive_local_origin_failure,
            enforcing_local_origin_success_rate, max_ejection_time, always_eject_one_host,
        } unserved {
            failure_percentage_threshold, enforcing_failure_percentage, enforcing_failure_percentage_local_origin,
            failure_percentage_minimum_hosts, failure_percentage_request_volume, max_ejection_time_jitter,
            successful_active_health_check_uneject_host, monitors, detect_degraded_hosts,
        });
        let _ = (
            success_rate_minimum_hosts,
            success_rate_request_volume,
            success_rate_stdev_factor,
        );
        // On by default in Envoy, where it needs five hosts with a hundred requests each an interval. Whoever wants it is told.
        for (name, rate) in [
            ("enforcing_success_rate", enforcing_success_rate),
            (
                "enforcing_local_origin_success_rate",
                enforcing_local_origin_success_rate,
            ),
        ] {
            if rate.as_ref().is_some_and(|rate| rate.value != 0) {
                return Err(CompileError::unserved(name));
            }
        }
        let count = |field: &str, number: &Option<UInt32Value>, enforcing: &Option<UInt32Value>, on: bool| {
            let number = number.as_ref().map_or(5, |number| number.value);
            match enforcing
                .as_ref()
                .map_or(if on { 100 } else { 0 }, |percent| percent.value)
            {
                0 => Ok(None),
                100 => Ok(Some(number).filter(|number| *number > 0)),
                other => Err(CompileError::invalid(
                    field,
                    format_args!("{other} percent is not served, only 0 and 100"),
                )),
            }
        };
        let base = optional_duration("base_ejection_time", base_ejection_time)?.unwrap_or(Duration::from_secs(30));
        let most = optional_duration("max_ejection_time", max_ejection_time)?.unwrap_or(Duration::from_secs(300));
        Ok(Self {
            consecutive_5xx: count(
                "enforcing_consecutive_5xx",
                consecutive_5xx,
                enforcing_consecutive_5xx,
                true,
            )?,
            consecutive_gateway: count(
                "enforcing_consecutive_gateway_failure",
                consecutive_gateway_failure,
                enforcing_consecutive_gateway_failure,
                false,
            )?,
            consecutive_local: count(
                "enforcing_consecutive_local_origin_failure",
                consecutive_local_origin_failure,
                enforcing_consecutive_local_origin_failure,
                true,
            )?,
            split: *split_external_local_origin_errors,
            interval: optional_duration("interval", interval)?.unwrap_or(Duration::from_secs(10)),
            base,
            most: most.max(base),
            max_ejection_percent: max_ejection_percent
                .as_ref()
                .map_or(10, |percent| percent.value.min(100)),
            always_one: always_eject_one_host.as_ref().is_some_and(|always| always.value),
        })
    }

    /// How often [`Detector::sweep`] is asked.
    pub fn interval(&self) -> Duration {
        self.interval
    }
}

impl Record {
    /// Whether it is ejected.
    pub fn is_ejected(&self) -> bool {
        self.ejected.is_some()
    }
}

impl Detector {
    /// A detector with these settings.
    pub fn new(settings: Settings) -> Self {
        Self(settings)
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.0
    }

    /// Counts a result. Returns whether the endpoint is ejected now. `ejected` of the cluster's `hosts` are so already.
    pub fn record(&self, record: &mut Record, result: Result, now: Instant, ejected: usize, hosts: usize) -> bool {
        let settings = &self.0;
        match result {
            Result::Success => {
                (
                    record.consecutive_5xx,
                    record.consecutive_gateway,
                    record.consecutive_local,
                ) = (0, 0, 0);
            }
            Result::ServerError { gateway } => {
                record.consecutive_5xx += 1;
                record.consecutive_gateway = if gateway { record.consecutive_gateway + 1 } else { 0 };
                record.consecutive_local = 0;
            }
            Result::Local if settings.split => record.consecutive_local += 1,
            // Not told apart, what this side saw counts as a gateway's error.
            Result::Local => {
                record.consecutive_5xx += 1;
                record.consecutive_gateway += 1;
            }
        }
        let over = |count: u32, limit: Option<u32>| limit.is_some_and(|limit| count >= limit);
        let bad = over(record.consecutive_5xx, settings.consecutive_5xx)
            || over(record.consecutive_gateway, settings.consecutive_gateway)
            || (settings.split && over(record.consecutive_local, settings.consecutive_local));
        if !bad || record.is_ejected() {
            return false;
        }
        let within = (ejected + 1) * 100 <= settings.max_ejection_percent as usize * hosts;
        let first = settings.always_one && ejected == 0;
        if !within && !first {
            return false;
        }
        (
            record.consecutive_5xx,
            record.consecutive_gateway,
            record.consecutive_local,
        ) = (0, 0, 0);
        record.ejected = Some(now);
        record.times += 1;
        true
    }

    /// Lets an endpoint back whose time is over. Returns whether it is back now. It was out for the base time, times how often it has been.
    pub fn sweep(&self, record: &mut Record, now: Instant) -> bool {
        match record.ejected {
            Some(since) => {
                let time = self.0.base.saturating_mul(record.times).min(self.0.most);
                let over = now.saturating_duration_since(since) >= time;
                if over {
                    record.ejected = None;
                }
                over
            }
            None => {
                record.times = record.times.saturating_sub(1);
                false
            }
        }
    }
}
