//! What goes through a waypoint, as its label `istio.io/waypoint-for` says it.

use culvert_objects::Severity;

use super::*;

const CLASS: &str = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\n\
    metadata: {name: culvert-waypoint, labels: {istio.io/waypoint-for: workload}}\n\
    spec: {controllerName: culvert.dev/controller}\n";

/// The waypoint, with a label of this value unless that is empty.
fn waypoint(purpose: &str) -> String {
    match purpose {
        "" => WAYPOINT.to_owned(),
        _ => WAYPOINT.replace(
            "namespace: shop}",
            &format!("namespace: shop, labels: {{istio.io/waypoint-for: {purpose}}}}}"),
        ),
    }
}

const POD: &str = "---\napiVersion: v1\nkind: Pod\n\
    metadata: {name: own, namespace: shop, labels: {culvert.dev/use-waypoint: wp}}\n\
    spec: {nodeName: n1}\nstatus: {podIP: 198.18.0.7, conditions: [{type: Ready, status: 'True'}]}\n";

/// Whether the Service and the pod are reached through the waypoint, and which objects have findings.
fn reached(yaml: &str) -> (bool, bool, Vec<(String, Severity)>) {
    let model = made(&(yaml.to_owned() + &service("web", "198.19.0.1", BEHIND) + POD));
    let service = match model
        .addresses()
        .remove("shop/web.shop.svc.cluster.local")
        .unwrap()
        .r#type
    {
        Some(address::Type::Service(service)) => service.waypoint.is_some(),
        other => panic!("{other:?}"),
    };
    let pod = workload(&model, "Kubernetes//Pod/shop/own").waypoint.is_some();
    let findings = model
        .findings()
        .keys()
        .map(|finding| (finding.object.clone().unwrap(), finding.severity));
    (service, pod, findings.collect())
}

#[test]
fn a_waypoint_has_what_its_gateway_or_else_its_class_says_and_what_asks_in_vain_is_a_finding() {
    let service = ("Service shop/web".to_owned(), Severity::Error);
    let pod = ("Pod shop/own".to_owned(), Severity::Warning);
    assert_eq!(reached(&waypoint("")), (true, false, vec![pod.clone()]));
    assert_eq!(reached(&waypoint("service")), (true, false, vec![pod.clone()]));
    assert_eq!(reached(&waypoint("workload")), (false, true, vec![service.clone()]));
    assert_eq!(reached(&waypoint("all")), (true, true, vec![]));
    let (services, pods, findings) = reached(&waypoint("none"));
    assert!(!services && !pods && findings.contains(&service) && findings.contains(&pod));
    assert_eq!(reached(&(waypoint("") + CLASS)), (false, true, vec![service.clone()]));
    assert_eq!(
        reached(&(waypoint("service") + CLASS)),
        (true, false, vec![pod.clone()])
    );
}

/// A misspelt word must not open what is behind the waypoint.
#[test]
fn a_word_that_nobody_knows_refuses_what_asks_for_the_waypoint() {
    let yaml = waypoint("services");
    let (service, pod, findings) = reached(&yaml);
    assert!(service && pod, "node proxies lead there");
    assert_eq!(findings, [("Gateway shop/wp".to_owned(), Severity::Error)]);
    let model = made(&(yaml + &self::service("web", "198.19.0.1", BEHIND)));
    let inbound: Option<Listener> = get(&model, LISTENER_TYPE, "shop/wp/inbound");
    assert_eq!(inbound, None, "where nothing is let on");
}

#[test]
fn the_waypoint_of_a_namespace_has_its_pods_only_where_it_says_so() {
    let home = SHOP.replace(
        "culvert.dev/mesh: ambient",
        "culvert.dev/mesh: ambient, istio.io/use-waypoint: wp",
    );
    for (purpose, service_is, pod_is) in [
        ("", true, false),
        ("all", true, true),
        ("workload", false, true),
        ("none", false, false),
    ] {
        let yaml =
            home.clone() + &waypoint(purpose) + &service("web", "198.19.0.1", "") + &pod("alone", "198.18.0.7", "");
        let mut model = Model::default();
        model.update(&World::of(&yaml).objects(), Instant::now());
        let found = model.addresses().remove("shop/web.shop.svc.cluster.local").unwrap();
        let Some(address::Type::Service(service)) = found.r#type else {
            panic!("{found:?}")
        };
        let own = workload(&model, "Kubernetes//Pod/shop/alone").waypoint;
        assert_eq!(
            (service.waypoint.is_some(), own.is_some()),
            (service_is, pod_is),
            "{purpose}"
        );
        assert_eq!(model.findings().len(), 0, "{purpose}");
    }
}

