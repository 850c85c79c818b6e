//! Answers that come from here and not from upstream, in the form that the client reads: HTTP, or gRPC's status in header fields.

use http::{HeaderValue, Response, StatusCode, header};

/// An answer with a body of text. To gRPC it is 200 with the status that stands for the code, and the body as its message.
pub fn local_reply(status: StatusCode, body: &str, is_grpc: bool) -> Response<Vec<u8>> {
    if is_grpc {
        return grpc_reply(grpc_status(status), body);
    }
    let mut response = Response::new(body.as_bytes().to_vec());
    *response.status_mut() = status;
    if !body.is_empty() {
        let text = HeaderValue::from_static("text/plain");
        response.headers_mut().insert(header::CONTENT_TYPE, text);
    }
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    response
}

/// A gRPC answer without messages: its status is in the first and only block of fields.
pub fn grpc_reply(status: u32, message: &str) -> Response<Vec<u8>> {
    let mut response = Response::new(Vec::new());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from(status));
    if let Ok(message) = HeaderValue::try_from(percent_encode(message))
        && !message.is_empty()
    {
        headers.insert("grpc-message", message);
    }
    response
}

/// The gRPC status that stands for an HTTP status, as Envoy has it.
pub fn grpc_status(status: StatusCode) -> u32 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// As gRPC wants its messages: what is not printable ASCII, and the percent sign, as `%XX`.
fn percent_encode(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b'%' | 0..=0x1F | 0x7F.. => out.push_str(&format!("%{byte:02X}")),
            plain => out.push(char::from(plain)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_replies_to_grpc_are_200_with_envoys_status_for_the_code() {
        for (code, status) in [
            (400, 13),
            (401, 16),
            (403, 7),
            (404, 12),
            (429, 14),
            (502, 14),
            (503, 14),
            (504, 14),
            (500, 2),
            (200, 2),
        ] {
            let reply = local_reply(StatusCode::from_u16(code).unwrap(), "no\n%", true);
            assert_eq!(reply.status(), StatusCode::OK);
            assert_eq!(reply.headers()["grpc-status"], status.to_string());
            assert_eq!(reply.headers()["grpc-message"], "no%0A%25");
            assert!(reply.body().is_empty());
        }
    }

    #[test]
    fn local_replies_to_others_have_the_code_and_the_body() {
        let reply = local_reply(StatusCode::FORBIDDEN, "no", false);
        assert_eq!(
            (reply.status(), reply.body().as_slice()),
            (StatusCode::FORBIDDEN, b"no".as_slice())
        );
        assert_eq!(reply.headers()["content-length"], "2");
    }
}
