use http::{HeaderMap, HeaderName, HeaderValue};

use super::propagation::Propagation;
use super::sampling::Sampling;
use super::*;
use culvert_envoy::pack;
use culvert_envoy::pb::envoy::config::core::v3::GrpcService;
use culvert_envoy::pb::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use culvert_envoy::pb::envoy::config::trace::v3::{OpenTelemetryConfig, ZipkinConfig, tracing};
use culvert_envoy::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::Tracing as Message;
use culvert_envoy::pb::envoy::r#type::v3::Percent;
use culvert_envoy::pb::google::protobuf::{Any, BoolValue};

const ID: &str = "7ab5d43d-104a-4f47-a34c-48a269582b3c";

fn fields(fields: &[(&'static str, &str)]) -> HeaderMap {
    let field =
        |(name, value): &(&'static str, &str)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    [&[("x-request-id", ID)], fields].concat().iter().map(field).collect()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}

fn tracing(config: Any, random: f64) -> Tracing {
    let message = Message {
        random_sampling: Some(Percent { value: random }),
        provider: Some(tracing::Http {
            name: "test".to_owned(),
            config_type: Some(tracing::http::ConfigType::TypedConfig(config)),
        }),
        ..Message::default()
    };
    Tracing::compile(&message, &|_| None).unwrap()
}

fn open_telemetry(random: f64) -> Tracing {
    let target = EnvoyGrpc {
        cluster_name: "otlp".to_owned(),
        ..EnvoyGrpc::default()
    };
    let config = OpenTelemetryConfig {
        grpc_service: Some(GrpcService {
            target_specifier: Some(TargetSpecifier::EnvoyGrpc(target)),
            ..GrpcService::default()
        }),
        ..OpenTelemetryConfig::default()
    };
    tracing(pack(&config), random)
}

fn zipkin(change: impl Fn(&mut ZipkinConfig)) -> Tracing {
    let mut config = ZipkinConfig {
        collector_cluster: "zipkin".to_owned(),
        collector_endpoint: "/api/v2/spans".to_owned(),
        collector_endpoint_version: 1,
        ..ZipkinConfig::default()
    };
    change(&mut config);
    tracing(pack(&config), 100.0)
}

/// What goes on, with ids that are counted from 1.
fn onwards(tracing: &Tracing, mut headers: HeaderMap) -> Option<(Begun, HeaderMap)> {
    let mut last = 0;
    let begun = tracing.begin(&mut headers, &mut || {
        last += 1;
        last
    })?;
    tracing.inject(&begun.context, &mut headers);
    Some((begun, headers))
}

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

#[test]
fn a_trace_goes_on_in_w3cs_fields_with_this_span_as_the_parent_of_the_next() {
    let sent = fields(&[("traceparent", PARENT), ("tracestate", "a=b,c=d")]);
    let (begun, headers) = onwards(&open_telemetry(100.0), sent).unwrap();
    assert_eq!(
        text(&headers, "traceparent"),
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000001-01"
    );
    assert_eq!(text(&headers, "tracestate"), "a=b,c=d");
    assert_eq!(begun.context.parent.unwrap().to_string(), "b7ad6b7169203331");
}

#[test]
fn of_w3c_a_span_is_sampled_where_it_was_before_and_is_here() {
    for (random, parent, flags) in [
        (100.0, PARENT, "-01"),
        (100.0, UNSAMPLED, "-00"),
        (0.0, PARENT, "-00"),
        (0.0, UNSAMPLED, "-00"),
    ] {
        let (_, headers) = onwards(&open_telemetry(random), fields(&[("traceparent", parent)])).unwrap();
        assert!(text(&headers, "traceparent").ends_with(flags), "{random} {parent}");
    }
}

#[test]
fn fields_that_make_no_sense_go_on_as_they_are_and_nothing_is_said() {
    for bad in [
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b71692033-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "",
    ] {
        assert!(
            onwards(&open_telemetry(100.0), fields(&[("traceparent", bad)])).is_none(),
            "{bad}"
        );
    }
    let later = "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more";
    assert!(onwards(&open_telemetry(100.0), fields(&[("traceparent", later)])).is_some());
    for (name, bad) in [
        ("b3", "x"),
        ("b3", "1-2-3-4-5"),
        ("b3", "80f198ee56343ba8-e457b5a2e4d86bd1-7"),
    ] {
        assert_eq!(
            Propagation::B3.extract(&fields(&[(name, bad)])),
            Extracted::Malformed,
            "{bad}"
        );
    }
}

#[test]
fn b3_goes_on_in_the_form_in_which_it_came() {
    let apart = |config: &mut ZipkinConfig| config.shared_span_context = Some(BoolValue { value: false });
    let single = "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1-05e3ac9a4f6e3b90";
    let (_, headers) = onwards(&zipkin(apart), fields(&[("b3", single)])).unwrap();
    let expected = "80f198ee56343ba864fe8b2a57d3eff7-0000000000000001-1-e457b5a2e4d86bd1";
    assert_eq!(text(&headers, "b3"), expected);
    let multi = [
        ("x-b3-traceid", "64fe8b2a57d3eff7"),
        ("x-b3-spanid", "e457b5a2e4d86bd1"),
        ("x-b3-sampled", "0"),
    ];
    let (begun, headers) = onwards(&zipkin(apart), fields(&multi)).unwrap();
    assert_eq!(text(&headers, "x-b3-traceid"), "64fe8b2a57d3eff7");
    assert_eq!(text(&headers, "x-b3-parentspanid"), "e457b5a2e4d86bd1");
    assert_eq!(
        (text(&headers, "x-b3-sampled"), begun.context.sampled),
        ("0", Some(false))
    );
    // Shared: the span of whoever sent it.
    let (begun, headers) = onwards(&zipkin(|_| {}), fields(&[("b3", single)])).unwrap();
    assert!(begun.is_shared);
    assert_eq!(text(&headers, "b3"), single);
    // A decision alone.
    let (_, headers) = onwards(&zipkin(apart), fields(&[("b3", "0")])).unwrap();
    assert_eq!(text(&headers, "b3"), "0000000000000001-0000000000000001-0");
}

#[test]
fn zipkins_tracer_takes_w3cs_fields_where_it_is_told_to_and_says_both() {
    let both = |config: &mut ZipkinConfig| {
        config.shared_span_context = Some(BoolValue { value: false });
        config.trace_context_option = 1;
        config.trace_id_128bit = true;
    };
    let (_, headers) = onwards(&zipkin(both), fields(&[("traceparent", PARENT)])).unwrap();
    assert_eq!(
        text(&headers, "traceparent"),
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000001-01"
    );
    assert_eq!(text(&headers, "x-b3-traceid"), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(text(&headers, "x-b3-spanid"), "0000000000000001");
    assert_eq!(text(&headers, "x-b3-parentspanid"), "b7ad6b7169203331");
}

#[test]
fn a_requests_id_decides_so_that_all_on_its_way_agree() {
    let sampling = |random| Sampling {
        client: 10_000,
        random,
        overall: 10_000,
    };
    // 0x7ab5d43d is 2058736701: 6701 of 10,000.
    for (random, traced, version) in [(6701, false, '4'), (6702, true, '9'), (0, false, '4')] {
        let mut headers = fields(&[]);
        assert_eq!(sampling(random).decide(&mut headers), traced);
        assert_eq!(text(&headers, "x-request-id").chars().nth(14), Some(version));
        // The next proxy decides the same, whatever its own share is.
        assert_eq!(sampling(0).decide(&mut headers), traced);
    }
    let mut headers = fields(&[("x-client-trace-id", "1")]);
    assert!(sampling(0).decide(&mut headers));
    assert_eq!(text(&headers, "x-request-id").chars().nth(14), Some('b'));
    let mut none = Sampling {
        overall: 0,
        ..sampling(10_000)
    };
    assert!(!none.decide(&mut fields(&[("x-client-trace-id", "1")])));
    none.overall = 10_000;
    let mut headers = HeaderMap::new();
    headers.insert("x-request-id", HeaderValue::from_static("not a UUID"));
    assert!(!none.decide(&mut headers));
    assert_eq!(text(&headers, "x-request-id"), "not a UUID");
}

#[test]
fn zipkins_json_and_otlp_have_the_span_as_it_is() {
    let (begun, _) = onwards(&open_telemetry(100.0), fields(&[("traceparent", PARENT)])).unwrap();
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(7);
    let mut span = Span::of(&begun.context, "web".to_owned(), Kind::Server, at);
    span.tag("component", "proxy");
    span.is_error = true;
    let json: serde_json::Value = serde_json::from_slice(&zipkin::encode("wp", &[span.clone()])).unwrap();
    let expected = serde_json::json!([{
        "traceId": "0af7651916cd43dd8448eb211c80319c", "parentId": "b7ad6b7169203331", "id": "0000000000000001",
        "kind": "SERVER", "name": "web", "timestamp": 7_000_000, "duration": 1,
        "localEndpoint": { "serviceName": "wp" }, "annotations": [{ "timestamp": 7_000_000, "value": "ss" }],
        "tags": { "component": "proxy" },
    }]);
    assert_eq!(json, expected);
    use prost::Message as _;
    let bytes = otlp::encode("wp", &[span]);
    let decoded = opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest::decode(&*bytes).unwrap();
    let sent = &decoded.resource_spans[0].scope_spans[0].spans[0];
    assert_eq!((sent.flags, sent.kind), (0x101, 2));
    assert_eq!(sent.parent_span_id, [0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31]);
    assert_eq!(sent.status.as_ref().unwrap().code, 2);
}

#[test]
fn what_is_not_served_of_a_provider_is_refused_by_name() {
    let message = Message {
        provider: Some(tracing::Http {
            name: "zipkin".to_owned(),
            config_type: Some(tracing::http::ConfigType::TypedConfig(pack(&ZipkinConfig::default()))),
        }),
        ..Message::default()
    };
    let error = Tracing::compile(&message, &|_| None).unwrap_err().to_string();
    assert_eq!(
        error,
        "provider `zipkin`: collector_endpoint_version: only HTTP_JSON is served"
    );
}
