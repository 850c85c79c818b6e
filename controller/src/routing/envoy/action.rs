//! What becomes of the requests that a rule is for.

use std::collections::HashMap;
use std::time::Duration;

use culvert_envoy::pb::envoy::config::core::v3::RuntimeFractionalPercent;
use culvert_envoy::pb::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
};
use culvert_envoy::pb::envoy::config::route::v3::retry_policy::{
    RetryBackOff, RetryHostPredicate, retry_host_predicate,
};
use culvert_envoy::pb::envoy::config::route::v3::route_action::{
    ClusterNotFoundResponseCode, ClusterSpecifier, HostRewriteSpecifier, RequestMirrorPolicy,
};
use culvert_envoy::pb::envoy::config::route::v3::weighted_cluster::ClusterWeight;
use culvert_envoy::pb::envoy::config::route::v3::{
    RedirectAction, RetryPolicy, Route, RouteAction, WeightedCluster, route,
};
use culvert_envoy::pb::envoy::extensions::filters::http::cors::v3::CorsPolicy;
use culvert_envoy::pb::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use culvert_envoy::pb::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;
use culvert_envoy::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use culvert_envoy::pb::envoy::r#type::v3::{FractionalPercent, fractional_percent::DenominatorType};
use culvert_envoy::pb::google::protobuf::Any;
use culvert_envoy::{names, pack};

use super::super::model::{Backend, Cors, Forward, Headers, NewPath, Path, Redirect, Retry, Target};
use super::parts;

/// What is tried again whatever a route says: nobody has worked on it yet.
const RETRY_ON: &str = "connect-failure,refused-stream,unavailable,cancelled";
/// The name of the filter, and of what a route says to it.
pub(super) const CORS: &str = "envoy.filters.http.cors";
/// Any origin, as `SCHEME://HOST[:PORT]`.
const ANY_ORIGIN: &str = r"^[a-zA-Z][a-zA-Z0-9+.-]*://[^/\s?#]+$";
const MILLION: u32 = 1_000_000;

/// A route that sends clients elsewhere.
pub(super) fn redirect(redirect: &Redirect, matched: &Path) -> Route {
    let code = match redirect.status {
        301 => RedirectResponseCode::MovedPermanently,
        303 => RedirectResponseCode::SeeOther,
        307 => RedirectResponseCode::TemporaryRedirect,
        308 => RedirectResponseCode::PermanentRedirect,
        _ => RedirectResponseCode::Found,
    };
    let path = redirect.path.as_ref().and_then(|path| match path {
        NewPath::Full(path) => Some(PathRewriteSpecifier::PathRedirect(path.clone())),
        NewPath::Prefix(new) => match prefix_rewrite(matched, new)? {
            PrefixRewrite::Splice(new) => Some(PathRewriteSpecifier::PrefixRewrite(new)),
            PrefixRewrite::Regex(rewrite) => Some(PathRewriteSpecifier::RegexRewrite(rewrite)),
        },
    });
    let action = RedirectAction {
        host_redirect: redirect.host.clone().unwrap_or_default(),
        port_redirect: port_in_location(redirect).into(),
        response_code: code.into(),
        scheme_rewrite_specifier: redirect.scheme.clone().map(SchemeRewriteSpecifier::SchemeRedirect),
        path_rewrite_specifier: path,
        ..RedirectAction::default()
    };
    Route {
        action: Some(route::Action::Redirect(action)),
        response_headers_to_add: parts::header_options(&redirect.response),
        response_headers_to_remove: redirect.response.remove.clone(),
        typed_per_filter_config: cors(redirect.cors.as_ref()),
        ..Route::default()
    }
}

/// The port that a location names; 0 for none. With a new host none is needed that the scheme has anyway; without, it must replace the
/// one in the request's host.
fn port_in_location(redirect: &Redirect) -> u16 {
    let of_scheme = match redirect.scheme.as_deref() {
        Some("https") => 443,
        _ => 80,
    };
    let is_needed = |port: &u16| redirect.host.is_none() || *port != of_scheme;
    redirect.port.filter(is_needed).unwrap_or_default()
}

