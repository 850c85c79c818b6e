//! From an HttpConnectionManager's `tracing` to what is done with each request.

use std::time::Duration;

use culvert_envoy::pb::envoy::config::core::v3::{
    GrpcService, HeaderValue as Header, HttpService, grpc_service::TargetSpecifier, http_uri::HttpUpstreamType,
};
use culvert_envoy::pb::envoy::config::trace::v3::{
    OpenTelemetryConfig, ZipkinConfig, tracing::http::ConfigType, zipkin_config::CollectorEndpointVersion,
};
use culvert_envoy::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::Tracing as Message;
use culvert_envoy::pb::envoy::r#type::v3::Percent;
use culvert_envoy::{type_url, unpack};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::context::{Context, Extracted, Form, SpanId, TraceId};
use super::propagation::Propagation;
use super::sampling::Sampling;
use super::span::Span;
use super::tags::Tag;
use crate::error::CompileError;
use crate::value::duration;

/// Longest path in a span, in bytes, where nothing is said.
const MAX_PATH: usize = 256;
/// How long a receiver may take, where nothing is said.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What is done about traces by a chain.
#[derive(Clone, Debug)]
pub struct Tracing {
    sampling: Sampling,
    propagation: Propagation,
    tags: Vec<Tag>,
    /// Longest path in a span's `http.url`, in bytes.
    pub max_path: usize,
    /// Whether each attempt has a span of its own.
    pub spans_attempts: bool,
    /// Where spans go.
    pub exporter: Exporter,
    /// Whether a span has the id of the one that its request was sent in.
    shares_spans: bool,
    /// Whether traces that begin here have names of 64 bits.
    is_short: bool,
}

/// Where spans go, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Exporter {
    /// Who speaks; empty for the waypoint's own name.
    pub service: String,
    /// The cluster that receives.
    pub cluster: String,
    /// Its `:authority`, or host.
    pub authority: String,
    /// How long it may take for a batch.
    pub timeout: Duration,
    /// What it speaks.
    pub receiver: Receiver,
    /// What every batch is sent with.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// What a receiver speaks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Receiver {
    /// OTLP over gRPC.
    OtlpGrpc,
    /// OTLP in protobuf over HTTP, posted to this path.
    OtlpHttp(String),
    /// Zipkin's JSON, posted to this path.
    Zipkin(String),
}

/// What of a trace a request was found to be in.
#[derive(Clone, Debug)]
pub struct Begun {
    /// The context of the span of this request.
    pub context: Context,
    /// Whether that span has the id of the one that the request was sent in.
    pub is_shared: bool,
}

impl Tracing {
    /// Reads the message. `environment` is asked for variables that tags name.
    ///
    /// # Errors
    /// Where something is not served.
    pub fn compile(message: &Message, environment: &dyn Fn(&str) -> Option<String>) -> Result<Self, CompileError> {
        if message.verbose {
            return Err(CompileError::unserved("verbose"));
        }
        let rest = Message {
            client_sampling: None,
            random_sampling: None,
            overall_sampling: None,
            max_path_tag_length: None,
            custom_tags: Vec::new(),
            provider: None,
            spawn_upstream_span: None,
            ..message.clone()
        };
        if rest != Message::default() {
            return Err(CompileError::unserved("a field of it"));
        }
        let sampling = Sampling {
            client: share("client_sampling", message.client_sampling.as_ref())?,
            random: share("random_sampling", message.random_sampling.as_ref())?,
            overall: share("overall_sampling", message.overall_sampling.as_ref())?,
        };
        let tags = message.custom_tags.iter().map(|tag| Tag::compile(tag, environment));
        let tags = tags.filter_map(Result::transpose).collect::<Result<_, _>>()?;
        let provider = message
            .provider
            .as_ref()
            .ok_or_else(|| CompileError::missing("provider"))?;
        let Some(ConfigType::TypedConfig(config)) = &provider.config_type else {
            return Err(CompileError::missing("provider.typed_config"));
        };
        let base = Self {
            sampling,
            propagation: Propagation::W3c,
            tags,
            max_path: message
                .max_path_tag_length
                .as_ref()
                .map_or(MAX_PATH, |length| length.value as usize),
            spans_attempts: message.spawn_upstream_span.as_ref().is_some_and(|flag| flag.value),
            exporter: Exporter {
                service: String::new(),
                cluster: String::new(),
                authority: String::new(),
                timeout: TIMEOUT,
                receiver: Receiver::OtlpGrpc,
                headers: Vec::new(),
            },
            shares_spans: false,
            is_short: false,
        };
        let within = |error: CompileError| error.within(format!("provider `{}`", provider.name));
        if config.type_url == type_url::<OpenTelemetryConfig>() {
            let config = unpack(config).map_err(|error| within(CompileError::new("typed_config", error)))?;
            return base.with_open_telemetry(config).map_err(within);
        }
        if config.type_url == type_url::<ZipkinConfig>() {
            let config = unpack(config).map_err(|error| within(CompileError::new("typed_config", error)))?;
            return base.with_zipkin(config).map_err(within);
        }
        Err(within(CompileError::invalid(
            "typed_config",
            format_args!("{} is not served", config.type_url),
        )))
    }

