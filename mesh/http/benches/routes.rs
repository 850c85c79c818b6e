//! What it costs to find the route of a request among 10,000: by an exact path, by a prefix, by a regular expression, behind all of them,
//! and where nothing matches. Nothing is allocated but the count of a reference. A waypoint does this once a request.

use culvert_bench_cases::Cases;
use culvert_envoy::pb::envoy::config::route::v3::{
    Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost, route, route_action::ClusterSpecifier,
    route_match::PathSpecifier,
};
use culvert_envoy::pb::envoy::r#type::matcher::v3::RegexMatcher;
use culvert_http::{Found, Peer, RouteTable};
use http::Request;
use std::hint::black_box;

const ROUTES: usize = 10_000;

fn table(routes: usize) -> RouteTable {
    let specifier = |number: usize| match number % 3 {
        0 => PathSpecifier::Path(format!("/exact/{number}")),
        1 => PathSpecifier::PathSeparatedPrefix(format!("/prefix/{number}")),
        _ => PathSpecifier::SafeRegex(RegexMatcher {
            regex: format!("/regex/{number}/[a-z]+"),
            ..RegexMatcher::default()
        }),
    };
    let route = |number: usize| Route {
        name: number.to_string(),
        r#match: Some(RouteMatch {
            path_specifier: Some(specifier(number)),
            ..RouteMatch::default()
        }),
        action: Some(route::Action::Route(RouteAction {
            cluster_specifier: Some(ClusterSpecifier::Cluster("c".to_owned())),
            ..RouteAction::default()
        })),
        ..Route::default()
    };
    let host = VirtualHost {
        name: "any".to_owned(),
        domains: vec!["*".to_owned()],
        routes: (0..routes).map(route).collect(),
        ..VirtualHost::default()
    };
    RouteTable::compile(&RouteConfiguration {
        virtual_hosts: vec![host],
        ..RouteConfiguration::default()
    })
    .unwrap_or_else(|error| panic!("{error}"))
}

fn find(cases: &mut Cases) {
    let table = table(cases.size(ROUTES));
    for (name, path) in [
        ("exact", "/exact/600"),
        ("prefix", "/prefix/502/and/more"),
        ("regex", "/regex/500/abc"),
        ("nothing", "/nothing/here"),
    ] {
        let request = Request::get(path).header("host", "web").body(());
        let (request, ()) = request.unwrap_or_else(|error| panic!("{error}")).into_parts();
        assert_eq!(
            matches!(table.find(&request, &Peer::default()), Found::NoRoute),
            name == "nothing",
            "{name}"
        );
        cases.case(&format!("find/{name}"), || {
            table.find(black_box(&request), &Peer::default())
        });
    }
}

fn main() {
    culvert_bench_cases::main(&[find]);
}
