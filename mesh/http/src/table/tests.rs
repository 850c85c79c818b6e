//! Which route a request takes.

use culvert_envoy::PEER_PRINCIPAL;
use culvert_envoy::pb::envoy::config::route::v3::{
    HeaderMatcher, InternalRedirectPolicy, QueryParameterMatcher, RouteMatch, header_matcher::HeaderMatchSpecifier,
    query_parameter_matcher::QueryParameterMatchSpecifier, route, route_match::ConnectMatcher,
    route_match::PathSpecifier,
};
use culvert_envoy::pb::envoy::r#type::matcher::v3::{FilterStateMatcher, filter_state_matcher};
use culvert_envoy::pb::google::protobuf::BoolValue;

use super::*;
use crate::testing::{configuration, exact, named, path, prefix, regex, request, to, virtual_host};

fn table(matchers: Vec<RouteMatch>) -> RouteTable {
    let routes = matchers.into_iter().enumerate();
    let routes = routes
        .map(|(index, matcher)| named(&index.to_string(), matcher, route::Action::Route(to("c"))))
        .collect();
    RouteTable::compile(&configuration(vec![virtual_host(&["*"], routes)])).unwrap()
}

fn name(table: &RouteTable, request: &Parts) -> Option<String> {
    match table.find(request, &Peer::default()) {
        Found::Route(route) => Some(route.name().to_owned()),
        Found::NoRoute => None,
    }
}

fn get(table: &RouteTable, uri: &str) -> Option<String> {
    name(table, &request("GET", uri, &[("host", "h")]))
}

fn fits(matcher: RouteMatch, request: &Parts) -> bool {
    name(&table(vec![matcher]), request).is_some()
}

fn with_header(header: HeaderMatcher) -> RouteMatch {
    RouteMatch {
        headers: vec![header],
        ..prefix("/")
    }
}

fn header(name: &str, specifier: HeaderMatchSpecifier) -> HeaderMatcher {
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(specifier),
        ..HeaderMatcher::default()
    }
}

#[test]
fn the_first_route_that_matches_counts_whatever_kind_it_is() {
    let table = table(vec![
        path(PathSpecifier::Path("/a".into())),
        prefix("/ab"),
        path(PathSpecifier::SafeRegex(regex("/x/[0-9]+"))),
        prefix("/x/"),
        prefix("/"),
        path(PathSpecifier::Path("/late".into())),
    ]);
    let found = ["/a", "/a/", "/ab", "/abc", "/x/1", "/x/y", "/late", "/a?q"].map(|uri| get(&table, uri).unwrap());
    assert_eq!(found, ["0", "4", "1", "1", "2", "3", "4", "0"]);
}

#[test]
fn a_separated_prefix_ends_with_the_path_or_before_a_slash() {
    let table = table(vec![path(PathSpecifier::PathSeparatedPrefix("/api".into()))]);
    assert!(
        ["/api", "/api/", "/api?x", "/api/x"]
            .iter()
            .all(|uri| get(&table, uri).is_some())
    );
    assert!(["/apix", "/API", "/"].iter().all(|uri| get(&table, uri).is_none()));
    for bad in ["/api/", "/", "api"] {
        let routes = vec![named(
            "r",
            path(PathSpecifier::PathSeparatedPrefix(bad.into())),
            route::Action::Route(to("c")),
        )];
        assert!(
            RouteTable::compile(&configuration(vec![virtual_host(&["*"], routes)])).is_err(),
            "{bad}"
        );
    }
}

#[test]
fn matches_can_ignore_case() {
    let blind = |specifier| RouteMatch {
        case_sensitive: Some(BoolValue { value: false }),
        ..path(specifier)
    };
    let table = table(vec![
        blind(PathSpecifier::Prefix("/Menu".into())),
        blind(PathSpecifier::Path("/Exact".into())),
    ]);
    assert_eq!(get(&table, "/mENU/x").unwrap(), "0");
    assert_eq!(get(&table, "/exact").unwrap(), "1");
    assert_eq!(get(&table, "/exact/"), None);
}