    fn with_open_telemetry(mut self, mut config: OpenTelemetryConfig) -> Result<Self, CompileError> {
        self.exporter.service = std::mem::take(&mut config.service_name);
        match (config.grpc_service.take(), config.http_service.take()) {
            (Some(grpc), None) => self.exporter.grpc(grpc).map_err(|error| error.within("grpc_service"))?,
            (None, Some(http)) => self
                .exporter
                .http(http, Receiver::OtlpHttp)
                .map_err(|error| error.within("http_service"))?,
            _ => {
                return Err(CompileError::invalid(
                    "grpc_service, http_service",
                    "one of them is to be set",
                ));
            }
        }
        if config != OpenTelemetryConfig::default() {
            return Err(CompileError::unserved(
                "exporter, resource_detectors, sampler, max_cache_size or one of set_...",
            ));
        }
        Ok(self)
    }

    fn with_zipkin(mut self, mut config: ZipkinConfig) -> Result<Self, CompileError> {
        let version = std::mem::take(&mut config.collector_endpoint_version);
        if version != i32::from(CollectorEndpointVersion::HttpJson) {
            return Err(CompileError::invalid(
                "collector_endpoint_version",
                "only HTTP_JSON is served",
            ));
        }
        self.is_short = !std::mem::take(&mut config.trace_id_128bit);
        self.shares_spans = config.shared_span_context.take().is_none_or(|flag| flag.value);
        self.propagation = match std::mem::take(&mut config.trace_context_option) {
            0 => Propagation::B3,
            1 => Propagation::B3WithW3c,
            other => {
                return Err(CompileError::invalid(
                    "trace_context_option",
                    format_args!("there is no {other}"),
                ));
            }
        };
        if let Some(service) = config.collector_service.take() {
            self.exporter
                .http(service, Receiver::Zipkin)
                .map_err(|error| error.within("collector_service"))?;
            return self.finish_zipkin(&config);
        }
        self.exporter.cluster = std::mem::take(&mut config.collector_cluster);
        let host = std::mem::take(&mut config.collector_hostname);
        self.exporter.authority = if host.is_empty() {
            self.exporter.cluster.clone()
        } else {
            host
        };
        self.exporter.receiver = Receiver::Zipkin(std::mem::take(&mut config.collector_endpoint));
        if self.exporter.cluster.is_empty() {
            return Err(CompileError::missing("collector_cluster"));
        }
        self.finish_zipkin(&config)
    }

    fn finish_zipkin(self, rest: &ZipkinConfig) -> Result<Self, CompileError> {
        if *rest != ZipkinConfig::default() {
            return Err(CompileError::unserved(
                "split_spans_for_request, timestamp_trace_ids, or a collector beside collector_service",
            ));
        }
        Ok(self)
    }

    /// Finds out where in a trace a request is. None where its fields about it make no sense: then nothing is said of it, and they go on
    /// as they are. `random` makes ids.
    pub fn begin(&self, headers: &mut HeaderMap, random: &mut dyn FnMut() -> u64) -> Option<Begun> {
        let traced = self.sampling.decide(headers);
        let begun = |context| Begun {
            context,
            is_shared: false,
        };
        match self.propagation.extract(headers) {
            Extracted::Malformed => None,
            Extracted::Nothing => Some(begun(self.root(traced, self.propagation.form(), random))),
            Extracted::Decision(sampled, form) => Some(begun(self.root(sampled, form, random))),
            Extracted::Context(before) => {
                let sampled = match self.propagation {
                    // As Envoy: what was sampled before is so further on only if it is here, too.
                    Propagation::W3c => before.sampled.unwrap_or(traced) && traced,
                    Propagation::B3 | Propagation::B3WithW3c => before.sampled.unwrap_or(traced),
                };
                let here = Context {
                    sampled: Some(sampled),
                    ..before
                };
                if self.shares_spans {
                    return Some(Begun {
                        context: here,
                        is_shared: true,
                    });
                }
                Some(begun(child(&here, random)))
            }
        }
    }

    /// Says in a request's fields that it is sent in the span of this context.
    pub fn inject(&self, context: &Context, headers: &mut HeaderMap) {
        self.propagation.inject(context, headers);
    }

