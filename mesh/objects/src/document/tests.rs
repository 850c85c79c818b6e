use super::*;

fn faults(text: &str) -> Vec<String> {
    let show = |f: &Fault| {
        let (object, field) = (
            f.object.clone().unwrap_or_default(),
            f.field.clone().unwrap_or_default(),
        );
        format!("{}:{}: {object}: {field}: {}", f.number, f.line, f.message)
    };
    parse(text, false).faults.iter().map(show).collect()
}

#[test]
fn documents_lists_and_kinds_nobody_reads() {
    let text = "# only a comment\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n--- \napiVersion: apps/v1\nkind: Deployment\n---\n\
        apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Node, metadata: {name: n}}\n---\n\
        apiVersion: v1\nkind: PodList\nitems:\n- metadata: {name: p, namespace: a}\n";
    let parsed = parse(text, false);
    assert!(parsed.faults.is_empty(), "{:?}", parsed.faults);
    let titles: Vec<_> = parsed
        .documents
        .iter()
        .map(|d| (d.number, d.line, d.object.title()))
        .collect();
    let expected = [(1, 2, "Namespace a"), (3, 9, "Node n"), (4, 14, "Pod a/p")];
    assert_eq!(titles, expected.map(|(n, l, t)| (n, l, t.to_owned())));
}

#[test]
fn a_fault_names_document_line_object_and_field() {
    let text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\napiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  namespace: a\n\
        spec:\n  ports:\n  - name: http\n    port: eighty\n";
    let found = faults(text);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("2:13: Service a/web: spec.ports[0].port: invalid type: string \"eighty\""),
        "{found:?}"
    );
    assert_eq!(parse(text, false).documents.len(), 1);
}

#[test]
fn broken_syntax_does_not_hide_the_next_document() {
    let text = "a: [\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\nkind: Pod\n---\nplain\n";
    let found = faults(text);
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(
        found[0].contains("not valid YAML") && found[1].contains("apiVersion: missing"),
        "{found:?}"
    );
    assert_eq!(parse(text, false).documents.len(), 1);
}

#[test]
fn what_an_api_server_refuses() {
    for (text, field) in [
        ("kind: Pod\nmetadata: {name: a/b}", "metadata.name"),
        ("kind: Pod\nmetadata: {namespace: a}", "metadata.name"),
        ("kind: Pod\nmetadata: {name: a, namespace: ../x}", "metadata.namespace"),
        (
            "kind: Pod\nmetadata: {name: a}\nspec: {serviceAccountName: a/ns/b}",
            "spec.serviceAccountName",
        ),
        (
            "kind: Pod\nmetadata: {name: a}\nstatus: {podIP: 10.0.0.300}",
            "status.podIP",
        ),
        (
            "kind: Pod\nmetadata: {name: a}\nstatus: {podIPs: [{ip: 127.0.0.1}]}",
            "status.podIP",
        ),
        (
            "kind: Service\nmetadata: {name: a}\nspec: {clusterIP: x}",
            "spec.clusterIP",
        ),
        (
            "kind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 70000}]}",
            "spec.ports[0].port",
        ),
        (
            "kind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 1, targetPort: -1}]}",
            "spec.ports[0].targetPort",
        ),
    ] {
        let found = parse(&format!("apiVersion: v1\n{text}\n"), false);
        assert_eq!(
            found.faults.first().and_then(|f| f.field.as_deref()),
            Some(field),
            "{text}"
        );
        assert!(found.documents.is_empty());
    }
}

#[test]
fn a_byte_order_mark_at_the_start_of_a_file_is_no_part_of_it() {
    for (text, json) in [
        ("\u{feff}apiVersion: v1\nkind: Node\nmetadata: {name: n}\n", false),
        (
            "\u{feff}{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"metadata\":{\"name\":\"n\"}}",
            true,
        ),
    ] {
        let parsed = parse(text, json);
        assert_eq!(
            (parsed.documents.len(), parsed.faults.len()),
            (1, 0),
            "{:?}",
            parsed.faults
        );
    }
}

#[test]
fn json_is_read_too() {
    let parsed = parse(
        "{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"metadata\":{\"name\":\"n\"}}\n{",
        true,
    );
    assert_eq!((parsed.documents.len(), parsed.faults.len()), (1, 1));
}