#[test]
fn the_index_finds_what_a_walk_over_all_routes_finds() {
    let pieces = ["/", "/a", "/a/", "/a/b", "/a/bc", "/a/b/c", "/ab", "/b", "/b/1", "/A/b"];
    let mut state = 7_u64;
    let mut draw = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    for _ in 0..300 {
        let matchers: Vec<RouteMatch> = (0..draw(12) + 1)
            .map(|_| {
                let piece = pieces[draw(pieces.len())].to_owned();
                let mut matcher = match draw(4) {
                    0 => path(PathSpecifier::Path(piece)),
                    1 => prefix(&piece),
                    2 if piece.len() > 1 && !piece.ends_with('/') => path(PathSpecifier::PathSeparatedPrefix(piece)),
                    _ => path(PathSpecifier::SafeRegex(regex(&format!("{piece}.?")))),
                };
                if draw(3) == 0 {
                    matcher.case_sensitive = Some(BoolValue { value: false });
                }
                if draw(4) == 0 {
                    matcher.headers = vec![header("x", HeaderMatchSpecifier::PresentMatch(true))];
                }
                matcher
            })
            .collect();
        let table = table(matchers);
        for uri in pieces {
            for headers in [&[][..], &[("x", "1")][..]] {
                let request = request("GET", uri, headers);
                let walk = table
                    .routes()
                    .find(|route| route.matcher.matches(&request, &Peer::default()));
                assert_eq!(
                    name(&table, &request),
                    walk.map(|route| route.name().to_owned()),
                    "{uri} in {table:?}"
                );
            }
        }
    }
}

#[test]
fn each_line_of_a_field_is_matched_by_itself_but_fixed_slots_are_joined() {
    let lines = request("GET", "/", &[("x", "a"), ("x", "b"), ("accept", "a"), ("accept", "b")]);
    let text = |name: &str, value: &str| header(name, HeaderMatchSpecifier::StringMatch(exact(value)));
    assert!(fits(with_header(text("x", "a")), &lines) && !fits(with_header(text("x", "a,b")), &lines));
    assert!(fits(with_header(text("accept", "a,b")), &lines) && !fits(with_header(text("accept", "a")), &lines));
    let inverted = |value: &str| HeaderMatcher {
        invert_match: true,
        ..text("x", value)
    };
    assert!(!fits(with_header(inverted("a")), &lines) && fits(with_header(inverted("c")), &lines));
}

#[test]
fn an_absent_field_matches_nothing_inverted_or_not() {
    let bare = request("GET", "/", &[]);
    let text = header("x", HeaderMatchSpecifier::StringMatch(exact("")));
    let inverted = HeaderMatcher {
        invert_match: true,
        ..header("x", HeaderMatchSpecifier::StringMatch(exact("e")))
    };
    assert!(!fits(with_header(text.clone()), &bare) && !fits(with_header(inverted.clone()), &bare));
    let as_empty = |matcher: HeaderMatcher| HeaderMatcher {
        treat_missing_header_as_empty: true,
        ..matcher
    };
    assert!(fits(with_header(as_empty(text)), &bare) && fits(with_header(as_empty(inverted)), &bare));
    assert!(fits(
        with_header(header("x", HeaderMatchSpecifier::PresentMatch(false))),
        &bare
    ));
    assert!(!fits(
        with_header(header("x", HeaderMatchSpecifier::PresentMatch(true))),
        &bare
    ));
}

#[test]
fn method_host_and_scheme_are_matched_as_fields() {
    let post = request("POST", "http://web.shop/x?y", &[("host", "other")]);
    let is = |name: &str, value: &str| {
        fits(
            with_header(header(name, HeaderMatchSpecifier::StringMatch(exact(value)))),
            &post,
        )
    };
    assert!(is(":method", "POST") && is(":authority", "web.shop") && is(":scheme", "http") && is(":path", "/x?y"));
    assert!(!is(":method", "post"));
}

#[test]
fn only_the_first_of_two_query_parameters_counts_and_nothing_is_decoded() {
    let query = |name: &str, value: &str| RouteMatch {
        query_parameters: vec![QueryParameterMatcher {
            name: name.to_owned(),
            query_parameter_match_specifier: Some(QueryParameterMatchSpecifier::StringMatch(exact(value))),
        }],
        ..prefix("/")
    };
    let is = |name: &str, value: &str, uri: &str| fits(query(name, value), &request("GET", uri, &[]));
    assert!(is("x", "1", "/?x=1&x=2") && !is("x", "2", "/?x=1&x=2") && !is("X", "1", "/?x=1"));
    assert!(is("x", "%31+", "/?x=%31+") && !is("x", "1", "/?x") && !is("x", "1", "/"));
}

