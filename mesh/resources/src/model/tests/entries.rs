//! ServiceEntries and WorkloadEntries beside pods, Services and one another. What each makes by itself is compared with Istio's
//! recordings in `tests/it/golden.rs`.

use culvert_proto::EXPORT_TO;
use culvert_proto::workload::load_balancing::Mode;
use culvert_proto::workload::{Service as ServiceMessage, service::Visibility};

use super::*;

fn service_entry(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{{spec}}}\n"
    )
}

fn workload_entry(name: &str, address: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{address: {address}, labels: {{app: vm}}, ports: {{web: 8443}}}}\n"
    )
}

fn service(name: &str, address: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{clusterIP: {address}, selector: {{app: vm}}, ports: [{{port: 443, targetPort: web}}]}}\n"
    )
}

fn served(model: &Model, name: &str) -> ServiceMessage {
    match model.addresses().remove(name).and_then(|address| address.r#type) {
        Some(address::Type::Service(service)) => service,
        other => panic!("{name}: {other:?} among {:?}", model.addresses().keys()),
    }
}

fn said(model: &Model) -> Vec<String> {
    model.findings().keys().map(|finding| finding.to_string()).collect()
}

#[track_caller]
fn says(model: &Model, words: &[&str]) {
    let all = said(model);
    let found = all
        .iter()
        .any(|finding| words.iter().all(|word| finding.contains(word)));
    assert!(found, "{words:?}: {all:#?}");
}

const BANK: &str =
    "hosts: [bank.example], addresses: [198.51.100.1], ports: [{number: 443, name: web}], resolution: STATIC";
const WE: &str = "Kubernetes/networking.istio.io/WorkloadEntry/shop/vm";

/// Traffic to an entry would otherwise reach a pod of the mesh in plaintext, or as somebody else.
#[test]
fn an_address_that_an_entry_lists_leads_to_the_pod_or_workload_entry_that_has_it() {
    let list = format!("{BANK}, endpoints: [{{address: 198.18.0.1, ports: {{web: 1443}}}}]");
    let mut world = World::of(&(SHOP.to_owned() + &service_entry("bank", &list)));
    let mut model = Model::default();
    let mut update = |world: &mut World| model.update(&world.objects(), Instant::now());
    update(&mut world);
    world.apply(&workload_entry("vm", "198.18.0.1"));
    update(&mut world);
    let listed = "Kubernetes/networking.istio.io/ServiceEntry/shop/bank/198.18.0.1";
    assert!(!model.addresses().contains_key(listed), "one address, two workloads");
    assert_eq!(
        workload(&model, WE).services["shop/bank.example"].ports[0].target_port,
        1443
    );
    world.apply(&pod("db", "198.18.0.1", ""));
    model.update(&world.objects(), Instant::now());
    let db = workload(&model, "Kubernetes//Pod/shop/db");
    assert_eq!(db.services["shop/bank.example"].ports[0].target_port, 1443);
    assert!(!model.addresses().contains_key(WE) && !model.addresses().contains_key(listed));
    says(&model, &["WorkloadEntry shop/vm: spec.address", "Pod shop/db"]);
    world.assembly.remove(Kind::Pod, &ObjectName::new("shop", "db"));
    world
        .assembly
        .remove(Kind::WorkloadEntry, &ObjectName::new("shop", "vm"));
    model.update(&world.objects(), Instant::now());
    assert!(
        model.addresses().contains_key(listed) && said(&model).is_empty(),
        "{:?}",
        said(&model)
    );
}

#[test]
fn a_workload_entry_is_bound_by_policies_and_selected_by_services_as_a_pod_is() {
    let policies = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: vms, namespace: shop}\n\
        spec: {selector: {matchLabels: {app: vm}}, action: DENY, rules: [{}]}\n---\napiVersion: security.istio.io/v1\n\
        kind: PeerAuthentication\nmetadata: {name: default, namespace: shop}\nspec: {mtls: {mode: STRICT}}\n---\n\
        apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: tokens, namespace: shop}\n\
        spec: {selector: {matchLabels: {app: vm}}}\n";
    let model = made(&(service("web", "198.19.0.1") + &workload_entry("vm", "172.22.0.1") + policies));
    let vm = workload(&model, WE);
    assert_eq!(
        vm.authorization_policies,
        [
            "shop/vms",
            "istio-system/istio_converted_static_strict",
            "shop/culvert_not_enforced_RequestAuthentication_tokens"
        ]
    );
    let ports = &vm.services["shop/web.shop.svc.cluster.local"].ports;
    assert_eq!((ports[0].service_port, ports[0].target_port), (443, 8443));
}

