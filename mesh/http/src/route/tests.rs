//! What becomes of a request on its way.

mod fields;
mod redirects;

use culvert_envoy::pb::envoy::config::core::v3::{HeaderValue as PbHeader, HeaderValueOption};
use culvert_envoy::pb::envoy::config::route::v3::route_action::{
    HostRewriteSpecifier, MaxStreamDuration, RequestMirrorPolicy,
};
use culvert_envoy::pb::envoy::config::route::v3::weighted_cluster::{ClusterWeight, RandomValueSpecifier};
use culvert_envoy::pb::envoy::config::route::v3::{
    DirectResponseAction, RedirectAction, RouteAction, RouteConfiguration, RouteMatch, WeightedCluster,
    redirect_action, route_action::ClusterSpecifier, route_match::PathSpecifier,
};
use culvert_envoy::pb::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;
use culvert_envoy::pb::google::protobuf;
use http::Response;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::request::{host, path_and_query};
use crate::table::{Found, RouteTable};
use crate::testing::{configuration, named, number, path, prefix, regex, request, to, virtual_host};

fn only(configuration: &RouteConfiguration) -> Arc<Route> {
    Arc::clone(RouteTable::compile(configuration).unwrap().routes().next().unwrap())
}

fn route_of(matcher: RouteMatch, action: route::Action) -> Arc<Route> {
    only(&configuration(vec![virtual_host(
        &["*"],
        vec![named("r", matcher, action)],
    )]))
}

fn forward(route: &Route) -> &Forward {
    match route.action() {
        Action::Forward(forward) => forward,
        other => panic!("{other:?}"),
    }
}

fn sent(route: &Route, mut request: Parts) -> Parts {
    let forward = forward(route);
    let target = forward.targets().choose(&request, 0).unwrap();
    forward.rewrite(&mut request, &Peer::default(), &target).unwrap();
    request
}

fn rewritten(matcher: RouteMatch, action: RouteAction, uri: &str) -> String {
    let sent = sent(
        &route_of(matcher, route::Action::Route(action)),
        request("GET", uri, &[("host", "h")]),
    );
    path_and_query(&sent).to_owned()
}

fn substitute(pattern: &str, by: &str) -> RegexMatchAndSubstitute {
    RegexMatchAndSubstitute {
        pattern: Some(regex(pattern)),
        substitution: by.to_owned(),
    }
}

#[test]
fn a_prefix_rewrite_is_a_plain_splice_and_keeps_the_query() {
    let by = |new: &str| RouteAction {
        prefix_rewrite: new.to_owned(),
        ..to("c")
    };
    let separated = || path(PathSpecifier::PathSeparatedPrefix("/api".into()));
    assert_eq!(rewritten(separated(), by("/"), "/api/x?q"), "//x?q");
    assert_eq!(rewritten(separated(), by("/"), "/api"), "/");
    assert_eq!(rewritten(prefix("/"), by("/root"), "/x"), "/rootx");
    assert_eq!(rewritten(prefix("/rewrite/"), by("/new/"), "/rewrite/a"), "/new/a");
}

#[test]
fn a_regex_rewrite_replaces_every_match_in_the_path_and_keeps_the_query() {
    let by = |pattern: &str, new: &str| RouteAction {
        regex_rewrite: Some(substitute(pattern, new)),
        ..to("c")
    };
    assert_eq!(rewritten(prefix("/"), by("a", "b"), "/aa?a"), "/bb?a");
    assert_eq!(rewritten(prefix("/"), by("^/r/(.*)$", r"/s/\1"), "/r/x"), "/s/x");
}

#[test]
fn a_rewrite_that_makes_no_path_is_an_error_and_not_sent() {
    let action = RouteAction {
        regex_rewrite: Some(substitute("^/", "")),
        ..to("c")
    };
    let route = route_of(prefix("/"), route::Action::Route(action));
    let mut request = request("GET", "/x", &[]);
    let target = forward(&route).targets().choose(&request, 0).unwrap();
    assert!(
        forward(&route)
            .rewrite(&mut request, &Peer::default(), &target)
            .is_err()
    );
}

#[test]
fn what_was_rewritten_is_in_fields_with_the_query() {
    let action = RouteAction {
        prefix_rewrite: "/b".to_owned(),
        host_rewrite_specifier: Some(HostRewriteSpecifier::HostRewriteLiteral("other.example".into())),
        ..to("c")
    };
    let sent = sent(
        &route_of(prefix("/a"), route::Action::Route(action)),
        request("GET", "/a?q", &[("host", "h:80")]),
    );
    assert_eq!((host(&sent), path_and_query(&sent)), ("other.example", "/b?q"));
    assert_eq!(sent.headers["x-envoy-original-path"], "/a?q");
    assert_eq!(sent.headers["x-envoy-original-host"], "h:80");
    assert!(!sent.headers.contains_key("x-forwarded-host"));
}

