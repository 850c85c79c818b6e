//! What routes come to, as their status says it.

use super::*;

const PARENTS: &str = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: wp, namespace: shop}\n\
    spec: {gatewayClassName: culvert-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}\n\
    ---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: edge, namespace: shop}\n\
    spec: {gatewayClassName: nginx, listeners: [{name: http, port: 80, protocol: HTTP}]}\n\
    ---\napiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop, labels: {culvert.dev/use-waypoint: wp}}\n\
    spec: {clusterIP: 198.19.0.1, ports: [{name: http, port: 80}]}\n";

fn route(namespace: &str, parents: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}}}\n\
         ---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n\
         metadata: {{name: a, namespace: {namespace}, generation: 7}}\nspec: {{parentRefs: {parents}, \
         rules: [{{backendRefs: [{{name: web, namespace: shop, port: 80}}]}}]}}\n"
    )
}

fn status(model: &Model, namespace: &str) -> Option<RouteStatus> {
    model.route_status(Kind::HTTPRoute, &ObjectName::new(namespace, "a"))
}

/// linkerd/linkerd2#10956: a route in the client's namespace is for these clients alone, and its status is on the parent.
#[test]
fn a_route_of_the_clients_namespace_has_its_status_at_the_service_of_another() {
    let parents = "[{group: '', kind: Service, name: web, namespace: shop, port: 80}]";
    let model = made(&(PARENTS.to_owned() + &route("client", parents)));
    let status = status(&model, "client").unwrap();
    assert_eq!(status.generation, Some(7));
    let [parent] = status.parents.as_slice() else {
        panic!("{status:?}")
    };
    assert_eq!(
        (parent.namespace.as_deref(), &*parent.name, parent.port),
        (Some("shop"), "web", Some(80))
    );
    assert!(parent.conditions.iter().all(|condition| condition.holds), "{parent:?}");
}

#[test]
fn a_gateway_is_ours_to_speak_of_where_it_is_a_waypoint_and_no_parent_of_a_route() {
    let parents = "[{name: wp}, {name: edge}, {group: '', kind: Service, name: web}]";
    let model = made(&(PARENTS.to_owned() + &route("shop", parents)));
    let status = status(&model, "shop").unwrap();
    let said: Vec<(&str, &str, &str)> = status
        .parents
        .iter()
        .map(|parent| (&*parent.kind, &*parent.name, parent.conditions[0].reason))
        .collect();
    assert_eq!(
        said,
        [
            ("Gateway", "wp", "NotAllowedByListeners"),
            ("Service", "web", "Accepted")
        ]
    );
    let informs = model.findings().keys().filter(|finding| !finding.severity.departs());
    let fields: Vec<_> = informs.filter_map(|finding| finding.field.as_deref()).collect();
    assert!(fields.contains(&"spec.parentRefs[1]"), "{fields:?}");
}

/// Nobody else would say so, and whoever wrote them would wait.
#[test]
fn what_is_not_served_is_not_accepted_where_its_parent_is_ours_and_left_to_others_where_it_is_not() {
    let of = |kind: &str, name: &str, spec: &str| {
        format!(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\n\
             metadata: {{name: {name}, namespace: shop, generation: 3}}\nspec: {spec}\n"
        )
    };
    let experimental = |kind: &str, name: &str, targets: &str| {
        of(kind, name, &format!("{{targetRefs: {targets}}}")).replacen(
            "networking.k8s.io/v1",
            "networking.x-k8s.io/v1alpha1",
            1,
        )
    };
    let outside = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: outside}\n";
    let parents = "{parentRefs: [{name: wp, port: 53}, {name: edge}, {group: '', kind: Service, name: web, sectionName: http}, \
        {group: '', kind: Service, name: web, namespace: outside}, {}]}";
    let text = PARENTS.to_owned()
        + outside
        + &of("UDPRoute", "dns", parents)
        + &of("ListenerSet", "ours", "{parentRef: {name: wp}}")
        + &of("ListenerSet", "other", "{parentRef: {name: edge}}")
        + &experimental(
            "XBackendTrafficPolicy",
            "sessions",
            "[{group: '', kind: Service, name: web}]",
        )
        + &experimental(
            "XTelemetryPolicy",
            "traces",
            "[{group: gateway.networking.k8s.io, kind: Gateway, name: edge}, {group: gateway.networking.k8s.io, kind: Gateway, name: wp}]",
        );
    let mut world = World::of(&(SHOP.to_owned() + &text));
    let mut model = Model::default();
    model.update(&world.objects(), Instant::now());
    let said = |model: &Model, kind: Kind, name: &str| {
        let status = model.route_status(kind, &ObjectName::new("shop", name)).unwrap();
        assert_eq!(status.generation, Some(3));
        let of_parent = |parent: &ParentStatus| {
            let conditions = parent.conditions.iter();
            let conditions = conditions.map(|said| {
                assert!(
                    !said.holds && said.message.contains(&format!("{kind} is not served: ")),
                    "{said:?}"
                );
                (said.kind, said.reason)
            });
            (
                parent.name.clone(),
                parent.port,
                parent.section.clone(),
                conditions.collect::<Vec<_>>(),
            )
        };
        status.parents.iter().map(of_parent).collect::<Vec<_>>()
    };
    let refused = || vec![("Accepted", "UnsupportedValue")];
    assert_eq!(
        said(&model, Kind::UDPRoute, "dns"),
        [
            ("wp".to_owned(), Some(53), None, refused()),
            ("web".to_owned(), None, Some("http".to_owned()), refused()),
        ]
    );
    assert_eq!(
        said(&model, Kind::ListenerSet, "ours"),
        [(
            "wp".to_owned(),
            None,
            None,
            vec![("Accepted", "NotAllowed"), ("Programmed", "Invalid")]
        )]
    );
    assert_eq!(said(&model, Kind::ListenerSet, "other"), []);
    for (kind, name, target) in [
        (Kind::XBackendTrafficPolicy, "sessions", "web"),
        (Kind::XTelemetryPolicy, "traces", "wp"),
    ] {
        let invalid = vec![("Accepted", "Invalid")];
        assert_eq!(said(&model, kind, name), [(target.to_owned(), None, None, invalid)]);
    }
    world.assembly.remove(Kind::Gateway, &ObjectName::new("shop", "wp"));
    model.update(&world.objects(), Instant::now());
    assert_eq!(
        said(&model, Kind::UDPRoute, "dns").len(),
        1,
        "a Gateway that is gone is nobody's"
    );
    assert_eq!(said(&model, Kind::ListenerSet, "ours"), []);
}

