//! What a route says to the filters of its chain.

use std::collections::HashMap;

use culvert_envoy::pack;
use culvert_envoy::pb::envoy::config::core::v3::TypedExtensionConfig;
use culvert_envoy::pb::envoy::extensions::filters::common::fault::v3::{FaultDelay, fault_delay::FaultDelaySecifier};
use culvert_envoy::pb::envoy::extensions::filters::http::cors::v3::CorsPolicy;
use culvert_envoy::pb::envoy::extensions::filters::http::fault::v3::{FaultAbort, HttpFault, fault_abort::ErrorType};
use culvert_envoy::pb::envoy::extensions::filters::http::stateful_session::v3::{
    StatefulSession, StatefulSessionPerRoute, stateful_session_per_route::Override as PerRoute,
};
use culvert_envoy::pb::envoy::extensions::http::stateful_session::cookie::v3::CookieBasedSessionState;
use culvert_envoy::pb::envoy::extensions::http::stateful_session::header::v3::HeaderBasedSessionState;
use culvert_envoy::pb::envoy::r#type::http::v3::Cookie;
use culvert_envoy::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use culvert_envoy::pb::google::protobuf::Any;

use super::super::external_auth::ExternalAuth;
use super::super::model::{Abort, Cors, Fault, Origin, Session};
use super::{external_auth, parts};

/// The names of the filters, and of what a route says to them.
pub(super) const CORS: &str = "envoy.filters.http.cors";
pub(super) const FAULT: &str = "envoy.filters.http.fault";
pub(super) const SESSION: &str = "envoy.filters.http.stateful_session";
/// Any origin, as `SCHEME://HOST[:PORT]`.
const ANY_ORIGIN: &str = r"^[a-zA-Z][a-zA-Z0-9+.-]*://[^/\s?#]+$";
const MILLION: u32 = 1_000_000;

/// What a rule has for filters.
#[derive(Default)]
pub(super) struct Said<'a> {
    pub(super) cors: Option<&'a Cors>,
    pub(super) fault: Option<&'a Fault>,
    pub(super) auth: Option<&'a ExternalAuth>,
    pub(super) session: Option<&'a Session>,
}

/// What a route of the waypoint `scope` says to the filters, by their names.
pub(super) fn of_route(scope: &str, said: Said<'_>) -> HashMap<String, Any> {
    let cors = said.cors.map(|cors| (CORS, pack(&policy(cors))));
    let fault = said.fault.map(|fault| (FAULT, pack(&injected(fault))));
    let auth = said
        .auth
        .map(|auth| (external_auth::NAME, pack(&external_auth::of_route(scope, auth))));
    let session = said.session.map(|session| (SESSION, pack(&persistent(session))));
    let all = cors.into_iter().chain(fault).chain(auth).chain(session);
    all.map(|(name, config)| (name.to_owned(), config)).collect()
}

fn persistent(session: &Session) -> StatefulSessionPerRoute {
    let (kind, typed_config) = match session {
        Session::Cookie { name, path, ttl } => {
            let cookie = Cookie {
                name: name.clone(),
                path: path.clone(),
                ttl: ttl.map(parts::duration),
                ..Cookie::default()
            };
            ("cookie", pack(&CookieBasedSessionState { cookie: Some(cookie) }))
        }
        Session::Header(name) => ("header", pack(&HeaderBasedSessionState { name: name.clone() })),
    };
    let state = TypedExtensionConfig {
        name: format!("envoy.http.stateful_session.{kind}"),
        typed_config: Some(typed_config),
    };
    let session = StatefulSession {
        session_state: Some(state),
        ..StatefulSession::default()
    };
    StatefulSessionPerRoute {
        r#override: Some(PerRoute::StatefulSession(session)),
    }
}

fn policy(cors: &Cors) -> CorsPolicy {
    let origin = |origin: &Origin| match origin {
        Origin::Text(text) => parts::pattern(text).map(parts::text),
        Origin::Glob(glob) => Some(parts::text(match glob.as_str() {
            "*" => MatchPattern::SafeRegex(parts::regex(ANY_ORIGIN)),
            wild if wild.contains('*') => {
                let pattern = regex::escape(wild).replace(r"\*", ".*");
                MatchPattern::SafeRegex(parts::regex(&format!("^{pattern}$")))
            }
            exact => MatchPattern::Exact(exact.to_owned()),
        })),
    };
    CorsPolicy {
        allow_origin_string_match: cors.origins.iter().filter_map(origin).collect(),
        allow_methods: cors.methods.join(","),
        allow_headers: cors.headers.join(","),
        expose_headers: cors.expose.join(","),
        max_age: cors.max_age.map(|seconds| seconds.to_string()).unwrap_or_default(),
        allow_credentials: cors.credentials.then_some(true).and_then(parts::flag),
        filter_enabled: Some(parts::fraction(MILLION)),
        forward_not_matching_preflights: parts::flag(cors.forwards_others),
        ..CorsPolicy::default()
    }
}

fn injected(fault: &Fault) -> HttpFault {
    let delay = fault.delay.map(|(time, share)| FaultDelay {
        percentage: Some(parts::share(share)),
        fault_delay_secifier: Some(FaultDelaySecifier::FixedDelay(parts::duration(time))),
    });
    let abort = fault.abort.map(|(abort, share)| FaultAbort {
        percentage: Some(parts::share(share)),
        error_type: Some(match abort {
            Abort::Http(status) => ErrorType::HttpStatus(status.into()),
            Abort::Grpc(status) => ErrorType::GrpcStatus(status),
        }),
        ..FaultAbort::default()
    });
    HttpFault {
        delay,
        abort,
        ..HttpFault::default()
    }
}
