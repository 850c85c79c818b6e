//! When there is another try, and when.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use culvert_envoy::ATTEMPT_HEADER;
use culvert_envoy::pb::envoy::config::route::v3::RetryPolicy as Message;
use culvert_envoy::pb::envoy::config::route::v3::retry_policy::{RateLimitedRetryBackOff, ResetHeader, RetryBackOff};
use culvert_envoy::pb::google::protobuf;
use http::{HeaderMap, Response, response};

use super::*;
use crate::testing::{number, request};

/// What the controller sends by default.
const DEFAULT: &str = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";

fn message(on: &str, retries: u32) -> Message {
    Message {
        retry_on: on.to_owned(),
        num_retries: number(retries),
        ..Message::default()
    }
}

fn policy(on: &str) -> RetryPolicy {
    RetryPolicy::compile(&message(on, 2)).unwrap()
}

fn answer(status: u16, headers: &[(&'static str, &str)]) -> response::Parts {
    let mut response = Response::new(()).into_parts().0;
    response.status = status.try_into().unwrap();
    for (name, value) in headers {
        response.headers.insert(*name, value.parse().unwrap());
    }
    response
}

fn retries(policy: &RetryPolicy, outcome: Outcome<'_>) -> bool {
    let request = request("GET", "/", &[]);
    matches!(
        policy.start(&request).decide(outcome, true, UNIX_EPOCH, 0),
        Decision::Retry { .. }
    )
}

#[test]
fn the_default_conditions_never_retry_a_500_and_retry_what_was_not_taken() {
    let policy = policy(DEFAULT);
    assert!(
        !retries(&policy, Outcome::Response(&answer(500, &[])))
            && !retries(&policy, Outcome::Response(&answer(503, &[])))
    );
    assert!(
        retries(&policy, Outcome::Reset(Reset::ConnectFailure)) && retries(&policy, Outcome::Reset(Reset::Refused))
    );
    assert!(
        !retries(&policy, Outcome::Reset(Reset::AfterRequest))
            && !retries(&policy, Outcome::Reset(Reset::PerTryTimeout))
    );
    assert!(retries(
        &policy,
        Outcome::Response(&answer(200, &[("grpc-status", "14")]))
    ));
    assert!(!retries(
        &policy,
        Outcome::Response(&answer(200, &[("grpc-status", "0")]))
    ));
}

#[test]
fn a_503_with_x_envoy_ratelimited_is_not_retried_by_5xx() {
    let limited = answer(503, &[("x-envoy-ratelimited", "true")]);
    assert!(!retries(&policy("5xx"), Outcome::Response(&limited)));
    assert!(retries(&policy("5xx,envoy-ratelimited"), Outcome::Response(&limited)));
    assert!(
        retries(&policy("5xx"), Outcome::Response(&answer(503, &[])))
            && retries(&policy("5xx"), Outcome::Reset(Reset::NotHttp))
    );
}

#[test]
fn each_condition_is_for_what_it_says() {
    assert!(retries(&policy("gateway-error"), Outcome::Response(&answer(502, &[]))));
    assert!(!retries(&policy("gateway-error"), Outcome::Response(&answer(500, &[]))));
    assert!(retries(&policy("retriable-4xx"), Outcome::Response(&answer(409, &[]))));
    assert!(!retries(&policy("5xx,reset"), Outcome::Reset(Reset::Overflow)));
    let mut codes = message("retriable-status-codes", 1);
    codes.retriable_status_codes = vec![418];
    assert!(retries(
        &RetryPolicy::compile(&codes).unwrap(),
        Outcome::Response(&answer(418, &[]))
    ));
    assert!(
        RetryPolicy::compile(&message("5xx,nonsense", 1))
            .unwrap_err()
            .to_string()
            .contains("nonsense")
    );
}

#[test]
fn retries_end_with_a_reason() {
    let policy = policy("5xx");
    let request = request("GET", "/", &[]);
    let mut tries = policy.start(&request);
    let bad = answer(503, &[]);
    let mut decide = |room| tries.decide(Outcome::Response(&bad), room, UNIX_EPOCH, 0);
    assert_eq!(decide(false), Decision::No(Refusal::Overflow));
    assert!(matches!(
        (decide(true), decide(true)),
        (Decision::Retry { .. }, Decision::Retry { .. })
    ));
    assert_eq!(decide(true), Decision::No(Refusal::LimitExceeded));
    assert_eq!(tries.attempt(), 3);
}

#[test]
fn a_request_that_comes_with_retries_used_gets_no_more_than_are_left() {
    let policy = policy("5xx");
    let count = |attempt: &str| {
        let request = request("GET", "/", &[(ATTEMPT_HEADER, attempt)]);
        let mut tries = policy.start(&request);
        let bad = answer(503, &[]);
        (0..10)
            .filter(|_| {
                matches!(
                    tries.decide(Outcome::Response(&bad), true, UNIX_EPOCH, 0),
                    Decision::Retry { .. }
                )
            })
            .count()
    };
    assert_eq!(["1", "2", "3", "9", "nonsense"].map(count), [2, 1, 0, 0, 2]);
}

/// A layer with a policy, in front of others; the last one is the server, which fails.
fn through(layers: &[RetryPolicy], headers: HeaderMap, reached: &mut u32) -> response::Parts {
    let Some((policy, behind)) = layers.split_first() else {
        *reached += 1;
        return answer(503, &[]);
    };
    let mut request = request("GET", "/", &[]);
    request.headers = headers;
    let mut tries = policy.start(&request);
    loop {
        let mut sent = HeaderMap::new();
        tries.mark(&mut sent);
        let mut response = through(behind, sent, reached);
        if let Decision::No(_) = tries.decide(Outcome::Response(&response), true, UNIX_EPOCH, 0) {
            tries.mark_response(&mut response.headers);
            return response;
        }
    }
}

#[test]
fn three_layers_of_three_tries_reach_the_last_server_at_most_four_times() {
    let layers = [policy("5xx"), policy("5xx"), policy("5xx")];
    let mut reached = 0;
    through(&layers, HeaderMap::new(), &mut reached);
    assert!((3..=4).contains(&reached), "{reached}");
}

#[test]
fn the_back_off_doubles_from_25_ms_to_ten_times_that() {
    let ceiling = |number| backoff::BackOff::default().wait(number, u64::MAX - u64::MAX % 1_000_000 - 1);
    assert!((1..=8).all(|number| ceiling(number) < Duration::from_millis((25 << (number - 1)).min(250))));
    let longest = |number| {
        (0..260_000)
            .step_by(7)
            .map(|random| backoff::BackOff::default().wait(number, random))
            .max()
            .unwrap()
    };
    assert!(
        longest(1) > Duration::from_millis(24)
            && longest(4) > Duration::from_millis(199)
            && longest(9) > Duration::from_millis(249)
    );
    let mut set = message("5xx", 1);
    set.retry_back_off = Some(RetryBackOff {
        base_interval: Some(protobuf::Duration { seconds: 1, nanos: 0 }),
        max_interval: Some(protobuf::Duration { seconds: 0, nanos: 5 }),
    });
    assert!(RetryPolicy::compile(&set).is_err());
}

#[test]
fn what_the_upstream_asks_to_wait_is_waited_with_up_to_half_on_top() {
    let mut limited = message("5xx", 9);
    limited.rate_limited_retry_back_off = Some(RateLimitedRetryBackOff {
        reset_headers: vec![
            ResetHeader {
                name: "retry-after".into(),
                format: 0,
            },
            ResetHeader {
                name: "x-reset".into(),
                format: 1,
            },
        ],
        max_interval: None,
    });
    let policy = RetryPolicy::compile(&limited).unwrap();
    let now: SystemTime = UNIX_EPOCH + Duration::from_secs(1000);
    let wait = |headers: &[(&'static str, &str)]| {
        let request = request("GET", "/", &[]);
        match policy
            .start(&request)
            .decide(Outcome::Response(&answer(503, headers)), true, now, 110)
        {
            Decision::Retry { after } => after,
            Decision::No(refusal) => panic!("{refusal:?}"),
        }
    };
    assert_eq!(wait(&[("retry-after", "1")]), Duration::from_millis(1110));
    assert_eq!(wait(&[("x-reset", "1003")]), Duration::from_millis(3110));
    assert!(wait(&[("retry-after", "301")]) < Duration::from_millis(25) && wait(&[]) < Duration::from_millis(25));
}

#[test]
fn a_budget_is_a_share_of_the_requests_and_never_below_its_least() {
    let share = RetryBudget::Share {
        percent: 20.0,
        least: 3,
    };
    assert!(share.allows(1, 2) && !share.allows(1, 3) && share.allows(100, 19) && !share.allows(100, 20));
    assert!(RetryBudget::default().allows(1000, 2) && !RetryBudget::default().allows(1000, 3));
}

#[test]
fn a_per_try_timeout_longer_than_the_routes_is_ignored() {
    let mut timed = message("", 1);
    timed.per_try_timeout = Some(protobuf::Duration { seconds: 2, nanos: 0 });
    let policy = RetryPolicy::compile(&timed).unwrap();
    let two = Some(Duration::from_secs(2));
    assert_eq!(policy.per_try_timeout(None), two);
    assert_eq!(policy.per_try_timeout(Some(Duration::from_secs(3))), two);
    assert_eq!(policy.per_try_timeout(Some(Duration::from_secs(1))), None);
}
