//! Traces and access logs.

use culvert_envoy::pb::envoy::config::accesslog::v3::{
    AccessLog, AccessLogFilter, ExtensionFilter, access_log, access_log_filter::FilterSpecifier, extension_filter,
};
use culvert_envoy::pb::envoy::config::core::v3::{
    DataSource, GrpcService, HeaderValue, HeaderValueOption, HttpService, HttpUri, JsonFormatOptions, Metadata,
    SubstitutionFormatString, data_source::Specifier, grpc_service,
    header_value_option::HeaderAppendAction as AppendAction, http_uri::HttpUpstreamType,
    substitution_format_string::Format,
};
use culvert_envoy::pb::envoy::config::trace::v3::{
    OpenTelemetryConfig, ZipkinConfig, tracing, zipkin_config::CollectorEndpointVersion,
};
use culvert_envoy::pb::envoy::extensions::access_loggers::file::v3::{FileAccessLog, file_access_log::AccessLogFormat};
use culvert_envoy::pb::envoy::extensions::access_loggers::filters::cel::v3::ExpressionFilter;
use culvert_envoy::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::Tracing as Message;
use culvert_envoy::pb::envoy::r#type::tracing::v3::{CustomTag, custom_tag};
use culvert_envoy::pb::envoy::r#type::v3::Percent;
use culvert_envoy::pb::google::protobuf::{Any, ListValue, Struct, Value as Message_, value::Kind};
use culvert_envoy::{pack, type_url};
use culvert_objects::mesh_config::{LogFormat, TraceContext};
use prost::Message as _;
use serde_json::Value;

use super::super::telemetry::{Log, Receiver, Tag, Telemetry, Tracing};
use super::parts;

/// Istio's line, where a provider has no format.
const LINE: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% \
    %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" \
    %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \
    \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% \
    %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

/// Why a log cannot be written: what waypoints do not serve of its format or filter.
pub(crate) fn refused(log: &Log) -> Option<String> {
    let compiled = culvert_http::access_log::AccessLog::compile(&self::log(log));
    compiled.err().map(|error| error.to_string())
}

/// The logs of a chain. Where lines are not wanted, there is one that has none: without any, a waypoint writes its own.
pub(super) fn logs(telemetry: &Telemetry) -> Vec<AccessLog> {
    match telemetry.logs.as_deref() {
        None => Vec::new(),
        Some([]) => vec![no_line()],
        Some(logs) => logs.iter().map(log).collect(),
    }
}

/// What of a chain's metrics is otherwise than Istio's; none where nothing is.
pub(super) fn metrics(telemetry: &Telemetry) -> Option<Metadata> {
    if telemetry.metrics.is_empty() {
        return None;
    }
    // Maps of texts and flags are always written.
    let overrides = serde_json::to_string(&telemetry.metrics).ok()?;
    Some(culvert_envoy::metrics::to_metadata(overrides))
}

fn no_line() -> AccessLog {
    let file = FileAccessLog {
        path: "/dev/stdout".to_owned(),
        access_log_format: None,
    };
    AccessLog {
        name: "none".to_owned(),
        filter: Some(expression("false")),
        config_type: Some(access_log::ConfigType::TypedConfig(pack(&file))),
    }
}

fn log(log: &Log) -> AccessLog {
    let omit_empty_values = log.file.omit_empty;
    let format = match &log.file.format {
        None => text(LINE),
        Some(LogFormat::Text(format)) => text(format),
        Some(LogFormat::Labels(labels)) => return json(log, labels),
    };
    let format = SubstitutionFormatString {
        omit_empty_values,
        format: Some(format),
        ..SubstitutionFormatString::default()
    };
    let file = FileAccessLog {
        path: log.file.path.clone(),
        access_log_format: Some(AccessLogFormat::LogFormat(format)),
    };
    of_file(log, pack(&file))
}

fn of_file(log: &Log, config: Any) -> AccessLog {
    AccessLog {
        name: log.name.clone(),
        filter: log.filter.as_deref().map(expression),
        config_type: Some(access_log::ConfigType::TypedConfig(config)),
    }
}

fn text(format: &str) -> Format {
    Format::TextFormatSource(DataSource {
        specifier: Some(Specifier::InlineString(format.to_owned())),
        ..DataSource::default()
    })
}

/// Fields of a `Struct` have no order: one in each message, one behind the other, are one message whose bytes are the same every time.
fn json(log: &Log, labels: &serde_json::Map<String, Value>) -> AccessLog {
    let formats = labels.iter().map(|(name, value)| SubstitutionFormatString {
        format: Some(Format::JsonFormat(Struct {
            fields: [(name.clone(), value_of(value))].into(),
        })),
        ..SubstitutionFormatString::default()
    });
    let rest = SubstitutionFormatString {
        omit_empty_values: log.file.omit_empty,
        json_format_options: Some(JsonFormatOptions::default()),
        ..SubstitutionFormatString::default()
    };
    let files = formats.chain([rest]).map(|format| FileAccessLog {
        path: String::new(),
        access_log_format: Some(AccessLogFormat::LogFormat(format)),
    });
    let first = FileAccessLog {
        path: log.file.path.clone(),
        access_log_format: None,
    };
    let messages = std::iter::once(first).chain(files);
    let config = Any {
        type_url: type_url::<FileAccessLog>(),
        value: messages.flat_map(|message| message.encode_to_vec()).collect(),
    };
    of_file(log, config)
}

