//! Asking an authorization service about a request.

use std::time::SystemTime;

use bytes::Bytes;
use culvert_http::{
    Peer,
    filters::{
        Answer,
        ext_authz::{Changes, Check, ExtAuthz, Shown, Verdict},
    },
};
use http::{Request, Response, StatusCode, Version, header, request::Parts};
use http_body_util::{BodyExt as _, Limited};

use super::outcome::too_late;
use crate::{
    answer::{AnswerBody, local, refuse},
    body::{Body, Upload},
    config::cluster::Protocol,
    counted::Counted,
    headers,
    limits::TimeLimits,
    state::Snapshot,
    telemetry::Record,
    upstream::Upstream,
};

/// Bytes of a service's answer that are read.
const MOST: usize = 1 << 20;

/// What a service is asked with.
pub(super) struct Asking<'a> {
    pub(super) upstream: &'a Upstream,
    pub(super) snapshot: &'a Snapshot,
    pub(super) upload: &'a Upload,
    /// How the client speaks.
    pub(super) version: Version,
    /// How long the request may take.
    pub(super) limits: TimeLimits,
}

/// What a request goes on with, or what it is answered with.
type Asked = Result<(Changes, Box<Record>), Box<Response<AnswerBody>>>;

impl Asking<'_> {
    /// Asks, and changes the request as the service says.
    pub(super) async fn ask(
        &self,
        authz: &ExtAuthz,
        head: &mut Parts,
        peer: &Peer<'_>,
        mut record: Box<Record>,
    ) -> Asked {
        let shown = match authz.body() {
            None => None,
            Some(wanted) => {
                let length = head.headers.get(header::CONTENT_LENGTH);
                let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
                let is_known_to_be_more = length.is_some_and(|length| length > wanted.max_bytes as u64);
                let too_large = |record| {
                    let status = StatusCode::PAYLOAD_TOO_LARGE;
                    Err(Box::new(refuse(
                        record,
                        status,
                        "",
                        "request_payload_too_large",
                        "Payload Too Large",
                    )))
                };
                if is_known_to_be_more && !wanted.allow_partial {
                    return too_large(record);
                }
                let read = tokio::select! {
                    read = self.upload.beginning(wanted.max_bytes) => read,
                    late = self.limits.passed(self.upload) => {
                        return Err(Box::new(too_late(record, self.upload, late)));
                    }
                };
                let Some((bytes, is_partial)) = read else {
                    let status = StatusCode::BAD_REQUEST;
                    return Err(Box::new(refuse(
                        record,
                        status,
                        "DC",
                        "downstream_remote_disconnect",
                        "",
                    )));
                };
                if is_partial && !wanted.allow_partial {
                    return too_large(record);
                }
                Some((bytes, is_partial))
            }
        };
        let check = Check {
            request: head,
            peer,
            body: shown.as_ref().map(|(bytes, is_partial)| Shown {
                bytes,
                is_partial: *is_partial,
            }),
            version: self.version,
            now: SystemTime::now(),
        };
        let verdict = match authz.check(&check) {
            Some(request) => self.verdict(authz, request).await,
            None => authz.failed(),
        };
        match verdict {
            Verdict::Allowed(changes) if changes.apply(head) => Ok((changes, record)),
            Verdict::Allowed(_) => {
                "ext_authz_invalid".clone_into(&mut record.details);
                record.flags.set("UAEX");
                Err(Box::new(local(StatusCode::INTERNAL_SERVER_ERROR, "", record)))
            }
            Verdict::Denied(denial) => {
                record.flags.set("UAEX");
                "ext_authz_denied".clone_into(&mut record.details);
                let body = String::from_utf8_lossy(&denial.body);
                let mut response = local(denial.status, &body, record);
                let mut last = None;
                for (name, value) in denial.headers {
                    // A name comes with the first of its values alone.
                    match name {
                        Some(name) => {
                            response.headers_mut().insert(name.clone(), value);
                            last = Some(name);
                        }
                        None => {
                            if let Some(name) = &last {
                                response.headers_mut().append(name.clone(), value);
                            }
                        }
                    }
                }
                Err(Box::new(response))
            }
            Verdict::Failed(status) => {
                record.flags.set("UAEX");
                "ext_authz_error".clone_into(&mut record.details);
                Err(Box::new(local(status, "", record)))
            }
        }
    }

    async fn verdict(&self, authz: &ExtAuthz, request: Request<Vec<u8>>) -> Verdict {
        let asking = self.answer(authz.cluster(), authz.is_grpc(), request);
        let answer = match authz.timeout() {
            None => asking.await,
            Some(timeout) => tokio::time::timeout(timeout, asking)
                .await
                .unwrap_or_else(|_| Err(format!("no answer within {timeout:?}"))),
        };
        match answer {
            Ok(answer) => authz.verdict(answer),
            Err(why) => {
                tracing::debug!(
                    cluster = authz.cluster(),
                    why,
                    "an authorization service gave no answer"
                );
                authz.failed()
            }
        }
    }

    /// A service's answer, whole; over HTTP/2 if it is to be so, whatever its cluster says.
    pub(super) async fn answer(
        &self,
        cluster: &str,
        is_grpc: bool,
        request: Request<Vec<u8>>,
    ) -> Result<Answer, String> {
        let cluster = self.snapshot.clusters.get(cluster);
        let cluster = cluster.ok_or_else(|| "there is no such cluster".to_owned())?;
        let _counted = cluster.request().ok_or_else(|| "too many requests".to_owned())?;
        let endpoint = cluster.choose(None, 0, &[]).ok_or_else(|| "no endpoint".to_owned())?;
        let is_http2 = match cluster.config.protocol {
            _ if is_grpc => true,
            Protocol::Http1 => false,
            Protocol::Http2 => true,
            Protocol::Downstream => self.version == Version::HTTP_2,
        };
        let (mut head, body) = request.into_parts();
        headers::send(&mut head, is_http2).map_err(|_| "a host that no request can have".to_owned())?;
        let body = if body.is_empty() {
            Body::Empty
        } else {
            Body::Whole(Some(Bytes::from(body)))
        };
        let _active = Counted::new(&endpoint.load.active);
        let request = Request::from_parts(head, body);
        let sent = self.upstream.send(cluster, endpoint, is_http2, request).await;
        let (response, _lease) = sent.map_err(|failure| failure.why)?;
        let (head, body) = response.into_parts();
        let collected = Limited::new(body, MOST)
            .collect()
            .await
            .map_err(|error| error.to_string())?;
        Ok(Answer {
            head,
            trailers: collected.trailers().cloned(),
            body: collected.to_bytes().to_vec(),
        })
    }
}
