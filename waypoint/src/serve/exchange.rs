//! One request, from its head to its answer.

use std::sync::Arc;

use http::{Request, Response, StatusCode, Version};
use hyper::body::Incoming;

use super::{forward, http::Connection};
use crate::{
    answer::{AnswerBody, local},
    body::Upload,
    headers::{self, BadRequest},
    telemetry::Record,
};

/// Bytes of a request's body that are kept for another attempt: as Envoy's buffer, less.
const KEPT: usize = 64 << 10;

/// Answers a request.
pub(super) async fn serve(connection: Arc<Connection>, request: Request<Incoming>) -> Response<AnswerBody> {
    let version = request.version();
    let mut response = answer(&connection, request).await;
    if version == Version::HTTP_10 {
        response
            .headers_mut()
            .insert(http::header::CONNECTION, http::HeaderValue::from_static("close"));
    }
    response
}

async fn answer(connection: &Arc<Connection>, request: Request<Incoming>) -> Response<AnswerBody> {
    let inner = &connection.worker.0;
    let chain = &connection.chain;
    let (mut head, body) = request.into_parts();
    let mut record = Box::new(Record::new(
        &inner.telemetry,
        &connection.client,
        &chain.service,
        connection.destination,
        &head,
    ));
    let upload = Upload::new(body, KEPT);
    record.upload = Some(upload.clone());
    if head.version == Version::HTTP_10 {
        return refuse(record, StatusCode::UPGRADE_REQUIRED, "DPE", "low_version", "");
    }
    let Some(held) = inner.request() else {
        return refuse(record, StatusCode::SERVICE_UNAVAILABLE, "UO", "overload", "overloaded");
    };
    if let Err(bad) = headers::receive(&mut head, connection.client.address) {
        let details = match bad {
            BadRequest::Host => "missing_host_header",
            BadRequest::Framing => "http1.bad_framing",
            BadRequest::Path => "path_rejected",
        };
        return refuse(record, StatusCode::BAD_REQUEST, "DPE", details, "");
    }
    let snapshot = inner.state.load_full();
    let Some(routes) = snapshot.routes.get(&chain.routes) else {
        return refuse(record, StatusCode::NOT_FOUND, "NR", "route_configuration_not_found", "");
    };
    let Some(route) = routes.find(&head) else {
        return refuse(record, StatusCode::NOT_FOUND, "NR", "route_not_found", "");
    };
    record.route = Some(Arc::clone(&route.name)).filter(|name| !name.is_empty());
    let name = route.cluster(fastrand::u64(..));
    record.cluster = Some(Arc::clone(name));
    let Some(cluster) = snapshot.clusters.get(name) else {
        return refuse(record, StatusCode::SERVICE_UNAVAILABLE, "NC", "cluster_not_found", "");
    };
    let response = forward::forward(inner, cluster, head, upload, record).await;
    response.map(|body| body.holding(held))
}

/// An answer that the waypoint gives by itself.
pub(super) fn refuse(
    mut record: Box<Record>,
    status: StatusCode,
    flag: &'static str,
    details: &str,
    body: &str,
) -> Response<AnswerBody> {
    if !flag.is_empty() {
        record.flags.set(flag);
    }
    details.clone_into(&mut record.details);
    local(status, body, record)
}
