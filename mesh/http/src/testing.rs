//! What tests of several modules need.

#![cfg(test)]

use culvert_envoy::pb::envoy::config::route::v3::{
    Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost, route, route_action::ClusterSpecifier,
    route_match::PathSpecifier,
};
use culvert_envoy::pb::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher, string_matcher::MatchPattern};
use culvert_envoy::pb::google::protobuf::UInt32Value;
use http::Request;
use http::request::Parts;

/// The head of a request.
pub(crate) fn request(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
    let mut builder = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap().into_parts().0
}

/// A matcher for one text.
pub(crate) fn exact(text: &str) -> StringMatcher {
    pattern(MatchPattern::Exact(text.to_owned()))
}

/// A matcher of any kind.
pub(crate) fn pattern(pattern: MatchPattern) -> StringMatcher {
    StringMatcher {
        match_pattern: Some(pattern),
        ignore_case: false,
    }
}

/// A regular expression.
pub(crate) fn regex(regex: &str) -> RegexMatcher {
    RegexMatcher {
        regex: regex.to_owned(),
        engine_type: None,
    }
}

/// A match of a path.
pub(crate) fn path(specifier: PathSpecifier) -> RouteMatch {
    RouteMatch {
        path_specifier: Some(specifier),
        ..RouteMatch::default()
    }
}

/// A match of a prefix.
pub(crate) fn prefix(prefix: &str) -> RouteMatch {
    path(PathSpecifier::Prefix(prefix.to_owned()))
}

/// A way to a cluster.
pub(crate) fn to(cluster: &str) -> RouteAction {
    RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        ..RouteAction::default()
    }
}

/// A route with a name.
pub(crate) fn named(name: &str, matcher: RouteMatch, action: route::Action) -> Route {
    Route {
        name: name.to_owned(),
        r#match: Some(matcher),
        action: Some(action),
        ..Route::default()
    }
}

/// A virtual host.
pub(crate) fn virtual_host(domains: &[&str], routes: Vec<Route>) -> VirtualHost {
    VirtualHost {
        name: domains.concat(),
        domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
        routes,
        ..VirtualHost::default()
    }
}

/// A configuration.
pub(crate) fn configuration(virtual_hosts: Vec<VirtualHost>) -> RouteConfiguration {
    RouteConfiguration {
        name: "routes".to_owned(),
        virtual_hosts,
        ..RouteConfiguration::default()
    }
}

/// A number that may be absent.
pub(crate) fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}
