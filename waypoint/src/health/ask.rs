//! One check of an endpoint.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use prost::Message as _;

use crate::{
    body::Body,
    cluster::Cluster,
    config::health_check::Ask,
    endpoint::Endpoint,
    endpoint_tls::Purpose,
    headers,
    upstream::{Upstream, Use},
};

/// Bytes of an answer that are read.
const MOST: usize = 64 << 10;
const AGENT: &str = "culvert/health-check";
const GRPC_PATH: &str = "/grpc.health.v1.Health/Check";
/// `grpc.health.v1.HealthCheckResponse.ServingStatus.SERVING`.
const SERVING: i32 = 1;

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// Asks an endpoint whether it serves.
///
/// # Errors
/// Why it does not, as far as is known.
pub(super) async fn ask(upstream: &Upstream, cluster: &Cluster, endpoint: &Endpoint, ask: &Ask) -> Result<(), String> {
    match ask {
        Ask::Http {
            host,
            path,
            is_http2,
            expected,
        } => {
            let request = request(Method::GET, host, path, Body::Empty, *is_http2)?;
            let sent = upstream.send(cluster, endpoint, *is_http2, request).await;
            let (response, _lease) = sent.map_err(|failure| failure.why)?;
            let status = i64::from(response.status().as_u16());
            // Read to its end, the connection can be used again.
            let _rest = Limited::new(response.into_body(), MOST).collect().await;
            match expected.iter().any(|(first, end)| (*first..*end).contains(&status)) {
                true => Ok(()),
                false => Err(format!("status {status}")),
            }
        }
        Ask::Grpc { authority, service } => grpc(upstream, cluster, endpoint, authority, service).await,
        Ask::Tcp => {
            let headers = [("baggage", &*upstream.baggage)];
            let use_ = Use {
                purpose: Purpose::Bytes,
                ends: None,
            };
            let connected = upstream.connect(endpoint, &headers, &cluster.config, use_).await;
            connected.map(drop).map_err(|failure| failure.to_string())
        }
    }
}

async fn grpc(
    upstream: &Upstream,
    cluster: &Cluster,
    endpoint: &Endpoint,
    authority: &str,
    service: &str,
) -> Result<(), String> {
    let message = HealthCheckRequest {
        service: service.to_owned(),
    }
    .encode_to_vec();
    let length = u32::try_from(message.len()).map_err(|error| error.to_string())?;
    let body = [&[0][..], &length.to_be_bytes(), &message].concat();
    let body = Body::Whole(Some(Bytes::from(body)));
    let mut request = request(Method::POST, authority, GRPC_PATH, body, true)?;
    let fields = request.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    fields.insert(header::TE, HeaderValue::from_static("trailers"));
    let sent = upstream.send(cluster, endpoint, true, request).await;
    let (response, _lease) = sent.map_err(|failure| failure.why)?;
    let (head, body) = response.into_parts();
    let collected = Limited::new(body, MOST)
        .collect()
        .await
        .map_err(|error| error.to_string())?;
    let code = |headers: &HeaderMap| headers.get("grpc-status").cloned();
    let status = collected.trailers().and_then(code).or_else(|| code(&head.headers));
    if head.status != StatusCode::OK || status.as_ref().is_none_or(|status| status.as_bytes() != b"0") {
        return Err(format!("HTTP status {}, gRPC status {status:?}", head.status.as_u16()));
    }
    let bytes = collected.to_bytes();
    let message = bytes
        .get(5..)
        .and_then(|message| HealthCheckResponse::decode(message).ok());
    match message.map(|message| message.status) {
        Some(SERVING) => Ok(()),
        Some(other) => Err(format!("serving status {other}")),
        None => Err("an answer that does not parse".to_owned()),
    }
}

fn request(method: Method, host: &str, path: &str, body: Body, is_http2: bool) -> Result<Request<Body>, String> {
    let request = Request::builder()
        .method(method)
        .uri(format!("http://{host}{path}"))
        .header(header::USER_AGENT, AGENT)
        .body(body);
    let (mut head, body) = request.map_err(|error| error.to_string())?.into_parts();
    headers::send(&mut head, is_http2).map_err(|_| "a host or path that no request can have".to_owned())?;
    Ok(Request::from_parts(head, body))
}
