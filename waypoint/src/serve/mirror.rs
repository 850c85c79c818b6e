//! Copies of requests.

use culvert_http::route::Forward;
use http::{Request, Version, request::Parts};

use super::worker::Inner;
use crate::{body::Upload, config::cluster::Protocol, counted::Counted, headers, state::Snapshot, upstream::Ends};

/// Sends copies where the route says so. Nobody waits for their answers.
pub(super) fn send(
    inner: &Inner,
    snapshot: &Snapshot,
    forward: &Forward,
    upload: &Upload,
    head: &Parts,
    ends: Option<Ends>,
) {
    for mirror in forward.mirrors() {
        if !mirror.fraction().hit(fastrand::u64(..)) {
            continue;
        }
        let Some(cluster) = snapshot.clusters.get(mirror.cluster()).cloned() else {
            tracing::debug!(cluster = mirror.cluster(), "a mirror is not there");
            continue;
        };
        let mut head = head.clone();
        mirror.rewrite(&mut head);
        let body = upload.copy();
        let upstream = inner.upstream.clone();
        let is_http2 = match cluster.config.protocol {
            Protocol::Http1 => false,
            Protocol::Http2 => true,
            Protocol::Downstream => head.version == Version::HTTP_2,
        };
        tokio::spawn(async move {
            let (Some(_counted), Some(endpoint)) = (cluster.request(), cluster.choose(None, 0, &[])) else {
                return;
            };
            if headers::send(&mut head, is_http2).is_err() {
                return;
            }
            let _active = Counted::new(&endpoint.load.active);
            let request = Request::from_parts(head, body);
            let sending = upstream.send_between(ends, &cluster, endpoint, is_http2, request);
            match sending.await {
                // Read, so that the connection can be kept.
                Ok((response, _lease)) => drop(http_body_util::BodyExt::collect(response.into_body()).await),
                Err(failure) => tracing::debug!(error = failure.why, "a mirror did not answer"),
            }
        });
    }
}
