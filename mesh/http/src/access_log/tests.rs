use std::time::{Duration, UNIX_EPOCH};

use culvert_envoy::pack;
use culvert_envoy::pb::envoy::config::accesslog::v3::{
    AccessLog as Message, AccessLogFilter, ExtensionFilter, access_log::ConfigType, access_log_filter::FilterSpecifier,
    extension_filter,
};
use culvert_envoy::pb::envoy::config::core::v3::{
    DataSource, SubstitutionFormatString, data_source::Specifier, substitution_format_string::Format,
};
use culvert_envoy::pb::envoy::extensions::access_loggers::file::v3::{FileAccessLog, file_access_log::AccessLogFormat};
use culvert_envoy::pb::envoy::extensions::access_loggers::filters::cel::v3::ExpressionFilter;
use culvert_envoy::pb::google::protobuf::{Struct, Value, value::Kind};
use http::{HeaderMap, Request};

use super::*;

fn log(format: Option<Format>, expression: Option<&str>) -> Result<AccessLog, crate::CompileError> {
    let format = format.map(|format| {
        AccessLogFormat::LogFormat(SubstitutionFormatString {
            format: Some(format),
            ..SubstitutionFormatString::default()
        })
    });
    let file = FileAccessLog {
        path: "/dev/stdout".to_owned(),
        access_log_format: format,
    };
    let filter = expression.map(|expression| AccessLogFilter {
        filter_specifier: Some(FilterSpecifier::ExtensionFilter(ExtensionFilter {
            name: "cel".to_owned(),
            config_type: Some(extension_filter::ConfigType::TypedConfig(pack(&ExpressionFilter {
                expression: expression.to_owned(),
                ..ExpressionFilter::default()
            }))),
        })),
    });
    AccessLog::compile(&Message {
        name: "lines".to_owned(),
        filter,
        config_type: Some(ConfigType::TypedConfig(pack(&file))),
    })
}

fn text(format: &str) -> Option<Format> {
    Some(Format::TextFormatSource(DataSource {
        specifier: Some(Specifier::InlineString(format.to_owned())),
        ..DataSource::default()
    }))
}

fn line(log: &AccessLog) -> Option<String> {
    let request = Request::get("http://web/a?b=1")
        .header("x-request-id", "id")
        .header("user-agent", "ua 1");
    let (request, ()) = request.body(()).unwrap().into_parts();
    let mut response = HeaderMap::new();
    response.insert("x-envoy-upstream-service-time", http::HeaderValue::from_static("3"));
    let remarks = [(
        "istio_dry_run_deny_shadow_engine_result".to_owned(),
        "denied".to_owned(),
    )]
    .into();
    let facts = Facts {
        heads: Some(Heads {
            request: &request,
            response: &response,
        }),
        trailers: None,
        version: Some(http::Version::HTTP_11),
        begun: UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
        took: Duration::from_millis(5),
        request_took: None,
        response_took: Some(Duration::from_millis(4)),
        status: 503,
        grpc_status: None,
        is_grpc: false,
        flags: &["URX", "UF"],
        remarks: Some(&remarks),
        details: "upstream reset",
        upstream_failure: "",
        received: 7,
        sent: 9,
        attempts: 2,
        upstream: Some("198.18.2.2:8080".parse().unwrap()),
        cluster: "town/wp/web:80",
        route: "",
        destination: "198.18.9.1:80".parse().unwrap(),
        client: "198.18.1.2:4000".parse().unwrap(),
        principal: "spiffe://cluster.local/ns/town/sa/client",
        trace: String::new(),
        hostname: "",
    };
    log.line(&facts)
}

#[test]
fn a_log_without_a_format_has_envoys_line() {
    let expected = "[2023-11-14T22:13:20.123Z] \"GET /a?b=1 HTTP/1.1\" 503 URX,UF 7 9 5 3 \"-\" \"ua 1\" \"id\" \"web\" \
                    \"198.18.2.2:8080\"\n";
    assert_eq!(line(&log(None, None).unwrap()).unwrap(), expected);
}

#[test]
fn operators_say_what_they_stand_for_and_what_is_not_known_is_a_dash() {
    for (format, expected) in [
        ("%REQ(USER-AGENT):2%%%", "ua%"),
        ("%REQ(X-NONE?X-REQUEST-ID)% %REQ(X-NONE)%", "id -"),
        (
            "%RESPONSE_FLAGS_LONG%",
            "UpstreamRetryLimitExceeded,UpstreamConnectionFailure",
        ),
        ("%RESPONSE_CODE_DETAILS%", "upstream_reset"),
        (
            "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_LOCAL_ADDRESS%",
            "198.18.1.2 198.18.9.1:80",
        ),
        ("%UPSTREAM_CLUSTER% %ROUTE_NAME% %GRPC_STATUS%", "town/wp/web:80 - -"),
        (
            "%DYNAMIC_METADATA(envoy.filters.http.rbac:istio_dry_run_deny_shadow_engine_result)%",
            "denied",
        ),
        (
            "%FILTER_STATE(io.istio.peer_principal:PLAIN)%",
            "spiffe://cluster.local/ns/town/sa/client",
        ),
        ("%RESPONSE_DURATION% %RESPONSE_TX_DURATION%", "4 1"),
    ] {
        assert_eq!(line(&log(text(format), None).unwrap()).unwrap(), expected, "{format}");
    }
}

#[test]
fn json_is_sorted_and_typed() {
    let string = |text: &str| Value {
        kind: Some(Kind::StringValue(text.to_owned())),
    };
    let fields = [
        ("path", "%REQ(:PATH)%"),
        ("code", "%RESPONSE_CODE%"),
        ("none", "%REQ(X-NONE)%"),
        ("both", "%RESPONSE_CODE% %REQ(X-NONE)%"),
    ];
    let fields = fields.map(|(name, text)| (name.to_owned(), string(text)));
    let format = Format::JsonFormat(Struct { fields: fields.into() });
    let expected = "{\"both\":\"503 -\",\"code\":503,\"none\":null,\"path\":\"/a?b=1\"}\n";
    assert_eq!(line(&log(Some(format), None).unwrap()).unwrap(), expected);
}

#[test]
fn expressions_choose_and_what_cannot_be_found_out_does_not_hold() {
    for (expression, holds) in [
        ("response.code >= 400", true),
        ("response.code < 400", false),
        (
            "request.headers['user-agent'] == 'ua 1' && request.method == 'GET'",
            true,
        ),
        ("request.headers['x-none'] == 'x'", false),
        ("has(request.headers.none) || response.flags != 0", true),
        ("request.url_path.startsWith('/a') && request.query == 'b=1'", true),
        ("response.code", false),
        ("destination.port == 80 && source.address == '198.18.1.2:4000'", true),
    ] {
        let found = line(&log(text("x"), Some(expression)).unwrap());
        assert_eq!(found.is_some(), holds, "{expression}");
    }
}

#[test]
fn what_is_not_served_is_refused_by_name() {
    for (format, expression, why) in [
        ("%COALESCE(x)%", None, "%COALESCE(x)% is not an operator that is served"),
        ("50% of", None, "\"50% of\" has a single % in it"),
        ("x", Some("nothing.code > 1"), "there is no attribute `nothing`"),
        ("x", Some("request.path.matches('a')"), "matches is not served"),
        ("x", Some("response.code >"), "expression"),
        ("x", Some("[1].all(x, [1].all(y, x == y))"), "it may take too long"),
    ] {
        let error = log(text(format), expression).unwrap_err().to_string();
        assert!(
            error.starts_with("access_log `lines`: ") && error.contains(why),
            "{error}"
        );
    }
}
