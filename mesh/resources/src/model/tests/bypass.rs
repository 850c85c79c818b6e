//! That nobody but a waypoint reaches the pods behind it, as node proxies are told.

use culvert_proto::WAYPOINT_PORTS;
use culvert_proto::security::{Action, string_match::MatchType};

use super::*;

const WEB: &str = "---\napiVersion: v1\nkind: Service\n\
    metadata: {name: web, namespace: shop, labels: {istio.io/use-waypoint: wp}}\n\
    spec: {clusterIP: 198.19.0.1, selector: {app: web}, ports: [{port: 80, targetPort: 8080}, {port: 81, targetPort: sql}]}\n";

fn web(name: &str, address: &str, sql: u16) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, labels: {{app: web}}}}\n\
         spec: {{nodeName: n1, containers: [{{name: c, ports: [{{name: sql, containerPort: {sql}}}]}}]}}\n\
         status: {{podIP: {address}, conditions: [{{type: Ready, status: 'True'}}]}}\n"
    )
}

fn waypoint(name: &str, account: &str, address: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {account}, namespace: shop}}\n---\napiVersion: v1\nkind: Pod\n\
         metadata: {{name: {name}, namespace: shop, labels: {{app: web, gateway.networking.k8s.io/gateway-name: wp}}}}\n\
         spec: {{nodeName: n1, serviceAccountName: {account}}}\nstatus: {{podIP: {address}}}\n"
    )
}

fn policies_of(model: &Model, pod: &str) -> Vec<String> {
    workload(model, &format!("Kubernetes//Pod/shop/{pod}")).authorization_policies
}

/// The port, and who is let in there.
fn lets_in(model: &Model, policy: &str) -> (u32, Vec<String>) {
    let mut policy = model
        .authorizations()
        .remove(policy)
        .unwrap_or_else(|| panic!("no {policy}"));
    assert_eq!(policy.action(), Action::Deny);
    let clauses = policy.rules.remove(0).clauses;
    let [ports, others] = <[_; 2]>::try_from(clauses).unwrap();
    let others = others.matches[0]
        .not_principals
        .iter()
        .map(|one| match &one.match_type {
            Some(MatchType::Exact(principal)) => principal.clone(),
            other => panic!("{other:?}"),
        });
    (ports.matches[0].destination_ports[0], others.collect())
}

#[test]
fn a_pod_behind_a_waypoint_lets_in_nobody_else_at_the_services_ports() {
    let mut world = World::of(&(SHOP.to_owned() + WEB + &web("a", "198.18.0.1", 5432) + &web("b", "198.18.0.2", 5433)));
    let mut model = Model::default();
    model.update(&world.objects(), Instant::now());
    let name = |port: u16| format!("shop/culvert_waypoint_shop_wp_{port}");
    assert_eq!(policies_of(&model, "a"), [name(5432), name(8080)]);
    assert_eq!(
        policies_of(&model, "b"),
        [name(5433), name(8080)],
        "a named port is the pod's own"
    );
    assert_eq!(model.authorizations().len(), 3, "pods share policies");
    // No pod of the waypoint is there yet.
    let own = "cluster.local/ns/shop/sa/wp".to_owned();
    assert_eq!(lets_in(&model, &name(8080)), (8080, vec![own]));

    // Its pods come, and the policies are derived again.
    world.apply(&(waypoint("wp-1", "one", "198.18.0.8") + &waypoint("wp-2", "two", "198.18.0.9")));
    let changes = model.update(&world.objects(), Instant::now());
    let both = ["one", "two"].map(|account| format!("cluster.local/ns/shop/sa/{account}"));
    for port in [8080, 5432, 5433] {
        assert_eq!(lets_in(&model, &name(port)), (port.into(), both.to_vec()));
        assert!(
            changes.resources.iter().any(|change| *change.name == *name(port)),
            "{changes:?}"
        );
    }
    assert!(
        policies_of(&model, "wp-1").is_empty(),
        "a waypoint is not behind itself"
    );

    // One pod goes: what the other names stays, and what nobody names goes.
    world.assembly.remove(Kind::Pod, &ObjectName::new("shop", "a"));
    model.update(&world.objects(), Instant::now());
    assert_eq!(
        model.authorizations().into_keys().collect::<Vec<_>>(),
        [name(5433), name(8080)]
    );
    assert_eq!(lets_in(&model, &name(8080)).1, both);

    // The Service leaves the waypoint.
    world.apply(&WEB.replace("use-waypoint: wp", "use-waypoint: none"));
    model.update(&world.objects(), Instant::now());
    assert!(policies_of(&model, "b").is_empty() && model.authorizations().is_empty());
}

