use super::*;
use std::fs;

const GOOD: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, labels: {culvert.dev/use-waypoint: wp}}
spec: {clusterIP: 198.19.0.1, ports: [{name: http, port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: wp, namespace: shop}
spec: {gatewayClassName: culvert-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: a, namespace: shop}
spec: {parentRefs: [{group: '', kind: Service, name: web}], rules: [{backendRefs: [{name: web, port: 80}]}]}
";

fn analyzed(text: &str, namespace: Option<&str>, fail_on: FailOn) -> Answer {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("shop.yaml"), text).unwrap();
    let flags = AnalyzeFlags {
        files: vec![folder.path().to_owned()],
        offline: true,
        namespace: namespace.map(str::to_owned),
        fail_on,
    };
    of_files(&flags).unwrap()
}

#[test]
fn good_files_are_well_and_an_error_is_not() {
    let good = analyzed(GOOD, None, FailOn::Warning);
    assert!(good.is_well, "{:?}", good.json);
    let bad = analyzed(
        &GOOD.replace("backendRefs: [{name: web", "backendRefs: [{name: nobody"),
        None,
        FailOn::Error,
    );
    assert!(!bad.is_well);
    let row = &bad.sections[0].rows[0];
    assert_eq!(row[..3], ["error", "HTTPRoute shop/a", "spec.rules[0].backendRefs[0]"]);
    assert!(
        row[3].contains("there is no Service shop/nobody") && row[4].contains("name a Service"),
        "{row:?}"
    );
    assert_eq!(bad.json["problems"][0]["severity"], "error");
    assert_eq!(bad.sections[1].when_empty, "1 error, 0 warnings");
}

#[test]
fn warnings_fail_where_that_is_asked_for_and_a_namespace_narrows() {
    let unused = GOOD.replace("labels: {culvert.dev/use-waypoint: wp}", "labels: {}");
    assert!(analyzed(&unused, None, FailOn::Error).is_well);
    assert!(!analyzed(&unused, None, FailOn::Warning).is_well);
    assert!(!analyzed(&unused, Some("shop"), FailOn::Warning).is_well);
    let with_bank = unused + "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: bank}\n";
    assert!(analyzed(&with_bank, Some("bank"), FailOn::Warning).is_well);
}

/// Seen: of a namespace whose name was mistyped, nothing was wrong.
#[test]
fn a_namespace_that_no_object_of_the_files_is_in_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("shop.yaml"), GOOD).unwrap();
    let flags = AnalyzeFlags {
        files: vec![folder.path().to_owned()],
        offline: true,
        namespace: Some("shpo".to_owned()),
        fail_on: FailOn::Error,
    };
    let error = of_files(&flags).unwrap_err().to_string();
    assert!(error.contains("--namespace") && error.contains("shpo"), "{error}");
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_with_its_line_and_what_is_beside_it_is_looked_at() {
    let broken = analyzed(&(GOOD.to_owned() + "---\nkind: [\n"), Some("bank"), FailOn::Error);
    assert!(!broken.is_well);
    let row = &broken.sections[0].rows[0];
    assert!(
        row[1].contains("shop.yaml:") && row[3].contains("not valid YAML"),
        "{row:?}"
    );
}
