//! Providers: who is asked about requests, and where telemetry goes.

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::Duration;

use serde_json::Value;

use super::reading::Fields;

/// Something outside that policies and telemetry name.
#[derive(Clone, Debug, PartialEq)]
pub struct Provider {
    /// How it is named.
    pub name: String,
    /// What it is.
    pub kind: ProviderKind,
}

/// What a provider is.
#[derive(Clone, Debug, PartialEq)]
pub enum ProviderKind {
    /// `envoyExtAuthzHttp`: an HTTP service that is asked whether a request may go on.
    AuthzHttp(AuthzHttp),
    /// `envoyExtAuthzGrpc`: the same over gRPC, by Envoy's `envoy.service.auth.v3.Authorization`.
    AuthzGrpc(AuthzGrpc),
    /// `opentelemetry`: spans by OTLP.
    OpenTelemetry(OpenTelemetry),
    /// `zipkin`: spans in Zipkin's form.
    Zipkin(Zipkin),
    /// `envoyFileAccessLog`: a line for each request.
    FileAccessLog(FileAccessLog),
    /// `envoyRateLimit`, which is Culvert's own: a service that counts requests, by Envoy's `envoy.service.ratelimit.v3.RateLimitService`.
    RateLimit(RateLimit),
    /// `prometheus`: metrics, which are there in any case.
    Prometheus,
}

/// A service that counts requests.
#[derive(Clone, Debug, PartialEq)]
pub struct RateLimit {
    /// `[NAMESPACE/]HOST` of the service.
    pub service: String,
    /// Its port.
    pub port: u16,
    /// How long an answer may take; 100 ms where nothing is said.
    pub timeout: Duration,
    /// Whether requests go on when it does not answer.
    pub fail_open: bool,
}

/// What both services that are asked about requests have.
#[derive(Clone, Debug, PartialEq)]
pub struct AuthzGrpc {
    /// `[NAMESPACE/]HOST` of the service.
    pub service: String,
    /// Its port.
    pub port: u16,
    /// How long an answer may take; Istio's default of ten minutes where nothing is said.
    pub timeout: Duration,
    /// Whether requests go on when it does not answer.
    pub fail_open: bool,
    /// Whether the route is chosen anew after it changed headers.
    pub clear_route_cache: bool,
    /// What a client gets when it does not answer; 403 where nothing is said.
    pub status_on_error: Option<u16>,
    /// How much of the body it sees; none where nothing is said.
    pub body: Option<BodyInCheck>,
}

/// What an HTTP service has beside that. Lists of headers are `NAME`, `PREFIX*`, `*SUFFIX` or `*`.
#[derive(Clone, Debug, PartialEq)]
pub struct AuthzHttp {
    /// What both have.
    pub common: AuthzGrpc,
    /// What comes before the request's path; empty for nothing.
    pub path_prefix: String,
    /// Headers of the request that it sees.
    pub request_headers: Vec<String>,
    /// Headers that it gets in addition.
    pub additional_headers: Vec<(String, String)>,
    /// Headers of its answer that an allowed request goes on with.
    pub upstream_on_allow: Vec<String>,
    /// Headers of its answer that a refused client gets; all where nothing is said, as in Envoy.
    pub downstream_on_deny: Vec<String>,
    /// Headers of its answer that an allowed client gets with the response.
    pub downstream_on_allow: Vec<String>,
}

/// How much of a request's body is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyInCheck {
    /// At most so many bytes.
    pub max_bytes: u32,
    /// Whether the beginning of a longer one is shown; else such a request gets 413.
    pub allow_partial: bool,
    /// Whether gRPC gets it as bytes rather than as text.
    pub as_bytes: bool,
}

/// A service that takes spans.
#[derive(Clone, Debug, PartialEq)]
pub struct Exporter {
    /// `[NAMESPACE/]HOST` of the service.
    pub service: String,
    /// Its port.
    pub port: u16,
    /// The longest value of a tag, in bytes; the proxy's default where nothing is said.
    pub max_tag_length: Option<u32>,
    /// How long an export may take.
    pub timeout: Option<Duration>,
    /// Headers of an export.
    pub headers: Vec<(String, String)>,
}

