//! Faults on purpose: the filter `envoy.filters.http.fault`.

use std::time::Duration;

use culvert_envoy::pb::envoy::extensions::filters::common::fault::v3::{FaultDelay, fault_delay::FaultDelaySecifier};
use culvert_envoy::pb::envoy::extensions::filters::http::fault::v3::{FaultAbort, HttpFault, fault_abort::ErrorType};
use http::StatusCode;
use http::request::Parts;

use crate::error::{CompileError, Within as _, take};
use crate::matching::header::Header;
use crate::value::{Fraction, duration};

/// What is done to which requests.
#[derive(Debug)]
pub struct Fault {
    delay: Option<(Fraction, Delay)>,
    abort: Option<(Fraction, How)>,
    cluster: Option<String>,
    headers: Vec<Header>,
}

#[derive(Debug)]
enum Delay {
    Fixed(Duration),
    Header,
}

#[derive(Debug)]
enum How {
    Fixed(Abort),
    Header,
}

/// An answer in place of upstream's, with the text `fault filter abort` and the flag `FI`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abort {
    /// With this status.
    Http(StatusCode),
    /// With this gRPC status. What is not gRPC gets 200 with the text.
    Grpc(u32),
}

/// What is done to one request: first the delay, then the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Injected {
    /// How long it waits, flag `DI`. The route's timeout does not run meanwhile.
    pub delay: Option<Duration>,
    /// How it is answered.
    pub abort: Option<Abort>,
}

impl Fault {
    /// Reads the filter's configuration, or a route's.
    ///
    /// # Errors
    /// Where it is not valid, or has something set that is not served.
    pub fn compile(message: &HttpFault) -> Result<Self, CompileError> {
        take!(message => HttpFault { delay, abort, upstream_cluster, headers, disable_downstream_cluster_stats } unserved {
            downstream_nodes, max_active_faults, response_rate_limit, delay_percent_runtime, abort_percent_runtime,
            delay_duration_runtime, abort_http_status_runtime, max_active_faults_runtime, response_rate_limit_percent_runtime,
            abort_grpc_status_runtime, filter_metadata,
        });
        // There are no statistics by downstream cluster.
        let _ = disable_downstream_cluster_stats;
        Ok(Self {
            delay: delay
                .as_ref()
                .map(compile_delay)
                .transpose()
                .within(|| "delay".into())?,
            abort: abort
                .as_ref()
                .map(compile_abort)
                .transpose()
                .within(|| "abort".into())?,
            cluster: Some(upstream_cluster.clone()).filter(|cluster| !cluster.is_empty()),
            headers: Header::compile_all(headers)?,
        })
    }

    /// What is done to a request on its way to a cluster, by two random numbers.
    pub fn decide(&self, request: &Parts, cluster: &str, random: [u64; 2]) -> Injected {
        let other = self.cluster.as_ref().is_some_and(|wanted| wanted != cluster);
        if other || !self.headers.iter().all(|header| header.matches(request)) {
            return Injected::default();
        }
        let delay = self.delay.as_ref().and_then(|(fraction, delay)| match delay {
            Delay::Fixed(time) => fraction.hit(random[0]).then_some(*time),
            Delay::Header => {
                let time = number(request, "x-envoy-fault-delay-request")?;
                let fraction = asked(request, "x-envoy-fault-delay-request-percentage", *fraction);
                fraction.hit(random[0]).then(|| Duration::from_millis(u64::from(time)))
            }
        });
        let abort = self.abort.as_ref().and_then(|(fraction, how)| match how {
            How::Fixed(abort) => fraction.hit(random[1]).then_some(*abort),
            How::Header => {
                let abort = match number(request, "x-envoy-fault-abort-request") {
                    Some(code) => Abort::Http(status(code)?),
                    None => Abort::Grpc(number(request, "x-envoy-fault-abort-grpc-request")?),
                };
                let fraction = asked(request, "x-envoy-fault-abort-request-percentage", *fraction);
                fraction.hit(random[1]).then_some(abort)
            }
        });
        Injected { delay, abort }
    }
}