/// A route to backends.
pub(super) fn forward(scope: &str, forward: &Forward, matched: &Path) -> Route {
    let mut action = RouteAction {
        cluster_not_found_response_code: ClusterNotFoundResponseCode::InternalServerError.into(),
        timeout: Some(parts::duration(forward.timeout.unwrap_or(Duration::ZERO))),
        retry_policy: Some(retry(&forward.retry)),
        request_mirror_policies: forward
            .mirrors
            .iter()
            .map(|mirror| mirrored(scope, &mirror.backend, mirror.share))
            .collect(),
        host_rewrite_specifier: forward.host.clone().map(HostRewriteSpecifier::HostRewriteLiteral),
        ..RouteAction::default()
    };
    match &forward.path {
        None => {}
        Some(NewPath::Full(path)) => action.regex_rewrite = Some(substitution("/.*".to_owned(), path)),
        Some(NewPath::Prefix(new)) => match prefix_rewrite(matched, new) {
            None => {}
            Some(PrefixRewrite::Splice(new)) => action.prefix_rewrite = new,
            Some(PrefixRewrite::Regex(rewrite)) => action.regex_rewrite = Some(rewrite),
        },
    }
    let (specifier, request, response) = targets(scope, forward);
    action.cluster_specifier = Some(specifier);
    Route {
        action: Some(route::Action::Route(action)),
        request_headers_to_add: parts::header_options(&request),
        request_headers_to_remove: request.remove,
        response_headers_to_add: parts::header_options(&response),
        response_headers_to_remove: response.remove,
        typed_per_filter_config: cors(forward.cors.as_ref()),
        ..Route::default()
    }
}

/// The clusters with their shares, and what is done to headers whichever is taken. Envoy lets a route's headers overwrite a cluster's,
/// but a backend's filters come after those of its rule: so the clusters get the rule's, too, where they have any.
fn targets(scope: &str, forward: &Forward) -> (ClusterSpecifier, Headers, Headers) {
    if let [target] = forward.targets.as_slice() {
        let request = both(&forward.request, &target.request);
        let response = both(&forward.response, &target.response);
        let name = cluster_name(scope, target.backend.as_ref());
        return (ClusterSpecifier::Cluster(name), request, response);
    }
    let none = Headers::default();
    let by_cluster = forward
        .targets
        .iter()
        .any(|target| target.request != none || target.response != none);
    let of = |target: &Target| {
        let (request, response) = match by_cluster {
            true => (
                both(&forward.request, &target.request),
                both(&forward.response, &target.response),
            ),
            false => Default::default(),
        };
        ClusterWeight {
            name: cluster_name(scope, target.backend.as_ref()),
            weight: parts::number(target.weight),
            request_headers_to_add: parts::header_options(&request),
            request_headers_to_remove: request.remove,
            response_headers_to_add: parts::header_options(&response),
            response_headers_to_remove: response.remove,
            ..ClusterWeight::default()
        }
    };
    let clusters = WeightedCluster {
        clusters: forward.targets.iter().map(of).collect(),
        ..WeightedCluster::default()
    };
    let (request, response) = match by_cluster {
        true => Default::default(),
        false => (forward.request.clone(), forward.response.clone()),
    };
    (ClusterSpecifier::WeightedClusters(clusters), request, response)
}

fn both(first: &Headers, then: &Headers) -> Headers {
    let joined = |first: &[(String, String)], then: &[(String, String)]| [first, then].concat();
    // What the first adds or sets and the second removes is gone.
    let kept = |pairs: &[(String, String)]| -> Vec<(String, String)> {
        pairs
            .iter()
            .filter(|(name, _)| !then.remove.contains(name))
            .cloned()
            .collect()
    };
    Headers {
        set: joined(&kept(&first.set), &then.set),
        add: joined(&kept(&first.add), &then.add),
        remove: [first.remove.as_slice(), then.remove.as_slice()].concat(),
    }
}

/// What is called so that there is none of the name: answered with 500.
pub(super) fn cluster_name(scope: &str, backend: Option<&Backend>) -> String {
    match backend {
        Some(backend) => names::cluster(scope, &backend.service, backend.port, None),
        None => format!("{scope}/no-backend"),
    }
}