/// Spans by OTLP.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenTelemetry {
    /// Where they go.
    pub exporter: Exporter,
    /// The path of OTLP over HTTP; none stands for gRPC.
    pub http_path: Option<String>,
}

/// Which headers carry the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceContext {
    /// B3's.
    B3,
    /// B3's, and W3C's beside them.
    B3AndW3c,
}

/// Spans in Zipkin's form.
#[derive(Clone, Debug, PartialEq)]
pub struct Zipkin {
    /// Where they go.
    pub exporter: Exporter,
    /// The path of its API.
    pub path: String,
    /// Whether trace ids have 64 bits rather than 128.
    pub short_trace_ids: bool,
    /// Which headers carry the trace.
    pub context: TraceContext,
}

/// A line for each request.
#[derive(Clone, Debug, PartialEq)]
pub struct FileAccessLog {
    /// Where it is written; `/dev/stdout` where nothing is said.
    pub path: String,
    /// What is in it; Istio's own line where nothing is said.
    pub format: Option<LogFormat>,
    /// Whether fields without a value are left out.
    pub omit_empty: bool,
}

/// What is in a line.
#[derive(Clone, Debug, PartialEq)]
pub enum LogFormat {
    /// A text with Envoy's command operators.
    Text(String),
    /// JSON whose values have them.
    Labels(serde_json::Map<String, Value>),
}

/// Providers that hold where nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DefaultProviders {
    /// Of spans.
    pub tracing: Vec<String>,
    /// Of metrics.
    pub metrics: Vec<String>,
    /// Of access logs.
    pub access_logging: Vec<String>,
}

/// Istio's: as good as none.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Of a service that counts, which every request waits for.
const COUNTING: Duration = Duration::from_millis(100);

/// Those that Istio has without a word of its configuration (`DefaultMeshConfig`). One that is written under such a name comes before.
pub(super) static BUILT_IN: LazyLock<[Provider; 2]> = LazyLock::new(|| {
    let lines = FileAccessLog {
        path: STANDARD_OUTPUT.to_owned(),
        format: None,
        omit_empty: false,
    };
    [
        ("prometheus", ProviderKind::Prometheus),
        ("envoy", ProviderKind::FileAccessLog(lines)),
    ]
    .map(|(name, kind)| Provider {
        name: name.to_owned(),
        kind,
    })
});

/// Where lines go, unless something else is said.
const STANDARD_OUTPUT: &str = "/dev/stdout";

/// All providers that can be read; the others are noted.
pub(super) fn all(fields: &mut Fields<'_, '_>) -> Vec<Provider> {
    let Some(value) = fields.take("extensionProviders") else {
        return Vec::new();
    };
    let Some(list) = value.as_array() else {
        fields.note("extensionProviders", "it is not a list: there is no provider");
        return Vec::new();
    };
    let mut names = BTreeSet::new();
    let mut found = Vec::new();
    for (index, value) in list.iter().enumerate() {
        let at = format!("extensionProviders[{index}]");
        let Some(map) = value.as_object() else {
            fields.note(&at, "it is not a map of fields: there is no such provider");
            continue;
        };
        let Some(provider) = fields.item(&at, map, one_provider) else {
            continue;
        };
        if names.insert(provider.name.clone()) {
            found.push(provider);
        } else {
            fields.note(
                &at,
                format!("there is a provider {:?} before it, which holds", provider.name),
            );
        }
    }
    found
}

/// Which providers hold where nothing is said.
pub(super) fn defaults(fields: &mut Fields<'_, '_>) -> Option<DefaultProviders> {
    fields.below("defaultProviders", |fields| {
        let found = DefaultProviders {
            tracing: fields.texts("tracing"),
            metrics: fields.texts("metrics"),
            access_logging: fields.texts("accessLogging"),
        };
        fields.finish("it is unknown");
        found
    })
}

