//! How a TrafficPolicy has endpoints asked whether they serve.

use serde::Deserialize;

use super::super::super::policy::{Ask, HealthCheck};
use super::super::values::{self, Bad};
use super::pieces::{Empty, patience, period};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct HealthCheckSpec {
    http: Option<HttpSpec>,
    grpc: Option<GrpcSpec>,
    tcp: Option<Empty>,
    interval: Option<String>,
    timeout: Option<String>,
    healthy: Option<u32>,
    unhealthy: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HttpSpec {
    path: String,
    host: Option<String>,
    statuses: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GrpcSpec {
    service: Option<String>,
}

/// Reads it.
///
/// # Errors
/// Where a value is none that can be meant.
pub(super) fn read(spec: HealthCheckSpec) -> Result<HealthCheck, Bad> {
    let ask = match (spec.http, spec.grpc, spec.tcp) {
        (Some(spec), None, None) => http(spec).map_err(|bad| bad.below("http"))?,
        (None, Some(spec), None) => Ask::Grpc {
            service: spec.service.unwrap_or_default(),
        },
        (None, None, Some(Empty {})) => Ask::Tcp,
        _ => return Err(Bad::at("", "it must have one of http, grpc and tcp")),
    };
    let times = |field: &str, number: Option<u32>, default: u32| match number.unwrap_or(default) {
        number @ 1..=100 => Ok(number),
        number => Err(Bad::at(field, format!("{number} is not between 1 and 100"))),
    };
    Ok(HealthCheck {
        ask,
        interval: period("interval", spec.interval.as_deref().unwrap_or("10s"))?,
        timeout: patience("timeout", spec.timeout.as_deref().unwrap_or("1s"))?,
        healthy: times("healthy", spec.healthy, 2)?,
        unhealthy: times("unhealthy", spec.unhealthy, 3)?,
    })
}

fn http(spec: HttpSpec) -> Result<Ask, Bad> {
    if !spec.path.starts_with('/') || !spec.path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Bad::at("path", format!("{:?} is no path", spec.path)));
    }
    let host = spec.host.map(|host| values::hostname(&host, false)).transpose();
    let statuses = spec.statuses.unwrap_or_else(|| vec!["200".to_owned()]);
    if statuses.is_empty() {
        return Err(Bad::at("statuses", "there is none"));
    }
    let range = |(index, text): (usize, &String)| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let status = |text: &str| text.parse::<u16>().ok().filter(|status| (100..600).contains(status));
        match (status(first), status(last)) {
            (Some(first), Some(last)) if first <= last => Ok((first, last)),
            _ => {
                let message = format!("{text:?} is neither a status nor a range of them");
                Err(Bad::at(format!("statuses[{index}]"), message))
            }
        }
    };
    Ok(Ask::Http {
        path: spec.path,
        host: host.map_err(|message| Bad::at("host", message))?,
        statuses: statuses.iter().enumerate().map(range).collect::<Result<_, _>>()?,
    })
}
