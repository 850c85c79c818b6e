//! What routes do to header fields.

use super::*;

fn set(name: &str, value: &str, append_action: i32) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(PbHeader {
            key: name.to_owned(),
            value: value.to_owned(),
            ..PbHeader::default()
        }),
        append_action,
        ..HeaderValueOption::default()
    }
}

fn leveled(most_specific: bool) -> Arc<Route> {
    let weight = ClusterWeight {
        name: "c".to_owned(),
        weight: number(1),
        request_headers_to_add: vec![set("x", "weight", 0)],
        ..ClusterWeight::default()
    };
    let action = RouteAction {
        cluster_specifier: Some(ClusterSpecifier::WeightedClusters(WeightedCluster {
            clusters: vec![weight],
            ..WeightedCluster::default()
        })),
        ..RouteAction::default()
    };
    let mut route = named("r", prefix("/"), route::Action::Route(action));
    route.request_headers_to_add = vec![set("x", "route", 0)];
    let mut host = virtual_host(&["*"], vec![route]);
    host.request_headers_to_add = vec![set("x", "host", 0)];
    let mut table = configuration(vec![host]);
    table.request_headers_to_add = vec![set("x", "table", 0)];
    table.most_specific_header_mutations_wins = most_specific;
    only(&table)
}

#[test]
fn levels_of_fields_come_in_envoys_order() {
    let order = |most_specific| {
        let sent = sent(&leveled(most_specific), request("GET", "/", &[]));
        let values: Vec<String> = sent
            .headers
            .get_all("x")
            .iter()
            .map(|value| value.to_str().unwrap().to_owned())
            .collect();
        values.join(",")
    };
    assert_eq!(order(false), "weight,route,host,table");
    assert_eq!(order(true), "weight,table,host,route");
}

#[test]
fn fields_are_removed_before_they_are_added_and_commands_are_filled_in() {
    let mut route = named("r", prefix("/"), route::Action::Route(to("c")));
    route.request_headers_to_remove = vec!["a".to_owned()];
    route.request_headers_to_add = vec![
        set("a", "50%% %REQ(x)%", 2),
        set("b", "%REQ(none)%", 2),
        set("c", "new", 1),
        set("d", "new", 3),
        set("p", "%REQ(:path)%", 2),
    ];
    route.response_headers_to_add = vec![set("p", "%REQ(:path)%", 2)];
    if let Some(route::Action::Route(action)) = &mut route.action {
        action.prefix_rewrite = "/new".to_owned();
    }
    let route = only(&configuration(vec![virtual_host(&["*"], vec![route])]));
    let sent = sent(
        &route,
        request("GET", "/", &[("a", "old"), ("x", "1"), ("x", "2"), ("c", "old")]),
    );
    assert_eq!(sent.headers["a"], "50% 1");
    assert_eq!(
        (&sent.headers["c"], &sent.headers["p"]),
        (&"old".parse().unwrap(), &"/".parse().unwrap())
    );
    assert!(!sent.headers.contains_key("b") && !sent.headers.contains_key("d"));
    let mut response = Response::new(()).into_parts().0;
    route.rewrite_response(&mut response, &sent, &Peer::default(), None);
    assert_eq!(response.headers["p"], "/new");
}

#[test]
fn hosts_pseudo_fields_and_lone_percent_signs_are_refused_at_load() {
    for (name, value) in [
        ("host", "a"),
        (":path", "a"),
        ("x", "50%"),
        ("x", "%NOPE%"),
        ("x", "a\nb"),
    ] {
        let mut route = named("r", prefix("/"), route::Action::Route(to("c")));
        route.request_headers_to_add = vec![set(name, value, 2)];
        assert!(
            RouteTable::compile(&configuration(vec![virtual_host(&["*"], vec![route])])).is_err(),
            "{name}: {value:?}"
        );
    }
}
