//! Connections that change from HTTP to something else: WebSocket, above all. HTTP/1.1 asks by `Upgrade` (RFC 9110 section 7.8),
//! HTTP/2 by an extended CONNECT (RFC 8441); inside of the waypoint both are a GET that asks for a protocol, and each side is spoken to
//! in its own way.

use std::future::pending;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, Version, header, request::Parts};
use hyper::{body::Incoming, ext::Protocol, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use tokio::{io::copy_bidirectional, time::sleep_until};

use crate::{
    answer::{AnswerBody, refuse},
    headers,
    limits::{IDLE, TimeLimits},
    silence::{Watched, silent},
    telemetry::Record,
};

/// What makes of a key its answer (RFC 6455 section 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What HTTP/1.1 proves by that a server has understood; HTTP/2 has no need of it.
const KEY: HeaderName = header::SEC_WEBSOCKET_KEY;
const ACCEPT: HeaderName = header::SEC_WEBSOCKET_ACCEPT;

/// A client's wish to change.
#[derive(Debug)]
pub(super) struct Upgrade {
    /// The protocol, in lower case.
    pub(super) protocol: String,
    /// The client's connection, or stream, once that is done.
    client: OnUpgrade,
    is_http2: bool,
    key: Option<HeaderValue>,
}

impl Upgrade {
    /// What a request asks for. An extended CONNECT becomes the GET that HTTP/1.1 would have.
    pub(super) fn of(head: &mut Parts) -> Option<Self> {
        let client = head.extensions.remove::<OnUpgrade>();
        let extended = head
            .extensions
            .remove::<Protocol>()
            .filter(|_| head.method == Method::CONNECT);
        let is_http2 = extended.is_some();
        let protocol = match extended {
            Some(protocol) => {
                head.method = Method::GET;
                protocol.as_str().to_ascii_lowercase()
            }
            None => headers::upgrade(head).filter(|protocol| protocol != "h2c")?,
        };
        Some(Self {
            protocol,
            client: client?,
            is_http2,
            key: head.headers.get(KEY).cloned(),
        })
    }

    /// Asks an endpoint for it, in the way of the version that it speaks.
    pub(super) fn ask(&self, head: &mut Parts, is_http2: bool) {
        if is_http2 {
            head.method = Method::CONNECT;
            head.extensions.insert(Protocol::from(&*self.protocol));
            return;
        }
        if let Ok(protocol) = HeaderValue::from_str(&self.protocol) {
            head.headers
                .insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            head.headers.insert(header::UPGRADE, protocol);
        }
        // A client with HTTP/2 sends none, and an endpoint with HTTP/1.1 wants one (RFC 6455 section 4.2.1).
        if self.is_websocket() && !head.headers.contains_key(KEY) {
            let key = STANDARD.encode(fastrand::u128(..).to_be_bytes());
            if let Ok(key) = HeaderValue::try_from(key) {
                head.headers.insert(KEY, key);
            }
        }
    }

    /// Whether an endpoint does as it was asked.
    pub(super) fn is_granted(&self, status: StatusCode, is_http2: bool) -> bool {
        status
            == if is_http2 {
                StatusCode::OK
            } else {
                StatusCode::SWITCHING_PROTOCOLS
            }
    }

    /// Whether an answer that does not grant it would still look to the client as if it did.
    pub(super) fn is_misleading(&self, status: StatusCode) -> bool {
        self.is_http2 && status.is_success()
    }

    /// Passes the endpoint's word on that it changes, and then bytes in both directions until both have ended, or a limit is passed. `held`
    /// is held as long.
    pub(super) fn switch(
        self,
        mut response: Response<Incoming>,
        mut record: Box<Record>,
        limits: &TimeLimits,
        held: impl Send + 'static,
    ) -> Response<AnswerBody> {
        let endpoint = hyper::upgrade::on(&mut response);
        let (mut head, _) = response.into_parts();
        headers::remove_hop_by_hop(&mut head.headers);
        head.extensions.clear();
        if self.is_http2 {
            head.status = StatusCode::OK;
            head.headers.remove(ACCEPT);
            head.version = Version::HTTP_2;
        } else {
            head.status = StatusCode::SWITCHING_PROTOCOLS;
            head.version = Version::HTTP_11;
            self.grant(&mut head.headers);
        }
        record.answered(head.status);
        "via_upstream".clone_into(&mut record.details);
        let client = self.client;
        let (idle, whole) = (limits.idle, limits.whole);
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
            let mut client = Watched::new(TokioIo::new(client));
            let mut endpoint = TokioIo::new(endpoint);
            let moved = client.moved();
            let over = async {
                match whole {
                    Some((until, late)) => {
                        sleep_until(until).await;
                        late
                    }
                    None => pending().await,
                }
            };
            let late = tokio::select! {
                copied = copy_bidirectional(&mut client, &mut endpoint) => {
                    if let Err(error) = copied {
                        record.details = format!("switched_connection_broke{{{error}}}");
                    }
                    None
                }
                () = silent(idle, || moved.at()) => Some(IDLE),
                late = over => Some(late),
            };
            if let Some(late) = late {
                late.details.clone_into(&mut record.details);
                if !late.flag.is_empty() {
                    record.flags.set(late.flag);
                }
            }
            (record.switched_received, record.sent) = moved.bytes();
        });
        Response::from_parts(head, AnswerBody::switched())
    }

    /// What HTTP/1.1 has in an answer that grants it.
    fn grant(&self, answer: &mut http::HeaderMap) {
        answer.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        if let Ok(protocol) = HeaderValue::from_str(&self.protocol) {
            answer.insert(header::UPGRADE, protocol);
        }
        // An endpoint with HTTP/2 does not answer the client's key.
        if let (true, Some(key)) = (self.is_websocket(), &self.key)
            && let Ok(accept) = HeaderValue::try_from(accept(key))
        {
            answer.entry(ACCEPT).or_insert(accept);
        }
    }

    fn is_websocket(&self) -> bool {
        self.protocol == "websocket"
    }
}

/// The answer to a client with HTTP/2 where the endpoint answered and did not change: 200 would tell it that it had.
pub(super) fn declined(record: Box<Record>, status: StatusCode) -> Response<AnswerBody> {
    let details = format!("upgrade_declined{{{}}}", status.as_u16());
    refuse(record, StatusCode::BAD_GATEWAY, "UPE", &details, "upgrade declined")
}

/// The answer to a key (RFC 6455 section 4.2.2).
fn accept(key: &HeaderValue) -> String {
    let joined = [key.as_bytes(), GUID.as_bytes()].concat();
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &joined))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_answered_as_rfc_6455_says() {
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept(&key), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
