//! What becomes of the requests that a rule is for.

use std::time::Duration;

use culvert_envoy::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};
use culvert_envoy::pb::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
};
use culvert_envoy::pb::envoy::config::route::v3::route_action::{
    ClusterNotFoundResponseCode, ClusterSpecifier, HostRewriteSpecifier, RequestMirrorPolicy,
};
use culvert_envoy::pb::envoy::config::route::v3::weighted_cluster::ClusterWeight;
use culvert_envoy::pb::envoy::config::route::v3::{
    DirectResponseAction, RedirectAction, Route, RouteAction, WeightedCluster, route,
};
use culvert_envoy::pb::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;

use super::super::model::{Backend, Direct, Forward, Headers, NewPath, Path, Redirect, Target};
use super::filters::{self, Said};
use super::parts::{self, cluster_name};
use super::policy::Times;
use super::retry;

/// A route that sends clients elsewhere.
pub(super) fn redirect(scope: &str, redirect: &Redirect, matched: &Path) -> Route {
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
        NewPath::Plain(new) => Some(PathRewriteSpecifier::PrefixRewrite(new.clone())),
        NewPath::Regex(pattern, new) => Some(PathRewriteSpecifier::RegexRewrite(substituted(pattern, new))),
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
        typed_per_filter_config: filters::of_route(
            scope,
            Said {
                cors: redirect.cors.as_ref(),
                auth: redirect.auth.as_ref(),
                ..Said::default()
            },
        ),
        ..Route::default()
    }
}

/// A route that answers by itself.
pub(super) fn direct(scope: &str, direct: &Direct) -> Route {
    let body = DataSource {
        specifier: Some(Specifier::InlineBytes(direct.body.clone())),
        ..DataSource::default()
    };
    let action = DirectResponseAction {
        status: direct.status.into(),
        body: (!direct.body.is_empty()).then_some(body),
        ..DirectResponseAction::default()
    };
    Route {
        action: Some(route::Action::DirectResponse(action)),
        response_headers_to_add: parts::header_options(&direct.response),
        response_headers_to_remove: direct.response.remove.clone(),
        typed_per_filter_config: filters::of_route(
            scope,
            Said {
                cors: direct.cors.as_ref(),
                ..Said::default()
            },
        ),
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
pub(super) fn forward(scope: &str, forward: &Forward, matched: &Path, times: &Times) -> Route {
    let mut action = RouteAction {
        cluster_not_found_response_code: ClusterNotFoundResponseCode::InternalServerError.into(),
        timeout: Some(parts::duration(forward.timeout.unwrap_or(Duration::ZERO))),
        idle_timeout: times.idle(),
        max_stream_duration: times.duration(forward.timeout.filter(|time| !time.is_zero())),
        retry_policy: retry::policy(&forward.retry, times.retry_after),
        hash_policy: forward.hash.iter().map(retry::hash).collect(),
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
        Some(NewPath::Plain(new)) => action.prefix_rewrite = new.clone(),
        Some(NewPath::Regex(pattern, new)) => action.regex_rewrite = Some(substituted(pattern, new)),
    }
    let (specifier, request, response) = targets(scope, forward);
    action.cluster_specifier = Some(specifier);
    Route {
        action: Some(route::Action::Route(action)),
        request_headers_to_add: parts::header_options(&request),
        request_headers_to_remove: request.remove,
        response_headers_to_add: parts::header_options(&response),
        response_headers_to_remove: response.remove,
        typed_per_filter_config: filters::of_route(
            scope,
            Said {
                cors: forward.cors.as_ref(),
                fault: forward.fault.as_ref(),
                auth: forward.auth.as_ref(),
                session: forward.session.as_ref(),
            },
        ),
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

fn mirrored(scope: &str, backend: &Backend, share: u32) -> RequestMirrorPolicy {
    RequestMirrorPolicy {
        cluster: cluster_name(scope, Some(backend)),
        runtime_fraction: Some(parts::fraction(share)),
        trace_sampled: parts::flag(false),
        disable_shadow_host_suffix_append: true,
        ..RequestMirrorPolicy::default()
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
    substituted(&pattern, &new.replace('\\', r"\\"))
}

/// `new` may name groups of the pattern.
fn substituted(pattern: &str, new: &str) -> RegexMatchAndSubstitute {
    RegexMatchAndSubstitute {
        pattern: Some(parts::regex(pattern)),
        substitution: new.to_owned(),
    }
}