fn mirrored(scope: &str, backend: &Backend, share: u32) -> RequestMirrorPolicy {
    RequestMirrorPolicy {
        cluster: cluster_name(scope, Some(backend)),
        runtime_fraction: Some(fraction(share)),
        trace_sampled: parts::flag(false),
        disable_shadow_host_suffix_append: true,
        ..RequestMirrorPolicy::default()
    }
}

/// Of a million.
fn fraction(share: u32) -> RuntimeFractionalPercent {
    RuntimeFractionalPercent {
        default_value: Some(FractionalPercent {
            numerator: share,
            denominator: DenominatorType::Million.into(),
        }),
        ..RuntimeFractionalPercent::default()
    }
}

fn retry(retry: &Retry) -> RetryPolicy {
    let codes = if retry.codes.is_empty() {
        ""
    } else {
        ",retriable-status-codes"
    };
    let resets = if retry.resets { ",reset" } else { "" };
    let backoff = |base: Duration| RetryBackOff {
        base_interval: Some(parts::duration(base)),
        ..RetryBackOff::default()
    };
    let predicate = RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
        config_type: Some(retry_host_predicate::ConfigType::TypedConfig(pack(
            &PreviousHostsPredicate {},
        ))),
    };
    RetryPolicy {
        retry_on: format!("{RETRY_ON}{resets}{codes}"),
        num_retries: parts::number(retry.attempts),
        per_try_timeout: retry.per_try.map(parts::duration),
        retry_host_predicate: vec![predicate],
        host_selection_retry_max_attempts: 5,
        retriable_status_codes: retry.codes.clone(),
        retry_back_off: retry.backoff.map(backoff),
        ..RetryPolicy::default()
    }
}

/// How a prefix is replaced.
enum PrefixRewrite {
    /// By another text.
    Splice(String),
    /// In a way that leaves no two slashes.
    Regex(RegexMatchAndSubstitute),
}

/// The prefix that matched is replaced by another, which has no slash at its end; none where that changes nothing.
fn prefix_rewrite(matched: &Path, new: &str) -> Option<PrefixRewrite> {
    let Path::Prefix(old) = matched else { return None };
    match (old.is_empty(), new.is_empty()) {
        (true, true) => None,
        // The slash that matched belongs to the rest.
        (true, false) => Some(PrefixRewrite::Splice(format!("{new}/"))),
        (false, false) => Some(PrefixRewrite::Splice(new.to_owned())),
        (false, true) => {
            let pattern = format!("^{}/?(.*)", regex::escape(old));
            Some(PrefixRewrite::Regex(RegexMatchAndSubstitute {
                pattern: Some(parts::regex(&pattern)),
                substitution: r"/\1".to_owned(),
            }))
        }
    }
}

fn substitution(pattern: String, new: &str) -> RegexMatchAndSubstitute {
    RegexMatchAndSubstitute {
        pattern: Some(parts::regex(&pattern)),
        substitution: new.replace('\\', r"\\"),
    }
}

/// What the route says to the CORS filter.
fn cors(cors: Option<&Cors>) -> HashMap<String, Any> {
    let Some(cors) = cors else { return HashMap::new() };
    let origin = |origin: &String| {
        parts::text(match origin.as_str() {
            "*" => MatchPattern::SafeRegex(parts::regex(ANY_ORIGIN)),
            wild if wild.contains('*') => {
                let pattern = regex::escape(wild).replace(r"\*", ".*");
                MatchPattern::SafeRegex(parts::regex(&format!("^{pattern}$")))
            }
            exact => MatchPattern::Exact(exact.to_owned()),
        })
    };
    let policy = CorsPolicy {
        allow_origin_string_match: cors.origins.iter().map(origin).collect(),
        allow_methods: cors.methods.join(","),
        allow_headers: cors.headers.join(","),
        expose_headers: cors.expose.join(","),
        max_age: cors.max_age.to_string(),
        allow_credentials: cors.credentials.then_some(true).and_then(parts::flag),
        filter_enabled: Some(fraction(MILLION)),
        forward_not_matching_preflights: parts::flag(false),
        ..CorsPolicy::default()
    };
    HashMap::from([(CORS.to_owned(), pack(&policy))])
}