fn compile_delay(message: &FaultDelay) -> Result<(Fraction, Delay), CompileError> {
    take!(message => FaultDelay { percentage, fault_delay_secifier } unserved {});
    let delay = match fault_delay_secifier {
        Some(FaultDelaySecifier::FixedDelay(time)) => Delay::Fixed(duration("fixed_delay", time)?),
        Some(FaultDelaySecifier::HeaderDelay(_)) => Delay::Header,
        None => return Err(CompileError::missing("fault_delay_secifier")),
    };
    // No percentage means none.
    let fraction = percentage.as_ref().map_or(Ok(Fraction::NONE), Fraction::compile);
    Ok((fraction.within(|| "percentage".into())?, delay))
}

fn compile_abort(message: &FaultAbort) -> Result<(Fraction, How), CompileError> {
    take!(message => FaultAbort { percentage, error_type } unserved { response_body });
    let how = match error_type {
        Some(ErrorType::HttpStatus(code)) => {
            let status = status(*code)
                .ok_or_else(|| CompileError::invalid("http_status", format_args!("{code} is not in 200..600")));
            How::Fixed(Abort::Http(status?))
        }
        Some(ErrorType::GrpcStatus(code)) => How::Fixed(Abort::Grpc(*code)),
        Some(ErrorType::HeaderAbort(_)) => How::Header,
        None => return Err(CompileError::missing("error_type")),
    };
    let fraction = percentage.as_ref().map_or(Ok(Fraction::NONE), Fraction::compile);
    Ok((fraction.within(|| "percentage".into())?, how))
}

fn status(code: u32) -> Option<StatusCode> {
    let code = u16::try_from(code).ok().filter(|code| (200..600).contains(code))?;
    StatusCode::from_u16(code).ok()
}

fn number(request: &Parts, name: &str) -> Option<u32> {
    request.headers.get(name)?.to_str().ok()?.parse().ok()
}

/// The share that the request asks for, never above the filter's.
fn asked(request: &Parts, name: &str, most: Fraction) -> Fraction {
    number(request, name).map_or(most, |percent| most.at_most(percent))
}

#[cfg(test)]
mod tests {
    use culvert_envoy::pb::envoy::r#type::v3::FractionalPercent;

    use super::*;
    use crate::testing::request;

    fn abort(error: ErrorType, percent: Option<u32>) -> Fault {
        let percentage = percent.map(|numerator| FractionalPercent {
            numerator,
            denominator: 0,
        });
        let abort = FaultAbort {
            percentage,
            error_type: Some(error),
            ..FaultAbort::default()
        };
        Fault::compile(&HttpFault {
            abort: Some(abort),
            ..HttpFault::default()
        })
        .unwrap()
    }

    #[test]
    fn a_fault_without_a_percentage_is_none() {
        let get = request("GET", "/", &[]);
        assert_eq!(
            abort(ErrorType::HttpStatus(503), None).decide(&get, "c", [0, 0]),
            Injected::default()
        );
        let all = abort(ErrorType::HttpStatus(503), Some(100)).decide(&get, "c", [0, 99]);
        assert_eq!(all.abort, Some(Abort::Http(StatusCode::SERVICE_UNAVAILABLE)));
        let ten = abort(ErrorType::GrpcStatus(14), Some(10));
        assert_eq!(ten.decide(&get, "c", [0, 9]).abort, Some(Abort::Grpc(14)));
        assert_eq!(ten.decide(&get, "c", [0, 10]).abort, None);
    }

    #[test]
    fn faults_by_header_ignore_odd_codes_and_a_percentage_of_0_turns_them_off() {
        use culvert_envoy::pb::envoy::extensions::filters::http::fault::v3::fault_abort::HeaderAbort;
        let fault = abort(ErrorType::HeaderAbort(HeaderAbort {}), Some(100));
        let decide = |headers: &[(&str, &str)]| fault.decide(&request("GET", "/", headers), "c", [0, 0]).abort;
        assert_eq!(
            decide(&[("x-envoy-fault-abort-request", "418")]),
            Some(Abort::Http(StatusCode::IM_A_TEAPOT))
        );
        assert_eq!(decide(&[("x-envoy-fault-abort-request", "199")]), None);
        assert_eq!(
            decide(&[
                ("x-envoy-fault-abort-request", "418"),
                ("x-envoy-fault-abort-request-percentage", "0")
            ]),
            None
        );
    }
}