#[test]
fn of_workload_entries_with_one_address_the_oldest_is_there_and_none_has_a_services() {
    let entries = ["a", "b"].map(|name| workload_entry(name, "172.22.0.1")).concat();
    let model = made(&(entries + &service("web", "198.19.0.1") + &workload_entry("c", "198.19.0.1")));
    let names: Vec<String> = model
        .addresses()
        .into_keys()
        .filter(|name| name.contains("WorkloadEntry"))
        .collect();
    assert_eq!(names, ["Kubernetes/networking.istio.io/WorkloadEntry/shop/a"]);
    says(&model, &["WorkloadEntry shop/b: spec.address", "WorkloadEntry shop/a"]);
    says(&model, &["WorkloadEntry shop/c: spec.address", "Service shop/web"]);
}

/// Whoever may write an entry would otherwise take the connections of others.
#[test]
fn an_entry_takes_no_address_of_a_pod_or_a_service_and_keeps_its_others() {
    let take = "hosts: [a.example], addresses: [198.18.0.1, 198.19.0.1, 198.51.100.1], ports: [{number: 80, name: web}], \
                resolution: STATIC, endpoints: [{address: 198.19.0.1}, {address: 172.22.0.1}]";
    let mut world = World::of(
        &(SHOP.to_owned()
            + &pod("db", "198.18.0.1", "")
            + &service("web", "198.19.0.1")
            + &service_entry("take", take)),
    );
    let mut model = Model::default();
    model.update(&world.objects(), Instant::now());
    assert_eq!(served(&model, "shop/a.example").addresses[0].address, [198, 51, 100, 1]);
    assert_eq!(served(&model, "shop/a.example").addresses.len(), 1);
    says(&model, &["ServiceEntry shop/take: spec.addresses[0]", "Pod shop/db"]);
    says(
        &model,
        &["ServiceEntry shop/take: spec.addresses[1]", "Service shop/web"],
    );
    says(
        &model,
        &["ServiceEntry shop/take: spec.endpoints[0].address", "Service shop/web"],
    );
    world.assembly.remove(Kind::Pod, &ObjectName::new("shop", "db"));
    model.update(&world.objects(), Instant::now());
    assert_eq!(
        served(&model, "shop/a.example").addresses.len(),
        2,
        "nobody has it any more"
    );
}

#[test]
fn a_host_belongs_to_the_service_of_that_name_or_else_to_the_oldest_entry() {
    let entry = |name: &str| {
        service_entry(
            name,
            "hosts: [a.example, web.shop.svc.cluster.local], resolution: STATIC",
        )
    };
    let mut world = World::of(&(SHOP.to_owned() + &entry("one") + &entry("two") + &service("web", "198.19.0.1")));
    let mut model = Model::default();
    model.update(&world.objects(), Instant::now());
    assert_eq!(served(&model, "shop/a.example").name, "one");
    assert_eq!(
        served(&model, "shop/web.shop.svc.cluster.local").name,
        "web",
        "an entry is not in a Service's place"
    );
    says(
        &model,
        &["ServiceEntry shop/two: spec.hosts[0]", "ServiceEntry shop/one"],
    );
    says(&model, &["ServiceEntry shop/one: spec.hosts[1]", "Service shop/web"]);
    world
        .assembly
        .remove(Kind::ServiceEntry, &ObjectName::new("shop", "one"));
    world.assembly.remove(Kind::Service, &ObjectName::new("shop", "web"));
    model.update(&world.objects(), Instant::now());
    assert_eq!(served(&model, "shop/a.example").name, "two");
    assert_eq!(served(&model, "shop/web.shop.svc.cluster.local").name, "two");
}