fn value_of(value: &Value) -> Message_ {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(items) => Kind::ListValue(ListValue {
            values: items.iter().map(value_of).collect(),
        }),
        Value::Object(fields) => Kind::StructValue(Struct {
            fields: fields
                .iter()
                .map(|(name, value)| (name.clone(), value_of(value)))
                .collect(),
        }),
    };
    Message_ { kind: Some(kind) }
}

fn expression(expression: &str) -> AccessLogFilter {
    let filter = ExpressionFilter {
        expression: expression.to_owned(),
        ..ExpressionFilter::default()
    };
    AccessLogFilter {
        filter_specifier: Some(FilterSpecifier::ExtensionFilter(ExtensionFilter {
            name: "envoy.access_loggers.extension_filters.cel".to_owned(),
            config_type: Some(extension_filter::ConfigType::TypedConfig(pack(&filter))),
        })),
    }
}

/// What is traced of a chain. `service` is what the waypoint calls itself.
pub(super) fn tracing(tracing: &Tracing, service: &str) -> Message {
    let all = || Some(Percent { value: 100.0 });
    let (name, config, max_tag_length) = match &tracing.receiver {
        Receiver::OpenTelemetry(provider) => {
            let timeout = provider.exporter.timeout.map(parts::duration);
            let mut config = OpenTelemetryConfig {
                service_name: service.to_owned(),
                ..OpenTelemetryConfig::default()
            };
            match &provider.http_path {
                None => {
                    config.grpc_service = Some(GrpcService {
                        timeout,
                        initial_metadata: provider.exporter.headers.iter().map(header).collect(),
                        target_specifier: Some(grpc_service::TargetSpecifier::EnvoyGrpc(grpc_service::EnvoyGrpc {
                            cluster_name: tracing.cluster.clone(),
                            authority: tracing.host.clone(),
                            ..grpc_service::EnvoyGrpc::default()
                        })),
                        ..GrpcService::default()
                    });
                }
                Some(path) => {
                    let port = provider.exporter.port;
                    config.http_service = Some(HttpService {
                        http_uri: Some(HttpUri {
                            uri: format!("http://{}:{port}/{}", tracing.host, path.trim_start_matches('/')),
                            timeout: timeout.or_else(|| Some(parts::duration(std::time::Duration::from_secs(5)))),
                            http_upstream_type: Some(HttpUpstreamType::Cluster(tracing.cluster.clone())),
                        }),
                        request_headers_to_add: provider.exporter.headers.iter().map(added).collect(),
                        ..HttpService::default()
                    });
                }
            }
            (
                "envoy.tracers.opentelemetry",
                pack(&config),
                provider.exporter.max_tag_length,
            )
        }
        Receiver::Zipkin(provider) => {
            let headers = &provider.exporter.headers;
            let service = (!headers.is_empty()).then(|| HttpService {
                http_uri: Some(HttpUri {
                    uri: format!(
                        "http://{}:{}/{}",
                        tracing.host,
                        provider.exporter.port,
                        provider.path.trim_start_matches('/')
                    ),
                    timeout: Some(parts::duration(
                        provider.exporter.timeout.unwrap_or(std::time::Duration::from_secs(5)),
                    )),
                    http_upstream_type: Some(HttpUpstreamType::Cluster(tracing.cluster.clone())),
                }),
                request_headers_to_add: headers.iter().map(added).collect(),
                ..HttpService::default()
            });
            let legacy = |text: &str| {
                if service.is_none() {
                    text.to_owned()
                } else {
                    String::new()
                }
            };
            let config = ZipkinConfig {
                collector_cluster: legacy(&tracing.cluster),
                collector_endpoint: legacy(&provider.path),
                collector_hostname: legacy(&tracing.host),
                collector_service: service.clone(),
                collector_endpoint_version: CollectorEndpointVersion::HttpJson.into(),
                trace_id_128bit: !provider.short_trace_ids,
                shared_span_context: parts::flag(false),
                trace_context_option: match provider.context {
                    TraceContext::B3 => 0,
                    TraceContext::B3AndW3c => 1,
                },
                ..ZipkinConfig::default()
            };
            ("envoy.tracers.zipkin", pack(&config), provider.exporter.max_tag_length)
        }
    };
    Message {
        client_sampling: all(),
        random_sampling: Some(Percent {
            value: tracing.sampling,
        }),
        overall_sampling: all(),
        max_path_tag_length: max_tag_length.and_then(parts::number),
        custom_tags: tracing.tags.iter().map(|(name, value)| tag(name, value)).collect(),
        provider: Some(tracing::Http {
            name: name.to_owned(),
            config_type: Some(tracing::http::ConfigType::TypedConfig(config)),
        }),
        ..Message::default()
    }
}

/// A header of a provider. `%` would begin one of Envoy's operators.
fn header((name, value): &(String, String)) -> HeaderValue {
    HeaderValue {
        key: name.to_ascii_lowercase(),
        value: value.replace('%', "%%"),
        ..HeaderValue::default()
    }
}

fn added(of: &(String, String)) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(header(of)),
        append_action: AppendAction::OverwriteIfExistsOrAdd.into(),
        ..HeaderValueOption::default()
    }
}

fn tag(name: &str, value: &Tag) -> CustomTag {
    CustomTag {
        tag: name.to_owned(),
        r#type: Some(match value.clone() {
            Tag::Literal(value) => custom_tag::Type::Literal(custom_tag::Literal { value }),
            Tag::Header(name, default_value) => {
                custom_tag::Type::RequestHeader(custom_tag::Header { name, default_value })
            }
            Tag::Environment(name, default_value) => {
                custom_tag::Type::Environment(custom_tag::Environment { name, default_value })
            }
        }),
    }
}