fn one_provider(fields: &mut Fields<'_, '_>) -> Option<Provider> {
    let name = fields.text("name").unwrap_or_default();
    if name.is_empty() {
        fields.note("name", "it is missing: there is no such provider");
        return None;
    }
    let kinds = fields.left();
    let [kind] = kinds.as_slice() else {
        fields.note(
            "",
            format!(
                "provider {name:?} must have one kind, and has {}: there is no such provider",
                kinds.len()
            ),
        );
        return None;
    };
    let read: fn(&mut Fields<'_, '_>) -> Option<ProviderKind> = match *kind {
        "envoyExtAuthzHttp" => |fields| authz_http(fields).map(ProviderKind::AuthzHttp),
        "envoyExtAuthzGrpc" => |fields| authz(fields).map(ProviderKind::AuthzGrpc),
        "envoyRateLimit" => |fields| rate_limit(fields).map(ProviderKind::RateLimit),
        "opentelemetry" => |fields| open_telemetry(fields).map(ProviderKind::OpenTelemetry),
        "zipkin" => |fields| zipkin(fields).map(ProviderKind::Zipkin),
        "envoyFileAccessLog" => |fields| file_access_log(fields).map(ProviderKind::FileAccessLog),
        "prometheus" => |_| Some(ProviderKind::Prometheus),
        other => {
            fields.note(
                other,
                format!("this kind of provider is not served: there is no provider {name:?}"),
            );
            return None;
        }
    };
    let kind = fields.below(kind, |fields| {
        let read = read(fields);
        let is_good = fields.finish("it is unknown, and has no effect");
        read.filter(|_| is_good)
    });
    Some(Provider {
        name,
        kind: kind.flatten()?,
    })
}

fn service(fields: &mut Fields<'_, '_>) -> Option<(String, u16)> {
    let service = fields.text("service").unwrap_or_default();
    let port = fields.number("port");
    if service.is_empty() {
        fields.note("service", "it is missing: there is no such provider");
        return None;
    }
    match port.map(u16::try_from) {
        Some(Ok(port)) if port > 0 => Some((service, port)),
        _ => {
            fields.note("port", "it is no port: there is no such provider");
            None
        }
    }
}

fn rate_limit(fields: &mut Fields<'_, '_>) -> Option<RateLimit> {
    let service = service(fields);
    let timeout = fields.duration("timeout").unwrap_or(COUNTING);
    let fail_open = fields.flag("failOpen");
    let (service, port) = service?;
    Some(RateLimit {
        service,
        port,
        timeout,
        fail_open,
    })
}

fn authz(fields: &mut Fields<'_, '_>) -> Option<AuthzGrpc> {
    let service = service(fields);
    let timeout = fields.duration("timeout").unwrap_or(TIMEOUT);
    let fail_open = fields.flag("failOpen");
    let clear_route_cache = fields.flag("clearRouteCache");
    let status = fields.text("statusOnError");
    let body = fields.below("includeRequestBodyInCheck", |fields| {
        let body = BodyInCheck {
            max_bytes: fields.number("maxRequestBytes").unwrap_or_default(),
            allow_partial: fields.flag("allowPartialMessage"),
            as_bytes: fields.flag("packAsBytes"),
        };
        fields.finish("it is unknown");
        body
    });
    let status_on_error = match status.as_deref().map(str::parse::<u16>) {
        None => None,
        Some(Ok(status)) if (200..600).contains(&status) => Some(status),
        Some(_) => {
            fields.note("statusOnError", "it is no HTTP status: there is no such provider");
            return None;
        }
    };
    if body.is_some_and(|body| body.max_bytes == 0) {
        fields.note(
            "includeRequestBodyInCheck.maxRequestBytes",
            "it must be above 0: there is no such provider",
        );
        return None;
    }
    let (service, port) = service?;
    Some(AuthzGrpc {
        service,
        port,
        timeout,
        fail_open,
        clear_route_cache,
        status_on_error,
        body,
    })
}

fn authz_http(fields: &mut Fields<'_, '_>) -> Option<AuthzHttp> {
    let common = authz(fields);
    // What Istio called it before.
    let mut request_headers = fields.texts("includeHeadersInCheck");
    request_headers.extend(fields.texts("includeRequestHeadersInCheck"));
    let path_prefix = fields.text("pathPrefix").unwrap_or_default();
    let additional_headers = fields.map("includeAdditionalHeadersInCheck");
    let upstream_on_allow = fields.texts("headersToUpstreamOnAllow");
    let downstream_on_deny = fields.texts("headersToDownstreamOnDeny");
    let downstream_on_allow = fields.texts("headersToDownstreamOnAllow");
    Some(AuthzHttp {
        common: common?,
        path_prefix,
        request_headers,
        additional_headers,
        upstream_on_allow,
        downstream_on_deny,
        downstream_on_allow,
    })
}

