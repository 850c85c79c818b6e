//! Connections of TLS that are told apart by name, and their conditions.

use culvert_envoy::LISTENER_TYPE;
use culvert_envoy::pb::envoy::config::listener::v3::Listener;

use super::waypoints::{conditions, findings, get, shop};
use super::*;

const PORTS: &str =
    "ports: [{name: http, port: 80, targetPort: 8080}, {name: https, port: 443}, {name: other, port: 100}]";

fn tls_route(name: &str, port: u16, hostnames: &str, backend: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: TLSRoute\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{parentRefs: [{{group: '', kind: Service, name: web, port: {port}}}], hostnames: {hostnames}, \
         rules: [{{backendRefs: [{{name: {backend}, port: 80}}]}}]}}\n"
    )
}

/// Each chain of the waypoint: its name without the Service's, the protocol, and the names that it is for.
fn chains(model: &Model) -> Vec<String> {
    let inbound: Listener = get(model, LISTENER_TYPE, "shop/wp/inbound").unwrap();
    let chain = |chain: &culvert_envoy::pb::envoy::config::listener::v3::FilterChain| {
        let matched = chain.filter_chain_match.as_ref().unwrap();
        let name = chain.name.trim_start_matches("shop/web.shop.svc.cluster.local");
        format!(
            "{name} [{}] {}",
            matched.transport_protocol,
            matched.server_names.join(",")
        )
    };
    inbound.filter_chains.iter().map(chain).collect()
}

#[test]
fn names_of_tls_have_chains_of_their_own_and_the_rest_is_closed_unless_somebody_says_where_it_goes() {
    let shop = shop().replacen("ports: [{name: http, port: 80, targetPort: 8080}]", PORTS, 1);
    let first = tls_route("a", 443, "[a.example, '*.b.example']", "v1");
    let second = tls_route("b", 443, "[A.example, c.example]", "nobody");
    let mut world = World::of(&(shop + &first + &second + &tls_route("c", 80, "[a.example]", "v1")));
    let mut model = Model::default();
    model.update(&world.objects(), Instant::now());
    let named = [
        ":80 [] ".to_owned(),
        ":443 tls a.example [tls] a.example,*.b.example".to_owned(),
        ":443 tls c.example [tls] c.example".to_owned(),
    ];
    let others = [":100 [] ".to_owned(), ":100 tcp [] ".to_owned()];
    assert_eq!(chains(&model), [&named[..], &others[..]].concat());
    let accepted = ("Accepted", true, "Accepted");
    for (name, expected) in [
        ("a", [accepted, ("ResolvedRefs", true, "ResolvedRefs")]),
        ("b", [accepted, ("ResolvedRefs", false, "BackendNotFound")]),
        // HTTP is spoken there.
        (
            "c",
            [
                ("Accepted", false, "NoMatchingParent"),
                ("ResolvedRefs", true, "ResolvedRefs"),
            ],
        ),
    ] {
        assert_eq!(conditions(&model, Kind::TLSRoute, "shop", name), expected, "{name}");
    }

    // A TCPRoute says where the rest goes, of TLS and of anything else.
    let tcp = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: TCPRoute\nmetadata: {name: rest, namespace: shop}\n\
        spec: {parentRefs: [{group: '', kind: Service, name: web, port: 443}], rules: [{backendRefs: [{name: v2, port: 80}]}]}\n";
    world.apply(tcp);
    model.update(&world.objects(), Instant::now());
    let rest = [":443 tls * [tls] ".to_owned(), ":443 [raw_buffer] ".to_owned()];
    assert_eq!(chains(&model), [&named[..], &rest[..], &others[..]].concat());
}

#[test]
fn a_virtual_service_names_hosts_of_tls_and_what_cannot_be_read_of_it_is_closed() {
    let shop = shop().replacen("ports: [{name: http, port: 80, targetPort: 8080}]", PORTS, 1);
    let object = |rules: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: r, namespace: shop}}\n\
             spec: {{hosts: [web], tls: {rules}}}\n"
        )
    };
    let good = "[{match: [{sniHosts: [a.example, '*.b.example'], port: 100}], route: [{destination: {host: v1}}]}]";
    let mut world = World::of(&(shop + &object(good)));
    let mut model = Model::default();
    model.update(&world.objects(), Instant::now());
    assert!(model.findings().is_empty(), "{:?}", model.findings());
    let expected = [
        ":80 [] ",
        ":443 [] ",
        ":100 [raw_buffer] ",
        ":100 tls a.example [tls] a.example,*.b.example",
    ];
    assert_eq!(chains(&model), expected);
    for bad in [
        "[{route: [{destination: {host: v1}}]}]",
        "[{match: [{port: 443}], route: [{destination: {host: v1}}]}]",
        "[{match: [{sniHosts: ['a b']}], route: [{destination: {host: v1}}]}]",
    ] {
        world.apply(&object(bad));
        model.update(&world.objects(), Instant::now());
        let found = chains(&model);
        assert!(found.contains(&":443 tls * [tls] ".to_owned()), "{found:?}");
        let said = findings(&model).join("\n");
        assert!(
            said.contains("connections of TLS that may be meant are closed"),
            "{said}"
        );
    }
}
