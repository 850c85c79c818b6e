//! From an HttpConnectionManager to what is served of it.

use std::{sync::Arc, time::Duration};

use culvert_envoy::pb::envoy::config::accesslog::v3::AccessLog as AccessLogMessage;
use culvert_envoy::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter,
    http_connection_manager::{CodecType, RouteSpecifier, UpgradeConfig},
    http_filter,
};
use culvert_envoy::pb::google::protobuf::Duration as ProtoDuration;
use http::HeaderValue;

use culvert_http::{access_log::AccessLog, trace::Tracing};

use super::{
    filters::{Filter, NamedFilter},
    metrics::MetricOverrides,
    observing::Observing,
    refusal::{Refusal, compiled, nothing_else},
    retirement::Retirement,
    values::duration,
};

/// A chain that serves HTTP.
#[derive(Debug)]
pub struct HttpChain {
    /// Its name, `SERVICE:PORT`.
    pub name: Arc<str>,
    /// By this two are known to say the same.
    pub said: u64,
    /// Whether it is in force.
    pub retirement: Retirement,
    /// The service, `namespace/hostname`.
    pub service: Arc<str>,
    /// The name of its routes.
    pub routes: Arc<str>,
    /// What is asked before a request is routed, in order.
    pub filters: Vec<NamedFilter>,
    /// Upgrades that are let through, in lower case.
    pub upgrades: Vec<Box<str>>,
    /// Whether paths are normalised before they are looked at.
    pub normalize_path: bool,
    /// Whether slashes that follow one another are one.
    pub merge_slashes: bool,
    /// How long an exchange may be silent; none: any time.
    pub stream_idle_timeout: Option<Duration>,
    /// How long an exchange may last at all; none: any time.
    pub max_stream_duration: Option<Duration>,
    /// How long a request may take until all of it has come; none: any time.
    pub request_timeout: Option<Duration>,
    /// How long a client's connection without a request is kept; none: any time.
    pub idle_timeout: Option<Duration>,
    /// What is to be known of its requests.
    pub observing: Arc<Observing>,
    /// HTTP/2 streams that a client may have open at once on a connection.
    pub streams: u32,
    /// Whether clients with HTTP/2 may ask for an upgrade by an extended CONNECT (RFC 8441).
    pub extended_connect: bool,
    /// Whose name a request of HTTP/1.0 gets that names no host; none: HTTP/1.0 is not served.
    pub http10_host: Option<HeaderValue>,
}

/// Streams where nothing is said.
const STREAMS: u32 = 1024;

