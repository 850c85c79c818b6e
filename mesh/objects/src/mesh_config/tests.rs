use super::*;

/// Istio's own form, as its documentation and the recordings have it.
const TEXT: &str = r#"
rootNamespace: istio-system
accessLogFile: /dev/stdout
extensionProviders:
- name: door-http
  envoyExtAuthzHttp: {service: door.bank.svc.cluster.local, port: 8000, pathPrefix: /check, timeout: 2s, failOpen: true, statusOnError: "503", includeRequestHeadersInCheck: [x-door], includeAdditionalHeadersInCheck: {x-from: mesh}, headersToUpstreamOnAllow: [x-user], headersToDownstreamOnDeny: [x-why]}
- name: door-grpc
  envoyExtAuthzGrpc: {service: bank/door.bank.svc.cluster.local, port: 9000, includeRequestBodyInCheck: {maxRequestBytes: 100, allowPartialMessage: true}}
- name: spans
  opentelemetry: {service: spans.bank.svc.cluster.local, port: 4318, http: {path: /v1/traces, timeout: 3s, headers: [{name: a, value: b}]}}
- name: lines
  envoyFileAccessLog: {path: /dev/stdout, logFormat: {labels: {code: "%RESPONSE_CODE%"}}}
- name: old
  zipkin: {service: zipkin.bank.svc.cluster.local, port: 9411}
- {name: numbers, prometheus: {}}
- name: elsewhere
  datadog: {service: a, port: 1}
- name: door-http
  prometheus: {}
- name: wrong
  envoyExtAuthzGrpc: {service: a, port: 70000}
- name: coloured
  envoyExtAuthzGrpc: {service: a, port: 1, timeout: soon}
defaultProviders: {accessLogging: [lines], tracing: [spans]}
"#;

#[test]
fn providers_are_read_as_istio_writes_them_and_what_is_not_in_force_is_noted_by_its_field() {
    let read = MeshConfig::parse(TEXT).unwrap();
    let names: Vec<&str> = read.providers.iter().map(|provider| provider.name.as_str()).collect();
    assert_eq!(names, ["door-http", "door-grpc", "spans", "lines", "old", "numbers"]);
    let ProviderKind::AuthzHttp(http) = &read.provider("door-http").unwrap().kind else {
        panic!("{read:?}")
    };
    assert_eq!(http.common.status_on_error, Some(503));
    assert_eq!(http.common.timeout, std::time::Duration::from_secs(2));
    assert!(http.common.fail_open);
    assert_eq!(http.additional_headers, [("x-from".to_owned(), "mesh".to_owned())]);
    let ProviderKind::AuthzGrpc(grpc) = &read.provider("door-grpc").unwrap().kind else {
        panic!("{read:?}")
    };
    assert_eq!(grpc.timeout, std::time::Duration::from_secs(600));
    assert_eq!(grpc.body.unwrap().max_bytes, 100);
    assert_eq!(read.default_providers.as_ref().unwrap().access_logging, ["lines"]);
    let fields: Vec<&str> = read.notes.iter().map(|note| note.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "extensionProviders[6].datadog",
            "extensionProviders[7]",
            "extensionProviders[8].envoyExtAuthzGrpc.port",
            "extensionProviders[9].envoyExtAuthzGrpc.timeout",
            "rootNamespace",
            "accessLogFile",
        ]
    );
}

#[test]
fn what_is_not_yaml_is_an_error_and_nothing_at_all_is_the_default() {
    assert!(MeshConfig::parse("a: [").is_err());
    assert!(MeshConfig::parse("- a").is_err());
    assert_eq!(MeshConfig::parse("").unwrap(), MeshConfig::default());
}

#[test]
fn a_field_of_a_provider_that_nobody_knows_leaves_the_provider_and_is_noted() {
    let text = "extensionProviders: [{name: a, envoyExtAuthzGrpc: {service: a, port: 1, colour: red}}]";
    let read = MeshConfig::parse(text).unwrap();
    assert_eq!(read.notes.len(), 1, "{:?}", read.notes);
}

#[test]
fn what_istio_has_without_a_word_is_there_unless_another_has_its_name() {
    let nothing = MeshConfig::default();
    let lines = |config: &MeshConfig| match &config.provider("envoy").unwrap().kind {
        ProviderKind::FileAccessLog(file) => file.path.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(lines(&nothing), "/dev/stdout");
    assert_eq!(nothing.provider("prometheus").unwrap().kind, ProviderKind::Prometheus);
    assert_eq!(nothing.provider("stackdriver"), None);
    let own = "extensionProviders: [{name: envoy, envoyFileAccessLog: {path: /dev/stderr}}]";
    assert_eq!(lines(&MeshConfig::parse(own).unwrap()), "/dev/stderr");
}