#[test]
fn connect_is_matched_by_connect_alone_and_options_star_by_no_prefix() {
    let connect = request("CONNECT", "h:80", &[]);
    assert!(!fits(prefix("/"), &connect) && fits(path(PathSpecifier::ConnectMatcher(ConnectMatcher {})), &connect));
    assert!(!fits(prefix("/"), &request("OPTIONS", "*", &[])));
}

#[test]
fn routes_can_be_for_some_clients_alone() {
    let matcher = RouteMatch {
        filter_state: vec![FilterStateMatcher {
            key: PEER_PRINCIPAL.to_owned(),
            matcher: Some(filter_state_matcher::Matcher::StringMatch(exact(
                "spiffe://a/ns/b/sa/c",
            ))),
        }],
        ..prefix("/")
    };
    let table = table(vec![matcher]);
    let found = |principal| {
        let peer = Peer {
            principal,
            ..Peer::default()
        };
        matches!(table.find(&request("GET", "/", &[]), &peer), Found::Route(_))
    };
    assert!(found(Some("spiffe://a/ns/b/sa/c")) && !found(Some("spiffe://a/ns/b/sa/d")) && !found(None));
}

#[test]
fn the_virtual_host_is_the_exact_one_then_the_longest_suffix_then_the_longest_prefix_then_any() {
    let domains = ["a.b.c", "*.c", "*.b.c", "a.*", "a.b.*", "*"];
    let host = |domain: &&str| {
        virtual_host(
            &[*domain],
            vec![named(domain, prefix("/"), route::Action::Route(to("c")))],
        )
    };
    let table = RouteTable::compile(&configuration(domains.iter().map(host).collect())).unwrap();
    let at = |host: &str| name(&table, &request("GET", "/", &[("host", host)])).unwrap();
    let found = [
        "A.B.c", "x.b.c", "x.c", "a.b.d", "a.x", ".b.c", "a.b.c:80", "a.b.c.", "z",
    ]
    .map(at);
    assert_eq!(
        found,
        ["a.b.c", "*.b.c", "*.c", "a.b.*", "a.*", "*.c", "a.b.*", "a.b.*", "*"]
    );
}

#[test]
fn ports_are_left_out_of_the_choice_if_told_so() {
    let mut configuration = configuration(vec![virtual_host(
        &["a.b"],
        vec![named("r", prefix("/"), route::Action::Route(to("c")))],
    )]);
    configuration.ignore_port_in_host_matching = true;
    let table = RouteTable::compile(&configuration).unwrap();
    assert!(name(&table, &request("GET", "/", &[("host", "a.b:80")])).is_some());
}

#[test]
fn duplicate_domains_are_refused_whatever_their_case() {
    let twice = configuration(vec![virtual_host(&["a.b"], vec![]), virtual_host(&["A.b"], vec![])]);
    assert!(
        RouteTable::compile(&twice)
            .unwrap_err()
            .to_string()
            .contains("there twice")
    );
    assert!(
        RouteTable::compile(&configuration(vec![
            virtual_host(&["a"], vec![]),
            virtual_host(&["b"], vec![])
        ]))
        .is_ok()
    );
}

#[test]
fn what_is_not_served_is_refused_by_virtual_host_route_and_field() {
    let mut action = to("c");
    action.prefix_rewrite = "/x".to_owned();
    action.internal_redirect_policy = Some(InternalRedirectPolicy::default());
    let routes = vec![named("checkout", prefix("/"), route::Action::Route(action))];
    let error = RouteTable::compile(&configuration(vec![virtual_host(&["shop"], routes)]))
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        r#"virtual host "shop": route "checkout": route: internal_redirect_policy: is not served"#
    );
    let routes = vec![named(
        "r",
        path(PathSpecifier::SafeRegex(regex("a**"))),
        route::Action::Route(to("c")),
    )];
    let error = RouteTable::compile(&configuration(vec![virtual_host(&["shop"], routes)]))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("safe_regex: regex: ") && error.contains("a**"),
        "{error}"
    );
}