#[test]
fn a_status_follows_its_parents_and_goes_with_the_route() {
    let with = PARENTS.to_owned() + &route("shop", "[{group: '', kind: Service, name: web}]");
    let mut world = World::of(&(SHOP.to_owned() + &with));
    let mut model = Model::default();
    model.update(&world.objects(), Instant::now());
    let accepted = |model: &Model| status(model, "shop").map(|status| status.parents[0].conditions[0].holds);
    assert_eq!(accepted(&model), Some(true));
    world.assembly.remove(Kind::Gateway, &ObjectName::new("shop", "wp"));
    model.update(&world.objects(), Instant::now());
    assert_eq!(accepted(&model), Some(false), "no waypoint takes the Service");
    world.assembly.remove(Kind::HTTPRoute, &ObjectName::new("shop", "a"));
    model.update(&world.objects(), Instant::now());
    assert_eq!(accepted(&model), None);
    assert!(model.routes().is_empty());
}

fn pair() -> String {
    let parents = "[{group: '', kind: Service, name: web}]";
    let http = route("shop", parents);
    let grpc = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {name: calls, namespace: shop}\n\
        spec: {parentRefs: [{group: '', kind: Service, name: web}], rules: [{matches: [{method: {service: a.B}}], \
        backendRefs: [{name: web, port: 80}]}]}\n";
    PARENTS.to_owned() + &http + grpc
}

/// GEP-1426, "Route types": of several kinds at one port one is applied.
#[test]
fn of_routes_of_two_kinds_at_a_port_grpcs_are_in_force_and_the_others_once_these_are_gone() {
    let mut world = World::of(&pair());
    let mut model = Model::default();
    model.update(&world.objects(), Instant::now());
    let said = |model: &Model, kind: Kind, name: &str| {
        let status = model.route_status(kind, &ObjectName::new("shop", name)).unwrap();
        (
            status.parents[0].conditions[0].holds,
            status.parents[0].conditions[0].reason,
        )
    };
    assert_eq!(said(&model, Kind::GRPCRoute, "calls"), (true, "Accepted"));
    assert_eq!(said(&model, Kind::HTTPRoute, "a"), (false, "Conflicted"));
    let rules = |model: &Model| {
        let rules = model.rules(&ObjectName::new("shop", "web")).unwrap();
        let rules = rules.ports[0].hosts[0].rules.iter();
        rules
            .map(|rule| rule.object.clone().unwrap_or_default())
            .collect::<Vec<_>>()
    };
    assert_eq!(rules(&model), ["GRPCRoute shop/calls"]);
    world
        .assembly
        .remove(Kind::GRPCRoute, &ObjectName::new("shop", "calls"));
    model.update(&world.objects(), Instant::now());
    assert_eq!(said(&model, Kind::HTTPRoute, "a"), (true, "Accepted"));
    assert_eq!(rules(&model), ["HTTPRoute shop/a"]);
}

#[test]
fn a_rule_that_gets_no_request_is_said_in_the_status_of_its_route() {
    let rules = "[{backendRefs: [{name: web, port: 80}]}, {matches: [{path: {value: /}}], backendRefs: [{name: web, port: 80}]}]";
    let text = format!(
        "---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: shop}}\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n\
         metadata: {{name: a, namespace: shop}}\nspec: {{parentRefs: [{{group: '', kind: Service, name: web}}], rules: {rules}}}\n"
    );
    let model = made(&(PARENTS.to_owned() + &text));
    let status = status(&model, "shop").unwrap();
    let message = &status.parents[0].conditions[0].message;
    let expected = "rule 1 never matches, since HTTPRoute shop/a[0] comes first";
    assert!(message.contains(expected), "{message}");
}