#[test]
fn hostile_yaml_costs_little() {
    let laughs = (1..12).fold("a0: &a0 [x]\n".to_owned(), |text, n| {
        let refs = vec![format!("*a{}", n - 1); 10].join(", ");
        text + &format!("a{n}: &a{n} [{refs}]\n")
    });
    let deep = "[".repeat(100_000);
    let cycle = "a: &a {b: *a}\n".to_owned();
    for text in [laughs, deep.clone(), cycle, format!("a: {deep}"), "- ".repeat(50_000)] {
        let parsed = parse(&text, false);
        assert!(parsed.documents.is_empty() && !parsed.faults.is_empty());
        parse(&text, true);
    }
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "[-a-zA-Z0-9:{}\\[\\],&*!|>'\"%@# \n\t]{0,200}") {
        parse(&text, false);
        parse(&text, true);
    }
}

#[test]
fn merge_keys_and_empty_labels_mean_what_they_mean_elsewhere() {
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: a, annotations: {sidecar.istio.io/status: null}}\nspec:\n  ports:\n\
        \x20 - &base {name: http, port: 80}\n  - {<<: *base, name: other}\n";
    let parsed = parse(text, false);
    assert!(parsed.faults.is_empty(), "{:?}", parsed.faults);
    let Object::Service(service) = &parsed.documents[0].object else {
        panic!("not a Service")
    };
    let ports = service.spec.as_ref().unwrap().ports.as_ref().unwrap();
    assert_eq!((ports[1].port, ports[1].name.as_deref()), (80, Some("other")));
    assert_eq!(
        service.metadata.annotations.as_ref().unwrap()["sidecar.istio.io/status"],
        ""
    );
    let broken = faults(&text.replace("*base", "80"));
    assert_eq!(broken.len(), 1, "{broken:?}");
}

#[test]
fn what_is_required_and_missing_is_said() {
    for (text, field) in [
        (
            "kind: Service\nmetadata: {name: a}\nspec: {ports: [{name: http}]}",
            "spec.ports[0].port",
        ),
        (
            "kind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, ports: [{name: http}]}]}",
            "spec.containers[0].ports[0].containerPort",
        ),
    ] {
        let found = faults(&format!("apiVersion: v1\n{text}\n"));
        assert!(found.len() == 1 && found[0].contains(field), "{found:?}");
    }
    let slice = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: a}\naddressType: IPv4\nendpoints: [{}]\n";
    let found = faults(slice);
    assert!(
        found.len() == 1 && found[0].contains("endpoints[0].addresses"),
        "{found:?}"
    );
}

#[test]
fn kinds_of_others_are_read_in_all_their_versions_and_what_nobody_knows_of_them_is_said() {
    let text = "apiVersion: networking.istio.io/v1alpha3\nkind: Gateway\nmetadata: {name: a, namespace: shop}\n---\n\
        apiVersion: gateway.networking.k8s.io/v1beta1\nkind: Gateway\nmetadata: {name: a}\n---\n\
        apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {name: a}\nspec: {phase: AUTHN, pluginConfig: {80: x}}\n---\n\
        apiVersion: networking.istio.io/v9\nkind: VirtualService\nmetadata: {name: a, namespace: shop}\n---\n\
        apiVersion: v1\nkind: List\nitems:\n- {apiVersion: networking.istio.io/v1, kind: Weir, metadata: {name: a}}\n---\n\
        apiVersion: example.com/v1\nkind: Gateway\n";
    let parsed = parse(text, false);
    assert!(parsed.faults.is_empty(), "{:?}", parsed.faults);
    let titles: Vec<String> = parsed
        .documents
        .iter()
        .map(|document| document.object.title())
        .collect();
    let expected = [
        "Gateway.networking.istio.io shop/a",
        "Gateway default/a",
        "WasmPlugin default/a",
    ];
    assert_eq!(titles, expected);
    let unread: Vec<String> = parsed
        .unread
        .iter()
        .map(|f| {
            format!(
                "{}: {}: {}",
                f.number,
                f.field.as_deref().unwrap_or_default(),
                f.message
            )
        })
        .collect();
    assert_eq!(unread.len(), 2, "{unread:?}");
    assert!(
        unread[0].starts_with("4: kind: v9 is no version of VirtualService"),
        "{unread:?}"
    );
    assert!(
        unread[1].starts_with("5: items[0].kind: networking.istio.io has no kind Weir"),
        "{unread:?}"
    );
}