#[test]
fn a_namespaces_waypoint_binds_the_pods_of_its_services_and_one_may_be_elsewhere() {
    let web_without = WEB.replace(", labels: {istio.io/use-waypoint: wp}", "");
    let mut world =
        World::of(&(SHOP.to_owned() + &web_without + &web("a", "198.18.0.1", 5432) + &pod("alone", "198.18.0.3", "")));
    let mut model = Model::default();
    model.update(&world.objects(), Instant::now());
    assert!(model.authorizations().is_empty());
    let labels = "istio.io/use-waypoint: wp, istio.io/use-waypoint-namespace: infra, culvert.dev/mesh: ambient";
    world.apply(&SHOP.replace("culvert.dev/mesh: ambient", labels));
    model.update(&world.objects(), Instant::now());
    let name = "shop/culvert_waypoint_infra_wp_8080";
    assert!(policies_of(&model, "a").contains(&name.to_owned()));
    assert_eq!(lets_in(&model, name).1, ["cluster.local/ns/infra/sa/wp"]);
    assert!(
        policies_of(&model, "alone").is_empty(),
        "it serves nothing that is behind one"
    );
}

#[test]
fn a_pod_is_reached_through_the_waypoint_of_its_services_at_their_ports_whether_they_have_an_address_or_not() {
    let headless = WEB.replace("clusterIP: 198.19.0.1", "clusterIP: None");
    for service in [headless, WEB.to_owned()] {
        let model = made(&(service + &web("a", "198.18.0.1", 5432)));
        let a = workload(&model, "Kubernetes//Pod/shop/a");
        assert!(a.waypoint.is_some());
        let ports = a
            .extensions
            .iter()
            .find(|extension| extension.name == WAYPOINT_PORTS)
            .unwrap();
        let text = String::decode(&*ports.config.as_ref().unwrap().value).unwrap();
        assert_eq!(text, "5432,8080");
    }
}

/// A Gateway `wp` of shop with this label's value.
fn gateway(purpose: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\n\
         metadata: {{name: wp, namespace: shop, labels: {{istio.io/waypoint-for: {purpose}}}}}\n\
         spec: {{gatewayClassName: culvert-waypoint, listeners: [{{name: mesh, port: 15008, protocol: HBONE}}]}}\n"
    )
}

/// The ports that are excepted, and who is let in at the others.
fn lets_in_elsewhere(model: &Model, policy: &str) -> (Vec<u32>, Vec<String>) {
    let policy = model
        .authorizations()
        .remove(policy)
        .unwrap_or_else(|| panic!("no {policy}"));
    assert_eq!(policy.action(), Action::Deny);
    let clauses = &policy.rules[0].clauses;
    let all = || clauses.iter().flat_map(|clause| &clause.matches);
    let who = all()
        .flat_map(|one| &one.not_principals)
        .map(|one| match &one.match_type {
            Some(MatchType::Exact(principal)) => principal.clone(),
            other => panic!("{other:?}"),
        });
    (
        all().flat_map(|one| one.not_destination_ports.clone()).collect(),
        who.collect(),
    )
}

fn labelled(yaml: &str) -> String {
    yaml.replace("labels: {app: web}", "labels: {app: web, istio.io/use-waypoint: wp}")
}

/// Clients outside the mesh, and whoever dials a Service of the pod's that has no waypoint.
#[test]
fn a_pod_that_asks_for_a_waypoint_itself_lets_in_nobody_else_at_any_port() {
    for service in ["", &WEB.replace("istio.io/use-waypoint: wp", "a: b")] {
        let model = made(&(gateway("workload") + service + &labelled(&web("a", "198.18.0.1", 5432))));
        let name = "shop/culvert_waypoint_shop_wp_all".to_owned();
        assert_eq!(policies_of(&model, "a"), *std::slice::from_ref(&name));
        assert_eq!(
            lets_in_elsewhere(&model, &name),
            (vec![], vec!["cluster.local/ns/shop/sa/wp".to_owned()])
        );
    }
}

#[test]
fn at_the_ports_of_a_service_behind_another_waypoint_both_come_to_a_pod_that_asks_for_one_itself() {
    let service = WEB.replace("use-waypoint: wp", "use-waypoint: other");
    let model = made(&(gateway("all") + &service + &labelled(&web("a", "198.18.0.1", 5432))));
    let name = |rest: &str| format!("shop/culvert_waypoint_shop_{rest}");
    let elsewhere = name("wp_all-5432-8080");
    let at_ports = ["other_shop_wp_5432", "other_shop_wp_8080"].map(name);
    let mut policies = policies_of(&model, "a");
    policies.sort();
    assert_eq!(policies, [at_ports[0].clone(), at_ports[1].clone(), elsewhere.clone()]);
    let own = "cluster.local/ns/shop/sa/wp".to_owned();
    assert_eq!(
        lets_in_elsewhere(&model, &elsewhere),
        (vec![5432, 8080], vec![own.clone()])
    );
    let other = "cluster.local/ns/shop/sa/other".to_owned();
    assert_eq!(lets_in(&model, &at_ports[1]), (8080, vec![other, own]));
    // The same waypoint for both is one policy.
    let model = made(&(gateway("all") + WEB + &labelled(&web("a", "198.18.0.1", 5432))));
    assert_eq!(policies_of(&model, "a"), [name("wp_all")]);
}

#[test]
fn a_policy_for_all_ports_names_its_waypoints() {
    let named = |name: &str| crate::model::bypass::waypoints_of(name);
    let wp = ObjectName::new("shop", "wp");
    assert_eq!(named("culvert_waypoint_shop_wp_all"), Some(vec![wp.clone()]));
    assert_eq!(named("culvert_waypoint_shop_wp_all-5432-8080"), Some(vec![wp]));
}