/// Reads a connection manager, beside which its chain says this of metrics; `said` stands for all of the chain.
///
/// # Errors
/// Where it says something that is not served.
pub fn read(
    name: Arc<str>,
    said: u64,
    mut manager: HttpConnectionManager,
    metrics: Option<MetricOverrides>,
) -> Result<HttpChain, Refusal> {
    let routes = match manager.route_specifier.take() {
        Some(RouteSpecifier::Rds(rds)) if !rds.route_config_name.is_empty() => rds.route_config_name.into(),
        _ => return Err(Refusal::new("http_connection_manager.rds", "is missing")),
    };
    let codec = std::mem::take(&mut manager.codec_type);
    if ![CodecType::Auto, CodecType::Http1, CodecType::Http2]
        .map(i32::from)
        .contains(&codec)
    {
        return Err(Refusal::new(
            "http_connection_manager.codec_type",
            "HTTP/3 is not served here",
        ));
    }
    let filters = std::mem::take(&mut manager.http_filters);
    let filters = filters.into_iter().map(filter).collect::<Result<Vec<_>, _>>()?;
    let upgrades = std::mem::take(&mut manager.upgrade_configs);
    let upgrades = upgrades.into_iter().map(upgrade).collect::<Result<Vec<_>, _>>()?;
    let stream_idle_timeout = match manager.stream_idle_timeout.take() {
        None => Some(Duration::from_secs(300)),
        Some(time) => Some(duration("stream_idle_timeout", &time)?).filter(|time| !time.is_zero()),
    };
    let mut common = manager.common_http_protocol_options.take().unwrap_or_default();
    let idle_timeout = match common.idle_timeout.take() {
        None => Some(Duration::from_secs(3600)),
        Some(time) => Some(duration("idle_timeout", &time)?).filter(|time| !time.is_zero()),
    };
    let optional = |name: &str, time: Option<ProtoDuration>| {
        let time = time.map(|time| duration(name, &time)).transpose()?;
        Ok::<_, Refusal>(time.filter(|time| !time.is_zero()))
    };
    let max_stream_duration = optional("max_stream_duration", common.max_stream_duration.take())?;
    let request_timeout = optional("request_timeout", manager.request_timeout.take())?;
    nothing_else("common_http_protocol_options", &common)?;
    let mut http2 = manager.http2_protocol_options.take().unwrap_or_default();
    let streams = http2
        .max_concurrent_streams
        .take()
        .map_or(STREAMS, |streams| streams.value);
    let extended_connect = std::mem::take(&mut http2.allow_connect);
    nothing_else("http2_protocol_options", &http2)?;
    let mut http1 = manager.http_protocol_options.take().unwrap_or_default();
    let accepts_http10 = std::mem::take(&mut http1.accept_http_10);
    let host = std::mem::take(&mut http1.default_host_for_http_10);
    let http10_host = accepts_http10.then(|| HeaderValue::try_from(host)).transpose();
    let http10_host = http10_host.map_err(|_| {
        Refusal::new(
            "http_protocol_options.default_host_for_http_10",
            "is no value of a header",
        )
    })?;
    nothing_else("http_protocol_options", &http1)?;
    let normalize_path = manager.normalize_path.take().is_some_and(|value| value.value);
    let merge_slashes = std::mem::take(&mut manager.merge_slashes);
    // The client is who opened the tunnel, never who speaks inside of it.
    if manager.use_remote_address.take().is_some_and(|value| value.value) {
        return Err(Refusal::new("use_remote_address", "is true, and is not served here"));
    }
    if std::mem::take(&mut manager.path_with_escaped_slashes_action) > 1 {
        return Err(Refusal::new(
            "path_with_escaped_slashes_action",
            "only KEEP_UNCHANGED is served here",
        ));
    }
    // Names of metrics are Istio's.
    manager.stat_prefix.clear();
    let observing = Arc::new(observing(&mut manager, metrics)?);
    nothing_else("http_connection_manager", &manager)?;
    let (service, _) = name.rsplit_once(':').unwrap_or((&name, ""));
    Ok(HttpChain {
        service: service.into(),
        name,
        said,
        retirement: Retirement::default(),
        routes,
        filters,
        upgrades,
        normalize_path,
        merge_slashes,
        stream_idle_timeout,
        max_stream_duration,
        request_timeout,
        idle_timeout,
        observing,
        streams,
        extended_connect,
        http10_host,
    })
}

fn observing(manager: &mut HttpConnectionManager, metrics: Option<MetricOverrides>) -> Result<Observing, Refusal> {
    let logs = std::mem::take(&mut manager.access_log);
    let environment = |name: &str| std::env::var(name).ok();
    let tracing = manager.tracing.take();
    let tracing = tracing.map(|tracing| Tracing::compile(&tracing, &environment));
    Ok(Observing {
        metrics: metrics.map(Arc::new),
        logs: access_logs("http_connection_manager", &logs)?,
        tracing: tracing
            .transpose()
            .map_err(compiled("http_connection_manager.tracing"))?,
    })
}

/// Reads what lines are asked for.
///
/// # Errors
/// Where one is not served.
pub(super) fn access_logs(place: &str, logs: &[AccessLogMessage]) -> Result<Vec<AccessLog>, Refusal> {
    logs.iter()
        .map(|log| AccessLog::compile(log).map_err(compiled(place)))
        .collect()
}

fn filter(filter: HttpFilter) -> Result<NamedFilter, Refusal> {
    let place = format!("http filter `{}`", filter.name);
    match filter.config_type {
        Some(http_filter::ConfigType::TypedConfig(config)) => Ok(NamedFilter {
            filter: Filter::compile(&config).map_err(|refusal| refusal.within(&place))?,
            name: filter.name.into(),
            is_disabled: filter.disabled,
        }),
        _ => Err(Refusal::new(format!("{place}: typed_config"), "is missing")),
    }
}

fn upgrade(config: UpgradeConfig) -> Result<Box<str>, Refusal> {
    if !config.filters.is_empty() {
        return Err(Refusal::new(
            "upgrade_configs.filters",
            "is set, and is not served here",
        ));
    }
    Ok(config.upgrade_type.to_ascii_lowercase().into())
}
