//! Which objects are in force, whatever order they come in.

use super::*;

fn objects(yaml: &str) -> Vec<Object> {
    let parsed = crate::parse(yaml, false);
    assert!(parsed.faults.is_empty(), "{:?}", parsed.faults);
    parsed.documents.into_iter().map(|document| document.object).collect()
}

fn assembled(yaml: &str) -> (Objects, Vec<String>) {
    let mut assembly = Assembly::default();
    for object in objects(yaml) {
        assembly.apply(object);
    }
    let (objects, findings) = assembly.settle();
    (
        objects.clone(),
        findings.keys().map(|finding| finding.to_string()).collect(),
    )
}

fn pod(name: &str, more: &str, status: &str) -> String {
    format!("---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop{more}}}\nstatus: {{{status}}}\n")
}

const SHOP: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\napiVersion: v1\n\
    kind: ServiceAccount\nmetadata: {name: default, namespace: shop}\n";

fn kept(yaml: &str) -> (Vec<String>, usize) {
    let (all, findings) = assembled(&(SHOP.to_owned() + yaml));
    (
        all.pods.keys().map(|name| name.name.to_string()).collect(),
        findings.len(),
    )
}

#[test]
fn an_address_goes_to_the_pod_that_started_last_and_is_not_leaving() {
    let early = "podIP: 198.18.0.9, startTime: '2026-01-01T00:00:00Z'";
    let late = "podIP: 198.18.0.9, startTime: '2026-01-01T00:00:09Z'";
    let two = pod("a", "", early) + &pod("b", "", late);
    assert_eq!(kept(&two), (vec!["b".to_owned()], 1));
    let leaving = pod("a", "", early) + &pod("b", ", deletionTimestamp: '2026-01-01T00:00:10Z'", late);
    assert_eq!(kept(&leaving), (vec!["a".to_owned()], 1));
}

#[test]
fn a_pod_that_has_ended_holds_no_address() {
    for phase in ["Succeeded", "Failed"] {
        let ended = format!("phase: {phase}, podIP: 198.18.0.9, startTime: '2026-01-01T00:00:09Z'");
        let running = "phase: Running, podIP: 198.18.0.9, startTime: '2026-01-01T00:00:00Z'";
        let (names, findings) = kept(&(pod("ended", "", &ended) + &pod("runs", "", running)));
        assert_eq!((names, findings), (vec!["ended".to_owned(), "runs".to_owned()], 0));
    }
}

#[test]
fn a_pod_without_its_namespace_waits_for_it() {
    let orphan = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: unheard}\n";
    assert_eq!(kept(orphan), (Vec::new(), 0));
}

#[test]
fn a_service_keeps_its_address_before_a_pod_and_a_newer_service() {
    let service = |name: &str, year: u32| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop, creationTimestamp: \
             '{year}-01-01T00:00:00Z'}}\nspec: {{clusterIP: 198.18.0.9}}\n"
        )
    };
    let yaml = SHOP.to_owned() + &pod("p", "", "podIP: 198.18.0.9") + &service("a", 2026) + &service("b", 2025);
    let (all, findings) = assembled(&yaml);
    assert_eq!(findings.len(), 2, "{findings:?}");
    assert!(all.pods.is_empty());
    assert_eq!(all.services.keys().map(|n| &*n.name).collect::<Vec<_>>(), ["b"]);
}

#[test]
fn unknown_labels_and_missing_accounts_are_reported_by_object() {
    let (_, texts) = assembled(
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {culvert.dev/mesh: on}}\n---\n\
         apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: shop}\n",
    );
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert!(
        texts[0].starts_with("Namespace shop: metadata.labels[culvert.dev/mesh]: "),
        "{texts:?}"
    );
    assert!(
        texts[1].starts_with("Pod shop/a: spec.serviceAccountName: "),
        "{texts:?}"
    );
}

#[test]
fn an_annotation_that_would_close_connections_and_does_not_is_said() {
    let annotated = |value: &str| {
        format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, annotations: \
             {{culvert.dev/close-open-connections: '{value}'}}}}\n"
        )
    };
    for known in ["true", "false"] {
        assert_eq!(assembled(&annotated(known)).1, [""; 0], "{known}");
    }
    for unknown in ["True", "yes", ""] {
        let (_, texts) = assembled(&annotated(unknown));
        assert!(
            texts.len() == 1
                && texts[0].starts_with("Namespace shop: metadata.annotations[culvert.dev/close-open-connections]: ")
                && texts[0].contains(&format!("{unknown:?}")),
            "{texts:?}"
        );
    }
    let pod = pod(
        "a",
        ", annotations: {culvert.dev/close-open-connections: 'true'}",
        "phase: Running",
    );
    let (_, texts) = assembled(&(SHOP.to_owned() + &pod));
    assert!(
        texts.len() == 1 && texts[0].contains("on a Namespace alone"),
        "{texts:?}"
    );
}

#[test]
fn an_object_of_a_kind_that_is_not_served_is_a_finding_whether_its_namespace_is_in_the_mesh_or_not() {
    let yaml = SHOP.to_owned()
        + "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: web, namespace: shop}\n---\n\
           apiVersion: gateway.networking.x-k8s.io/v1alpha1\nkind: XMesh\nmetadata: {name: other}\n---\n\
           apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {name: jwt, namespace: shop}\n\
           spec: {phase: AUTHN}\n";
    let (all, texts) = assembled(&yaml);
    assert_eq!(texts.len(), 3, "{texts:?}");
    let starts = ["Sidecar shop/web", "WasmPlugin shop/jwt", "XMesh other"];
    for (text, start) in texts.iter().zip(starts) {
        let (kind, _) = start.split_once(' ').unwrap();
        assert!(
            text.starts_with(&format!("{start}: kind: {kind} is not served: ")),
            "{text}"
        );
    }
    assert!(
        texts[1].contains("would restrict") && !texts[0].contains("would restrict"),
        "{texts:?}"
    );
    assert_eq!((all.sidecars.len(), all.x_meshes.len()), (1, 1));
}