#[test]
fn a_host_by_a_path_without_a_match_is_the_whole_path() {
    let action = RouteAction {
        host_rewrite_specifier: Some(HostRewriteSpecifier::HostRewritePathRegex(substitute(
            "^/(.+)/.+$",
            r"\1",
        ))),
        ..to("c")
    };
    let route = route_of(prefix("/"), route::Action::Route(action));
    assert_eq!(
        host(&sent(&route, request("GET", "/h.example/x?q", &[("host", "h")]))),
        "h.example"
    );
    assert_eq!(host(&sent(&route, request("GET", "/x", &[("host", "h")]))), "/x");
}

fn weighted(weights: &[u32], header: Option<&str>) -> RouteAction {
    let cluster = |(index, weight): (usize, &u32)| ClusterWeight {
        name: index.to_string(),
        weight: number(*weight),
        ..ClusterWeight::default()
    };
    RouteAction {
        cluster_specifier: Some(ClusterSpecifier::WeightedClusters(WeightedCluster {
            clusters: weights.iter().enumerate().map(cluster).collect(),
            random_value_specifier: header.map(|name| RandomValueSpecifier::HeaderName(name.to_owned())),
            ..WeightedCluster::default()
        })),
        ..RouteAction::default()
    }
}

#[test]
fn weights_are_kept_exactly_over_the_random_numbers() {
    let route = route_of(prefix("/"), route::Action::Route(weighted(&[75, 0, 25], None)));
    let request = request("GET", "/", &[]);
    let count = |cluster: &str| {
        let draws = (0..100).map(|random| forward(&route).targets().choose(&request, random).unwrap());
        draws.filter(|target| target.cluster() == cluster).count()
    };
    assert_eq!([count("0"), count("1"), count("2")], [75, 0, 25]);
    let none = configuration(vec![virtual_host(
        &["*"],
        vec![named("r", prefix("/"), route::Action::Route(weighted(&[0, 0], None)))],
    )]);
    assert!(RouteTable::compile(&none).is_err());
}

#[test]
fn a_field_chooses_the_weighted_cluster_only_if_it_is_a_plain_number() {
    let route = route_of(prefix("/"), route::Action::Route(weighted(&[1, 1], Some("x"))));
    let choice = |value: &str| {
        forward(&route)
            .targets()
            .choose(&request("GET", "/", &[("x", value)]), 0)
            .unwrap()
            .cluster()
            .to_owned()
    };
    assert_eq!(["1", "3", "+1", "1x", ""].map(choice), ["1", "1", "0", "0", "0"]);
}

#[test]
fn a_cluster_by_field_that_is_absent_is_none() {
    let action = RouteAction {
        cluster_specifier: Some(ClusterSpecifier::ClusterHeader("x".into())),
        ..RouteAction::default()
    };
    let route = route_of(prefix("/"), route::Action::Route(action));
    assert!(forward(&route).targets().choose(&request("GET", "/", &[]), 0).is_none());
    assert_eq!(forward(&route).cluster_not_found(), 503);
}

#[test]
fn mirrors_get_a_host_of_their_own_unless_told_not_to() {
    let mirror = |disable| RouteAction {
        request_mirror_policies: vec![RequestMirrorPolicy {
            cluster: "m".into(),
            disable_shadow_host_suffix_append: disable,
            ..RequestMirrorPolicy::default()
        }],
        ..to("c")
    };
    let host_of = |disable, from: &str| {
        let route = route_of(prefix("/"), route::Action::Route(mirror(disable)));
        let mut copy = request("GET", "/", &[("host", from)]);
        forward(&route).mirrors()[0].rewrite(&mut copy);
        host(&copy).to_owned()
    };
    assert_eq!(
        (host_of(false, "h:80"), host_of(false, "h"), host_of(true, "h:80")),
        ("h-shadow:80".into(), "h-shadow".into(), "h:80".into())
    );
}

fn limits(action: RouteAction, headers: &[(&str, &str)]) -> (RequestTimeouts, Parts) {
    let route = route_of(prefix("/"), route::Action::Route(action));
    let mut request = request("GET", "/", headers);
    (forward(&route).timeouts().of(&mut request.headers), request)
}

#[test]
fn max_stream_duration_even_empty_switches_the_timeout_off() {
    assert_eq!(limits(to("c"), &[]).0.response, Some(Duration::from_secs(15)));
    let empty = RouteAction {
        max_stream_duration: Some(MaxStreamDuration::default()),
        ..to("c")
    };
    assert_eq!(limits(empty, &[]).0, RequestTimeouts::default());
    let zero = RouteAction {
        timeout: Some(protobuf::Duration::default()),
        ..to("c")
    };
    assert_eq!(limits(zero, &[]).0.response, None);
}

