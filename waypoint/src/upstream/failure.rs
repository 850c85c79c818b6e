//! Why a request got no answer.

use std::{error::Error, time::Duration};

use culvert_tunnel::failure::Failure;

use super::io::ConnectError;
use crate::endpoint_tls::Reason;

/// How far a request was when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// There was no connection for it, and too many of them or of those who wait for one.
    Overflow,
    /// There was no connection for it: nothing of it has left.
    Connect,
    /// The endpoint's own TLS did not come about: nothing of it has left.
    Tls,
    /// There was no connection in time.
    ConnectTimeout,
    /// The endpoint refused the stream before it looked at it.
    Refused,
    /// The connection ended, or the stream was reset, before the answer's head.
    Reset,
    /// What came is no HTTP.
    Protocol,
    /// The client's body broke off.
    Client,
}

/// A request that got no answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{why}")]
pub struct SendFailure {
    /// How far it was.
    pub stage: Stage,
    /// Why, for people.
    pub why: String,
}

impl SendFailure {
    /// Too many wait for a connection.
    pub(super) fn overflow() -> Self {
        Self {
            stage: Stage::Overflow,
            why: "too many requests wait for a connection".to_owned(),
        }
    }

    /// No connection came about.
    pub(super) fn connect(failure: &ConnectError) -> Self {
        Self {
            stage: match failure {
                ConnectError::Way(Failure::NoAnswer { .. } | Failure::Timeout { .. }) => Stage::ConnectTimeout,
                ConnectError::Tls(failure) if failure.reason == Reason::Timeout => Stage::ConnectTimeout,
                ConnectError::Way(_) => Stage::Connect,
                ConnectError::Tls(_) => Stage::Tls,
            },
            why: failure.to_string(),
        }
    }

    /// The connection speaks no HTTP, or not within this time.
    pub(super) fn late(within: Duration) -> Self {
        Self {
            stage: Stage::ConnectTimeout,
            why: format!("no connection within {within:?}"),
        }
    }

    /// From hyper.
    pub(super) fn http(error: &hyper::Error) -> Self {
        let mut stage = match error {
            error if error.is_parse() || error.is_parse_status() => Stage::Protocol,
            error if error.is_user() => Stage::Client,
            _ => Stage::Reset,
        };
        let mut cause = error.source();
        while let Some(error) = cause {
            if error.is::<crate::body::BrokenOff>() {
                stage = Stage::Client;
            }
            if let Some(error) = error.downcast_ref::<h2::Error>() {
                match error.reason() {
                    Some(h2::Reason::REFUSED_STREAM) => stage = Stage::Refused,
                    Some(h2::Reason::PROTOCOL_ERROR) if !error.is_remote() => stage = Stage::Protocol,
                    _ => {}
                }
            }
            cause = error.source();
        }
        Self {
            stage,
            why: crate::causes(error),
        }
    }
}
