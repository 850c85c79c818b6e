//! Connections that change from HTTP/1.1 to something else (RFC 9110 section 7.8): WebSocket, above all.

use http::{HeaderValue, Response, header};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;

use crate::{answer::AnswerBody, headers, telemetry::Record};

/// Passes the endpoint's word on that it changes, and then bytes in both directions until both have ended. `held` is held as long.
pub(super) fn switch(
    mut response: Response<Incoming>,
    protocol: &str,
    client: OnUpgrade,
    mut record: Box<Record>,
    held: impl Send + 'static,
) -> Response<AnswerBody> {
    let endpoint = hyper::upgrade::on(&mut response);
    let (mut head, _) = response.into_parts();
    headers::remove_hop_by_hop(&mut head.headers);
    head.headers
        .insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    if let Ok(protocol) = HeaderValue::from_str(protocol) {
        head.headers.insert(header::UPGRADE, protocol);
    }
    head.extensions.clear();
    record.answered(head.status);
    "via_upstream".clone_into(&mut record.details);
    tokio::spawn(async move {
        let _held = held;
        let (client, endpoint) = match tokio::try_join!(client, endpoint) {
            Ok(both) => both,
            Err(error) => {
                record.flags.set("UPE");
                record.details = format!("upgrade_failed{{{}}}", crate::causes(&error));
                return;
            }
        };
        record.is_complete = true;
        match copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(endpoint)).await {
            Ok((received, sent)) => {
                record.sent = sent;
                record.switched_received = received;
            }
            Err(error) => record.details = format!("switched_connection_broke{{{error}}}"),
        }
    });
    Response::from_parts(head, AnswerBody::switched())
}