#[test]
fn grpc_timeout_is_taken_as_sent_with_0_and_capped_otherwise() {
    let most = |seconds| RouteAction {
        max_stream_duration: Some(MaxStreamDuration {
            grpc_timeout_header_max: Some(protobuf::Duration { seconds, nanos: 0 }),
            ..MaxStreamDuration::default()
        }),
        ..to("c")
    };
    let (limit, _) = limits(most(0), &[("grpc-timeout", "90S")]);
    assert_eq!(limit.stream, Some(Some(Duration::from_secs(90))));
    let (limit, sent) = limits(most(10), &[("grpc-timeout", "90S")]);
    assert_eq!(
        (limit.stream, &sent.headers["grpc-timeout"]),
        (Some(Some(Duration::from_secs(10))), &"10000m".parse().unwrap())
    );
    assert_eq!(limits(most(10), &[]).0.stream, None);
    // What nobody can read counts for nothing, and goes on as it is.
    for unreadable in ["", "90", "S", "-1S", "123456789S", "1x"] {
        let (limit, sent) = limits(most(10), &[("grpc-timeout", unreadable)]);
        assert_eq!(
            (limit.stream, &sent.headers["grpc-timeout"]),
            (None, &unreadable.parse().unwrap())
        );
    }
}

#[test]
fn a_route_says_how_long_streams_last_or_that_they_last_for_ever_or_leaves_it_to_the_listener() {
    let said = |seconds: Option<i64>| {
        let action = RouteAction {
            max_stream_duration: Some(MaxStreamDuration {
                max_stream_duration: seconds.map(|seconds| protobuf::Duration { seconds, nanos: 0 }),
                ..MaxStreamDuration::default()
            }),
            ..to("c")
        };
        limits(action, &[("grpc-timeout", "1S")]).0.stream
    };
    assert_eq!(said(Some(7)), Some(Some(Duration::from_secs(7))));
    assert_eq!((said(Some(0)), said(None)), (Some(None), None));
}

#[test]
fn hashes_of_several_policies_are_rotated_and_put_together() {
    use culvert_envoy::pb::envoy::config::route::v3::route_action::hash_policy::{
        Cookie, Header, PolicySpecifier, QueryParameter,
    };
    use xxhash_rust::xxh64::xxh64;
    let policy = |specifier, terminal| culvert_envoy::pb::envoy::config::route::v3::route_action::HashPolicy {
        terminal,
        policy_specifier: Some(specifier),
    };
    let header = || {
        PolicySpecifier::Header(Header {
            header_name: "x".into(),
            regex_rewrite: None,
        })
    };
    let query = || PolicySpecifier::QueryParameter(QueryParameter { name: "q".into() });
    let hash = |policies, request: &Parts| {
        let action = RouteAction {
            hash_policy: policies,
            ..to("c")
        };
        let peer = Peer {
            address: Some("10.0.0.1:5".parse().unwrap()),
            ..Peer::default()
        };
        forward(&route_of(prefix("/"), route::Action::Route(action))).hash(request, &peer)
    };
    let asked = request("GET", "/?q=b", &[("x", "z"), ("x", "a")]);
    let of_header = xxh64(b"z", xxh64(b"a", 0));
    assert_eq!(hash(vec![policy(header(), false)], &asked).hash, Some(of_header));
    assert_eq!(
        hash(vec![policy(header(), false), policy(query(), false)], &asked).hash,
        Some(of_header.rotate_left(1) ^ xxh64(b"b", 0))
    );
    assert_eq!(
        hash(vec![policy(header(), true), policy(query(), false)], &asked).hash,
        Some(of_header)
    );
    assert_eq!(hash(vec![policy(query(), false)], &request("GET", "/", &[])).hash, None);
    let cookie = |ttl: Option<i64>| {
        PolicySpecifier::Cookie(Cookie {
            name: "who".into(),
            ttl: ttl.map(|seconds| protobuf::Duration { seconds, nanos: 0 }),
            path: "/".into(),
            attributes: vec![],
        })
    };
    let has = request("GET", "/", &[("cookie", "a=b; who=\"me\"")]);
    assert_eq!(
        hash(vec![policy(cookie(None), false)], &has).hash,
        Some(xxh64(b"me", 0))
    );
    assert!(
        hash(vec![policy(cookie(None), false)], &request("GET", "/", &[]))
            .cookie
            .is_none()
    );
    let made = hash(vec![policy(cookie(Some(60)), false)], &request("GET", "/", &[]))
        .cookie
        .unwrap();
    let text = made.value().to_str().unwrap().to_owned();
    assert!(
        text.starts_with("who=\"") && text.ends_with("\"; Max-Age=60; Path=/; HttpOnly"),
        "{text}"
    );
}

#[test]
fn a_table_finds_the_route_and_the_route_its_cluster() {
    let table = RouteTable::compile(&configuration(vec![virtual_host(
        &["*"],
        vec![named("r", prefix("/"), route::Action::Route(to("c")))],
    )]))
    .unwrap();
    let asked = request("GET", "/", &[]);
    let Found::Route(route) = table.find(&asked, &Peer::default()) else {
        panic!("no route")
    };
    assert_eq!(forward(&route).targets().choose(&asked, 1).unwrap().cluster(), "c");
}