#[test]
fn a_label_that_changes_counts_at_once() {
    let mut world = World::of(&(SHOP.to_owned() + WAYPOINT + POD));
    let mut model = Model::default();
    model.update(&world.objects(), Instant::now());
    let own = |model: &Model| workload(model, "Kubernetes//Pod/shop/own").waypoint.is_some();
    assert!(!own(&model));
    world.apply(&waypoint("all"));
    model.update(&world.objects(), Instant::now());
    assert!(own(&model));
}

/// Its own label is what a pod of no Service has.
#[test]
fn a_pod_that_asks_for_a_waypoint_is_served_by_it_at_its_ports_and_addresses() {
    let ports = "spec: {nodeName: n1, containers: [{name: c, ports: [{name: http, containerPort: 8080}, {containerPort: 9000}]}]}";
    let labelled = POD.replace("spec: {nodeName: n1}", ports);
    for class in ["culvert-waypoint", "culvert-envoy"] {
        let waypoint = waypoint("workload").replace("culvert-waypoint", class);
        let model = made(&(waypoint + &labelled));
        let inbound: Listener = get(&model, LISTENER_TYPE, "shop/wp/inbound").unwrap();
        let chains = inbound.filter_chains.iter().map(|chain| {
            let matched = chain.filter_chain_match.as_ref().unwrap();
            let ranges = matched.prefix_ranges.iter().map(|range| range.address_prefix.as_str());
            let port = matched.destination_port.as_ref().unwrap().value;
            (chain.name.as_str(), port, ranges.collect::<Vec<_>>())
        });
        let at = vec!["198.18.0.7"];
        assert_eq!(
            chains.collect::<Vec<_>>(),
            [
                ("shop/own.shop.pod:8080", 8080, at.clone()),
                ("shop/own.shop.pod:9000", 9000, at.clone()),
                ("shop/own.shop.pod:9000 tcp", 9000, at),
            ]
        );
        for port in [8080, 9000] {
            let name = format!("shop/wp/shop/own.shop.pod:{port}");
            let routes: RouteConfiguration = get(&model, ROUTE_TYPE, &name).unwrap();
            assert_eq!(routes.virtual_hosts[0].domains, ["*"]);
            assert!(get::<Cluster>(&model, CLUSTER_TYPE, &name).is_some());
            let made: ClusterLoadAssignment = get(&model, ENDPOINT_TYPE, &name).unwrap();
            assert_eq!(made.endpoints[0].lb_endpoints.len(), 1);
        }
    }
}

/// The Service's policies decide there, and one waypoint does not know what is asked of another.
#[test]
fn a_pods_own_waypoint_does_not_serve_the_ports_of_services_behind_one() {
    let web = service("web", "198.19.0.1", ", labels: {culvert.dev/use-waypoint: other}");
    let free = service("free", "198.19.0.2", "")
        .replace("8080", "8081")
        .replace("app: free", "app: web");
    let labelled = pod("web", "198.18.0.1", "").replace("labels: {", "labels: {culvert.dev/use-waypoint: wp, ");
    let model = made(&(waypoint("all") + &web + &free + &labelled));
    let inbound: Listener = get(&model, LISTENER_TYPE, "shop/wp/inbound").unwrap();
    let chains: Vec<&str> = inbound.filter_chains.iter().map(|chain| chain.name.as_str()).collect();
    assert_eq!(chains, ["shop/web.shop.pod:8081"]);
}

#[test]
fn a_pod_that_comes_and_goes_is_told_to_its_waypoint() {
    let ports = "spec: {nodeName: n1, containers: [{name: c, ports: [{containerPort: 9000}]}]}";
    let mut world = World::of(&(SHOP.to_owned() + &waypoint("all")));
    let mut model = Model::default();
    model.update(&world.objects(), Instant::now());
    let is_told = |model: &Model| get::<Listener>(model, LISTENER_TYPE, "shop/wp/inbound").is_some();
    assert!(!is_told(&model));
    world.apply(&POD.replace("spec: {nodeName: n1}", ports));
    model.update(&world.objects(), Instant::now());
    assert!(is_told(&model));
    world.assembly.remove(Kind::Pod, &ObjectName::new("shop", "own"));
    model.update(&world.objects(), Instant::now());
    assert!(!is_told(&model));
    assert!(
        names(&model, CLUSTER_TYPE)
            .iter()
            .all(|name| !name.contains("own.shop.pod"))
    );
}