fn exporter(fields: &mut Fields<'_, '_>) -> Option<Exporter> {
    let service = service(fields);
    let max_tag_length = fields.number("maxTagLength");
    let (service, port) = service?;
    Some(Exporter {
        service,
        port,
        max_tag_length,
        timeout: None,
        headers: Vec::new(),
    })
}

fn open_telemetry(fields: &mut Fields<'_, '_>) -> Option<OpenTelemetry> {
    let exporter = exporter(fields);
    let http = fields.below("http", |fields| {
        let read = (
            fields.text("path"),
            fields.duration("timeout"),
            headers(fields, "headers"),
        );
        fields.finish("it is unknown");
        read
    });
    let grpc = fields.below("grpc", |fields| {
        let read = (fields.duration("timeout"), headers(fields, "initialMetadata"));
        fields.finish("it is unknown");
        read
    });
    fields.pass_over(
        "resourceDetectors",
        "no resource is detected: spans say what the mesh knows of the waypoint",
    );
    fields.pass_over(
        "dynatraceSampler",
        "this sampler is not served: Telemetry says what is sampled",
    );
    let mut exporter = exporter?;
    let mut http_path = None;
    if let Some((timeout, headers)) = grpc {
        (exporter.timeout, exporter.headers) = (timeout, headers);
    }
    if let Some((path, timeout, headers)) = http {
        http_path = Some(path.unwrap_or_else(|| "/v1/traces".to_owned()));
        (exporter.timeout, exporter.headers) = (timeout, headers);
    }
    Some(OpenTelemetry { exporter, http_path })
}

/// A list of `{name, value}`.
fn headers(fields: &mut Fields<'_, '_>, name: &str) -> Vec<(String, String)> {
    let Some(value) = fields.take(name) else {
        return Vec::new();
    };
    let one = |value: &Value| Some((value["name"].as_str()?.to_owned(), value["value"].as_str()?.to_owned()));
    let all = value
        .as_array()
        .and_then(|all| all.iter().map(one).collect::<Option<Vec<_>>>());
    all.unwrap_or_else(|| {
        fields.note(name, "it is not a list of names and values: there is none");
        Vec::new()
    })
}

fn zipkin(fields: &mut Fields<'_, '_>) -> Option<Zipkin> {
    let exporter = exporter(fields);
    let timeout = fields.duration("timeout");
    let headers = headers(fields, "headers");
    let path = fields.text("path").unwrap_or_else(|| "/api/v2/spans".to_owned());
    let short_trace_ids = fields.flag("enable64bitTraceId");
    let context = match fields.text("traceContextOption").as_deref() {
        None | Some("USE_B3") => TraceContext::B3,
        Some("USE_B3_WITH_W3C_PROPAGATION") => TraceContext::B3AndW3c,
        Some(_) => {
            fields.note("traceContextOption", "it is unknown: B3's headers are used");
            TraceContext::B3
        }
    };
    Some(Zipkin {
        exporter: Exporter {
            timeout,
            headers,
            ..exporter?
        },
        path,
        short_trace_ids,
        context,
    })
}

fn file_access_log(fields: &mut Fields<'_, '_>) -> Option<FileAccessLog> {
    let path = fields.text("path").unwrap_or_else(|| STANDARD_OUTPUT.to_owned());
    let format = fields.below("logFormat", |fields| {
        let text = fields.text("text");
        let labels = fields.take("labels");
        if labels.is_some_and(|labels| !labels.is_object()) {
            fields.note("labels", "it is not a map: the line is Istio's own");
        }
        let labels = labels.and_then(Value::as_object).cloned();
        fields.finish("it is unknown");
        text.map(LogFormat::Text).or(labels.map(LogFormat::Labels))
    });
    Some(FileAccessLog {
        path,
        format: format.flatten(),
        omit_empty: fields.flag("omitEmptyValues"),
    })
}