#[test]
fn what_would_restrict_somebody_is_found_by_its_namespace_and_says_whom_it_binds() {
    let policy = |kind: &str, name: &str, spec: &str| {
        let group = if kind == "WasmPlugin" {
            "extensions.istio.io/v1alpha1"
        } else {
            "security.istio.io/v1"
        };
        format!("---\napiVersion: {group}\nkind: {kind}\nmetadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n")
    };
    let yaml = SHOP.to_owned()
        + &policy("RequestAuthentication", "all", "{}")
        + &policy("RequestAuthentication", "db", "{selector: {matchLabels: {app: db}}}")
        + &policy("RequestAuthentication", "odd", "{selector: {matchLabels: [db]}}")
        + &policy(
            "RequestAuthentication",
            "to",
            "{targetRefs: [{kind: Service, name: db}]}",
        )
        + &policy(
            "WasmPlugin",
            "deciding",
            "{phase: AUTHZ, selector: {matchLabels: {app: db}}}",
        )
        + &policy("WasmPlugin", "counting", "{phase: STATS}");
    let (all, _) = assembled(&yaml);
    let restricting = restricting_in(&all, "shop");
    let binds = |labels: &[(&str, &str)]| -> Vec<String> {
        let label = |key: &str| labels.iter().find(|(known, _)| *known == key).map(|(_, value)| *value);
        let bound = restricting
            .iter()
            .filter(|object| object.binding().unwrap().selects(label));
        bound.map(|object| object.name().name.to_string()).collect()
    };
    assert_eq!(binds(&[]), ["all", "odd"], "what cannot be read binds everybody");
    assert_eq!(binds(&[("app", "db")]), ["all", "db", "odd", "deciding"]);
    let targets = restricting
        .iter()
        .flat_map(|object| object.binding().unwrap().targets());
    let targets: Vec<(&str, &str, &str)> = targets.map(|t| (&*t.group, &*t.kind, &*t.name)).collect();
    assert_eq!(targets, [("", "Service", "db")]);
    for object in &restricting {
        let key = crate::Key::restricting("shop");
        let keys = object.keys(&object.name());
        assert!(keys.contains(&key), "who asks for it is asked again");
    }
    assert!(restricting_in(&all, "play").is_empty());
}

/// What would restrict somebody and is in a namespace.
fn restricting_in(all: &Objects, namespace: &str) -> Vec<Object> {
    let objects = Kind::ALL.iter().flat_map(|kind| {
        let names = all.names_in(*kind, namespace).into_iter();
        names.filter_map(|name| all.get(*kind, &name))
    });
    objects.filter(|object| object.binding().is_some()).collect()
}

/// A small world in which most things collide.
fn object(seed: u32) -> (Kind, ObjectName, Object) {
    let (what, number, address, more) = (seed % 7, seed / 7 % 4, seed / 28 % 5, seed / 140 % 4);
    let namespace = ["shop", "play"][(number % 2) as usize];
    let yaml = match what {
        0 => format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}}}\n"),
        1 => format!("apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: default, namespace: {namespace}}}\n"),
        2 => format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s{number}, namespace: {namespace}, creationTimestamp: \
             '202{more}-01-01T00:00:00Z'}}\nspec: {{clusterIP: 198.18.0.{address}, selector: {}}}\n",
            ["{}", "{app: a}"][(more % 2) as usize]
        ),
        3 => format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: e{number}, namespace: {namespace}, \
             labels: {{kubernetes.io/service-name: s{more}}}}}\naddressType: IPv4\nendpoints: [{{addresses: \
             [198.18.0.{address}]}}]\n"
        ),
        _ => pod(
            &format!("p{number}"),
            if more == 1 {
                ", deletionTimestamp: '2026-01-01T00:00:00Z'"
            } else {
                ""
            },
            &format!(
                "podIPs: [{{ip: 198.18.0.{address}}}, {{ip: 198.18.0.{}}}], startTime: '202{more}-01-01T00:00:00Z'",
                (address + more) % 5
            ),
        )
        .replace("shop", namespace)
        .trim_start_matches("---")
        .to_owned(),
    };
    // 198.18.0.0 would not be refused; it is as good an address as any.
    let object = objects(&yaml).pop().unwrap();
    (object.kind(), object.name(), object)
}

proptest::proptest! {
    /// In whatever order objects came and went: as if those that are left had come at once.
    #[test]
    fn the_outcome_is_that_of_what_is_left(
        steps in proptest::collection::vec((0_u32..560, proptest::bool::weighted(0.7), proptest::bool::ANY), 1..60),
    ) {
        let mut assembly = Assembly::default();
        let mut left = BTreeMap::new();
        for (seed, there, settle) in steps {
            let (kind, name, object) = object(seed);
            if there {
                assembly.apply(object.clone());
                left.insert((kind, name), object);
            } else {
                assembly.remove(kind, &name);
                left.remove(&(kind, name));
            }
            if settle {
                assembly.settle();
            }
        }
        let mut at_once = Assembly::default();
        for object in left.into_values().rev() {
            at_once.apply(object);
        }
        let (objects, findings) = assembly.settle();
        let (expected, expected_findings) = at_once.settle();
        for kind in Kind::ALL {
            proptest::prop_assert!(objects.names(*kind).eq(expected.names(*kind)), "{kind}");
        }
        proptest::prop_assert_eq!(findings, expected_findings);
    }
}