    /// Says of a span what the configuration adds.
    pub fn tag(&self, request: &Parts, span: &mut Span) {
        self.tags.iter().for_each(|tag| tag.apply(request, span));
    }

    fn root(&self, sampled: bool, form: Form, random: &mut dyn FnMut() -> u64) -> Context {
        let high = if self.is_short { 0 } else { u128::from(random()) };
        let span = random();
        let trace = (high << 64) | u128::from(span);
        // Zipkin's root span has its trace's name; of OTLP's, the lower half would say as much, so another one is drawn.
        let span = if form == Form::W3c { random() } else { span };
        Context {
            trace: TraceId::nonzero(trace),
            is_short: self.is_short,
            span: SpanId::nonzero(span),
            parent: None,
            sampled: Some(sampled),
            state: None,
            form,
        }
    }
}

/// The context of a span inside of another.
pub fn child(of: &Context, random: &mut dyn FnMut() -> u64) -> Context {
    Context {
        span: SpanId::nonzero(random()),
        parent: Some(of.span),
        ..of.clone()
    }
}

impl Exporter {
    fn grpc(&mut self, mut service: GrpcService) -> Result<(), CompileError> {
        if let Some(timeout) = service.timeout.take() {
            self.timeout = duration("timeout", &timeout)?;
        }
        match service.target_specifier.take() {
            Some(TargetSpecifier::EnvoyGrpc(target)) if !target.cluster_name.is_empty() => {
                if target.retry_policy.is_some() || target.max_receive_message_length.is_some() {
                    return Err(CompileError::unserved(
                        "envoy_grpc: retry_policy or max_receive_message_length",
                    ));
                }
                self.authority = match target.authority.is_empty() {
                    true => target.cluster_name.clone(),
                    false => target.authority,
                };
                self.cluster = target.cluster_name;
            }
            _ => return Err(CompileError::missing("envoy_grpc.cluster_name")),
        }
        for header in std::mem::take(&mut service.initial_metadata) {
            self.header(&header).map_err(|error| error.within("initial_metadata"))?;
        }
        if service != GrpcService::default() {
            return Err(CompileError::unserved("retry_policy"));
        }
        self.receiver = Receiver::OtlpGrpc;
        Ok(())
    }

    fn http(
        &mut self,
        mut service: HttpService,
        receiver: impl FnOnce(String) -> Receiver,
    ) -> Result<(), CompileError> {
        let uri = service
            .http_uri
            .take()
            .ok_or_else(|| CompileError::missing("http_uri"))?;
        if let Some(timeout) = &uri.timeout {
            self.timeout = duration("http_uri.timeout", timeout)?;
        }
        let target: http::Uri = uri
            .uri
            .parse()
            .map_err(|_| CompileError::invalid("http_uri.uri", format_args!("{:?} is none", uri.uri)))?;
        let authority = target.authority().map(ToString::to_string);
        self.authority = authority.ok_or_else(|| CompileError::invalid("http_uri.uri", "has no host"))?;
        self.receiver = receiver(target.path().to_owned());
        match uri.http_upstream_type {
            Some(HttpUpstreamType::Cluster(cluster)) if !cluster.is_empty() => self.cluster = cluster,
            _ => return Err(CompileError::missing("http_uri.cluster")),
        }
        for header in std::mem::take(&mut service.request_headers_to_add) {
            let header = header.header.unwrap_or_default();
            self.header(&header)
                .map_err(|error| error.within("request_headers_to_add"))?;
        }
        if service != HttpService::default() {
            return Err(CompileError::unserved("formatters"));
        }
        Ok(())
    }

    /// Something to be sent with every batch. Of operators only `%%` is one, since there is no request that others would tell of.
    fn header(&mut self, header: &Header) -> Result<(), CompileError> {
        let invalid = |why: &str| CompileError::invalid(format!("`{}`", header.key), why);
        let name = HeaderName::try_from(&header.key).map_err(|_| invalid("is no header field's name"))?;
        let value = header.value.replace("%%", "");
        if value.contains('%') {
            return Err(invalid("has an operator, which is not served here"));
        }
        let value = HeaderValue::try_from(header.value.replace("%%", "%"));
        self.headers
            .push((name, value.map_err(|_| invalid("has a value that no header can have"))?));
        Ok(())
    }
}

/// Percent in ten thousandths; all where nothing is said.
fn share(field: &str, percent: Option<&Percent>) -> Result<u32, CompileError> {
    let percent = percent.map_or(100.0, |percent| percent.value);
    if !(0.0..=100.0).contains(&percent) {
        return Err(CompileError::invalid(field, format_args!("{percent} is no percentage")));
    }
    Ok((percent * 100.0).round() as u32)
}