#[test]
fn ranges_that_overlap_are_named_and_equal_ones_of_a_namespace_are_the_oldest_entrys() {
    let entry = |name: &str, range: &str| {
        service_entry(
            name,
            &format!("hosts: [{name}.example], addresses: [{range}], resolution: NONE"),
        )
    };
    let all = entry("wide", "10.0.0.0/8") + &entry("a", "10.1.0.0/16") + &entry("b", "10.1.0.0/16");
    let model = made(&(all + &entry("one", "10.1.2.3")));
    let addresses = |name: &str| served(&model, &format!("shop/{name}.example")).addresses.len();
    assert_eq!(["wide", "a", "b", "one"].map(addresses), [1, 1, 0, 1]);
    says(
        &model,
        &[
            "ServiceEntry shop/b: spec.addresses[0]",
            "ServiceEntry shop/a has 10.1.0.0/16 and is older",
        ],
    );
    says(
        &model,
        &[
            "ServiceEntry shop/a: spec.addresses[0]",
            "lies in 10.0.0.0/8 of ServiceEntry shop/wide",
        ],
    );
    says(
        &model,
        &[
            "ServiceEntry shop/one: spec.addresses[0]",
            "lies in 10.1.0.0/16 of ServiceEntry shop/",
        ],
    );
}

/// Connections to its addresses are refused, for there is no endpoint; as without it they would go anywhere.
#[test]
fn what_cannot_be_served_has_its_addresses_and_no_endpoint() {
    let unknown = BANK.replace("STATIC", "DYNAMIC_DNS") + ", endpoints: [{address: 172.22.0.1}]";
    let model = made(&service_entry("bank", &unknown));
    let bank = served(&model, "shop/bank.example");
    assert_eq!((bank.addresses.len(), bank.load_balancing), (1, None));
    assert_eq!(model.addresses().len(), 1);

    let policy = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: ask, namespace: shop}\n\
        spec: {targetRefs: [{group: networking.istio.io, kind: ServiceEntry, name: bank}], rules: [{}]}\n";
    for resolution in ["NONE", "STATIC"] {
        let spec = BANK.replace("STATIC", resolution) + ", workloadSelector: {labels: {app: vm}}";
        let model = made(&(service_entry("bank", &spec) + &workload_entry("vm", "172.22.0.1") + policy));
        let mode = served(&model, "shop/bank.example")
            .load_balancing
            .map(|found| found.mode());
        assert_ne!(mode, Some(Mode::Passthrough), "{resolution}");
        assert!(workload(&model, WE).services.is_empty(), "{resolution}");
        says(
            &model,
            &[
                "ServiceEntry shop/bank",
                "AuthorizationPolicy shop/ask",
                "nobody reaches its hosts",
            ],
        );
    }
}

#[test]
fn an_entry_is_told_to_whom_it_is_exported() {
    let exported = |to: &str| made(&service_entry("bank", &format!("{BANK}, exportTo: [{to}]")));
    let bank = |to: &str| served(&exported(to), "shop/bank.example");
    assert_eq!(bank("'*'").visibility(), Visibility::Public);
    assert_eq!(
        (bank(".").visibility(), bank(".").extensions.len()),
        (Visibility::Namespace, 0)
    );
    let some = bank("., play");
    assert_eq!(some.extensions[0].name, EXPORT_TO);
    assert!(exported("'~'").addresses().is_empty());
}

#[test]
fn an_entry_without_addresses_is_given_some_and_identities_that_are_none_are_said() {
    let model = made(&service_entry(
        "bank",
        "hosts: [bank.example], resolution: STATIC, subjectAltNames: [bank.example, 'spiffe://x', 'spiffe://c.l/ns/a/sa/b']",
    ));
    let bank = served(&model, "shop/bank.example");
    assert_eq!(bank.subject_alt_names, ["bank.example", "spiffe://c.l/ns/a/sa/b"]);
    let name = ObjectName::new("shop", "bank");
    let chosen = model.allocations().of(&name).map(|(_, address)| wire::octets(address));
    let addresses = bank.addresses.into_iter().map(|address| address.address);
    assert_eq!(addresses.collect::<Vec<_>>(), chosen.collect::<Vec<_>>());
    assert_eq!(model.allocations().of(&name).count(), 2);
    says(&model, &["spec.subjectAltNames[0]", "no identity"]);
    says(&model, &["spec.subjectAltNames[1]", "left out"]);
}
