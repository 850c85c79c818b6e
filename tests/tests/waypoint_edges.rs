//! What clients send to a waypoint that makes no sense, or two kinds of sense: an application must never see two requests where one was
//! sent. What Envoy does stands beside it.

use culvert_tests::{
    edge::{Case, Edge, assert_all},
    lab,
    raw_http2::request,
    raw_peer::{END_STREAM, frame, kind},
    waypoint::Kind,
};

/// A case whose bytes were made here.
type Made = (&'static str, Vec<u8>, &'static str, &'static str);

/// What is behind a body that one proxy takes for longer than another.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nhost: edge.town\r\n\r\n";

/// What becomes of most that is bad, at `culvert-waypoint` and at Envoy.
const REFUSED: &str = "400 ended";
const GOOD: &str = "200 goes on";

fn get(target: &str, headers: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\n{headers}\r\n\r\n").into_bytes()
}

fn post(headers: &str, body: &str) -> Vec<u8> {
    format!("POST /one HTTP/1.1\r\nhost: edge.town\r\n{headers}\r\n\r\n{body}").into_bytes()
}

fn chunked(body: &str) -> Vec<u8> {
    post("transfer-encoding: chunked", body)
}

/// Where the body of a request ends.
#[rustfmt::skip]
fn lengths() -> Vec<Made> {
    let hidden = format!("0\r\n\r\n{SMUGGLED}");
    vec![
        ("a good body", post("content-length: 2", "ok"), GOOD, GOOD),
        ("good chunks", chunked("2\r\nok\r\n0\r\n\r\n"), GOOD, GOOD),
        // The chunks count, the length goes no further, and the connection ends (RFC 9112 section 6.1).
        ("a length before chunks", post("content-length: 6\r\ntransfer-encoding: chunked", &hidden), "200 ended", REFUSED),
        ("a length after chunks", post("transfer-encoding: chunked\r\ncontent-length: 6", &hidden), "200 ended", REFUSED),
        // One goes further (RFC 9110 section 8.6).
        ("the same length twice", post("content-length: 2\r\ncontent-length: 2", "ok"), GOOD, REFUSED),
        ("the same length as a list", post("content-length: 2, 2", "ok"), REFUSED, REFUSED),
        ("two lengths", post("content-length: 2\r\ncontent-length: 40", &format!("ok{SMUGGLED}")), REFUSED, REFUSED),
        ("a signed length", post("content-length: +2", "ok"), REFUSED, REFUSED),
        ("a length below none", post("content-length: -2", "ok"), REFUSED, REFUSED),
        ("a length that overflows", post("content-length: 18446744073709551618", "ok"), REFUSED, REFUSED),
        ("a length in a GET", get("/one", "host: edge.town\r\ncontent-length: 0"), GOOD, GOOD),
        ("an unknown coding", post("transfer-encoding: xchunked", "0\r\n\r\n"), REFUSED, "501 ended"),
        ("a coding before chunks", post("transfer-encoding: gzip, chunked", "0\r\n\r\n"), "501 ended", "501 ended"),
        ("chunks twice", post("transfer-encoding: chunked\r\ntransfer-encoding: chunked", "0\r\n\r\n"), "501 ended", "501 ended"),
        ("chunks before a coding", post("transfer-encoding: chunked\r\ntransfer-encoding: identity", &hidden), REFUSED, "501 ended"),
        ("a tab before chunked", post("transfer-encoding:\tchunked", "0\r\n\r\n"), GOOD, GOOD),
        ("a control before chunked", post("transfer-encoding: \x0bchunked", "0\r\n\r\n"), REFUSED, REFUSED),
        ("HTTP/1.0 with chunks", b"POST /one HTTP/1.0\r\nhost: edge.town\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(), REFUSED, "200 ended"),
        ("connection names content-length", post("connection: content-length\r\ncontent-length: 2", "ok"), GOOD, GOOD),
    ]
}

/// Chunks, and what follows the last one.
#[rustfmt::skip]
fn chunks() -> Vec<Made> {
    vec![
        ("an extension", chunked("2;a=b\r\nok\r\n0\r\n\r\n"), GOOD, GOOD),
        ("a bare LF in an extension", chunked(&format!("2;a\nok\r\n0\r\n\r\n{SMUGGLED}")), REFUSED, REFUSED),
        ("a bare CR in an extension", chunked("2;a\rb\r\nok\r\n0\r\n\r\n"), REFUSED, REFUSED),
        ("a chunk that is longer than it says", chunked("2\r\nokay\r\n0\r\n\r\n"), REFUSED, GOOD),
        ("a size with a sign", chunked("+2\r\nok\r\n0\r\n\r\n"), REFUSED, REFUSED),
        ("a size with 0x", chunked("0x2\r\nok\r\n0\r\n\r\n"), REFUSED, REFUSED),
        ("a size that overflows", chunked("fffffffffffffffff2\r\nok\r\n0\r\n\r\n"), REFUSED, REFUSED),
        ("no size", chunked("\r\nok\r\n0\r\n\r\n"), REFUSED, REFUSED),
        ("a bare LF after a size", chunked("2\nok\r\n0\r\n\r\n"), REFUSED, REFUSED),
        ("a bare LF after a chunk", chunked("2\r\nok\n0\r\n\r\n"), REFUSED, GOOD),
        ("forbidden trailers", chunked("0\r\ncontent-length: 9\r\nhost: other\r\nx-forwarded-client-cert: me\r\n\r\n"), GOOD, GOOD),
        ("a folded trailer", chunked("0\r\nx-a: b\r\n c\r\n\r\n"), REFUSED, GOOD),
        ("a bad trailer", chunked("0\r\nx a: b\r\n\r\n"), REFUSED, REFUSED),
    ]
}

/// Lines of the head, who is meant, and how much of it there is.
#[rustfmt::skip]
fn heads() -> Vec<Made> {
    let lines = |count: u32| -> String { (0..count).map(|n| format!("x-{n}: {n}\r\n")).collect() };
    let many = lines(120);
    let long = "x".repeat(70 << 10);
    vec![
        ("a space before the colon", post("content-length : 2", "ok"), REFUSED, REFUSED),
        ("a space before a name", post(" content-length: 2", "ok"), REFUSED, REFUSED),
        ("a folded value", post("x-folded: a\r\n transfer-encoding: chunked\r\ncontent-length: 2", "ok"), REFUSED, GOOD),
        ("a NUL in a value", post("x-a: b\0c\r\ncontent-length: 2", "ok"), REFUSED, REFUSED),
        ("a bare LF for an end", b"GET /one HTTP/1.1\nhost: edge.town\n\n".to_vec(), GOOD, GOOD),
        ("no name", post(": a\r\ncontent-length: 2", "ok"), REFUSED, REFUSED),
        ("no colon", post("x-a\r\ncontent-length: 2", "ok"), REFUSED, REFUSED),
        ("an absolute target and another host", get("http://edge.town/one", "host: other.town"), GOOD, GOOD),
        ("no host", get("/one", "x-a: b"), REFUSED, REFUSED),
        ("a host with a path", get("/one", "host: edge.town/two"), REFUSED, REFUSED),
        ("a fragment", get("/one#two", "host: edge.town"), GOOD, REFUSED),
        ("a target without a slash", get("one", "host: edge.town"), REFUSED, REFUSED),
        ("a target with a space", get("/o ne", "host: edge.town"), REFUSED, REFUSED),
        ("HTTP/1.9", b"GET /one HTTP/1.9\r\nhost: edge.town\r\n\r\n".to_vec(), REFUSED, "200 ended"),
        ("CONNECT", b"CONNECT edge.town:80 HTTP/1.1\r\nhost: edge.town\r\n\r\n".to_vec(), "404 ended", "404 ended"),
        ("connection names host", get("/one", "host: edge.town\r\nconnection: host, x-forwarded-for"), GOOD, REFUSED),
        ("too many lines", get("/one", &format!("host: edge.town\r\n{many}x-last: 1")), "431 ended", "431 ended"),
        ("too long a line", get("/one", &format!("host: edge.town\r\nx-long: {long}")), "431 ended", "431 ended"),
        ("100 lines", get("/one", &format!("host: edge.town\r\n{}x-last: 1", lines(98))), GOOD, GOOD),
        ("101 lines", get("/one", &format!("host: edge.town\r\n{}x-last: 1", lines(99))), "431 ended", "431 ended"),
        ("too long a target", get(&format!("/{long}"), "host: edge.town"), "431 ended", "431 ended"),
    ]
}

/// Methods, and what asks for something other than an answer.
#[rustfmt::skip]
fn wishes() -> Vec<Made> {
    let upgrade = |fields: &str| get("/one", &format!("host: edge.town\r\n{fields}"));
    let method = |line: &str, fields: &str, body: &str| format!("{line} /one HTTP/1.1\r\nhost: edge.town\r\n{fields}\r\n{body}").into_bytes();
    vec![
        ("an empty host", get("/other", "host:"), REFUSED, GOOD),
        ("100-continue", post("content-length: 2\r\nexpect: 100-continue", "ok"), "100 goes on", "100 goes on"),
        ("another expectation", post("content-length: 2\r\nexpect: nothing", "ok"), GOOD, GOOD),
        ("TRACE", method("TRACE", "", ""), GOOD, GOOD),
        ("QUERY", method("QUERY", "content-type: text/plain\r\ncontent-length: 2\r\n", "ok"), GOOD, GOOD),
        ("QUERY of no type", method("QUERY", "content-length: 2\r\n", "ok"), GOOD, REFUSED),
        ("a method that nobody knows", method("FETCH", "", ""), GOOD, REFUSED),
        ("an upgrade that is not allowed", upgrade("connection: upgrade\r\nupgrade: foo"), "403 goes on", "403 ended"),
        ("an upgrade to h2c", upgrade("connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__"), GOOD, GOOD),
        ("an upgrade without Connection", upgrade("upgrade: foo"), GOOD, GOOD),
    ]
}

/// What Envoy lets through and the application has to refuse.
#[rustfmt::skip]
fn let_through_by_envoy() -> Vec<Made> {
    vec![
        ("a bare CR in a value", post("x-a: b\rcontent-length: 2\r\ncontent-length: 2", "ok"), REFUSED, ""),
        ("two hosts", get("/one", "host: edge.town\r\nhost: other.town"), REFUSED, ""),
        ("the same host twice", get("/one", "host: edge.town\r\nhost: edge.town"), REFUSED, ""),
        ("a host with a user", get("/one", "host: user@edge.town"), REFUSED, ""),
    ]
}

fn play(edge: &Edge<'_>, made: &[Made], play: impl Fn(&Edge<'_>, &[u8]) -> String) {
    let cases: Vec<Case<'_>> = made
        .iter()
        .map(|(name, bytes, culvert, envoy)| (*name, &bytes[..], *culvert, *envoy))
        .collect();
    assert_all(edge, &cases, play);
    edge.assert_none_smuggled();
    for seen in edge.noted.under("/one") {
        assert_eq!(seen.get("host"), Some("edge.town"), "{seen:?}");
        assert_eq!(seen.get("x-smuggled"), None, "{seen:?}");
        // Answered by the waypoint.
        assert_ne!(seen.get("expect"), Some("100-continue"), "{seen:?}");
        assert_eq!(seen.get("upgrade"), None, "{seen:?}");
        assert!(seen.trailers.is_empty(), "{seen:?}");
    }
}

fn a_request_is_one_request(kind: Kind) {
    let lab = lab(&format!("wp_edges_{}", kind.word()));
    let edge = Edge::set(&lab, kind);
    let mut all = [lengths(), chunks(), heads(), wishes()].concat();
    if kind == Kind::Culvert {
        all.extend(let_through_by_envoy());
    }
    play(&edge, &all, |edge, bytes| edge.play(bytes));
}

#[test]
fn culvert_makes_one_request_of_one_whatever_its_bytes_are() {
    a_request_is_one_request(Kind::Culvert);
}

#[test]
fn envoy_makes_one_request_of_one_whatever_its_bytes_are() {
    a_request_is_one_request(Kind::Envoy);
}

/// A good request with these fields instead, or beside it.
fn with(more: &[(&str, &str)]) -> Vec<u8> {
    let mut fields = vec![
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/one"),
        (":authority", "edge.town"),
    ];
    for (name, value) in more {
        match fields.iter_mut().find(|(known, _)| known == name) {
            Some(field) if name.starts_with(':') => field.1 = value,
            _ => fields.push((name, value)),
        }
    }
    request(1, true, &fields)
}

fn body(length: &str, body: &str) -> Vec<u8> {
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/one"),
        (":authority", "edge.town"),
        ("content-length", length),
    ];
    [
        request(1, false, &fields),
        frame(kind::DATA, END_STREAM, 1, body.as_bytes()),
    ]
    .concat()
}

/// What of HTTP/2 would be more than one request in HTTP/1. The stream alone is refused, or, where the block of fields cannot be trusted
/// any more, the connection.
#[rustfmt::skip]
fn streams() -> Vec<Made> {
    let (reset, away, ended) = ("reset 1 goes on", "goaway 1", "ended");
    let (method, scheme, path, authority) = ((":method", "GET"), (":scheme", "http"), (":path", "/one"), (":authority", "edge.town"));
    vec![
        ("a good request", with(&[]), GOOD, GOOD),
        ("a good body", body("2", "ok"), GOOD, GOOD),
        ("CR LF in a value", with(&[("x-a", "b\r\nx-smuggled: c")]), away, ended),
        ("LF in a value", with(&[("x-a", "b\nx-smuggled: c")]), away, ended),
        ("NUL in a value", with(&[("x-a", "b\0c")]), away, ended),
        ("CR LF in a name", with(&[("x-a: b\r\nx-smuggled", "c")]), away, ended),
        ("a colon in a name", with(&[("x-a: b", "c")]), away, ended),
        ("capitals in a name", with(&[("X-A", "b")]), away, ended),
        ("a request in the path", with(&[(":path", "/one HTTP/1.1\r\nhost: edge.town\r\n\r\nGET /smuggled")]), reset, ended),
        ("a request in the method", with(&[(":method", "GET /smuggled HTTP/1.1\r\nhost: edge.town\r\n\r\nGET")]), away, ended),
        ("a request in the authority", with(&[(":authority", "edge.town\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: edge.town")]), reset, ended),
        ("a space in the path", with(&[(":path", "/one HTTP/1.1")]), reset, ended),
        ("an empty path", with(&[(":path", "")]), reset, ended),
        ("an authority and another host", with(&[("host", "other.town")]), GOOD, GOOD),
        ("connection", with(&[("connection", "close")]), reset, ended),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")]), reset, ended),
        ("upgrade", with(&[("upgrade", "websocket")]), reset, ended),
        ("keep-alive", with(&[("keep-alive", "1")]), reset, ended),
        ("te with more than trailers", with(&[("te", "gzip")]), reset, ended),
        ("te: trailers", with(&[("te", "trailers")]), GOOD, GOOD),
        ("an unknown pseudo-header", with(&[(":smuggled", "1")]), away, ended),
        ("a pseudo-header after a field", request(1, true, &[method, scheme, ("x-a", "b"), path, authority]), reset, ended),
        ("two paths", request(1, true, &[method, scheme, path, (":path", "/smuggled"), authority]), reset, ended),
        ("no path", request(1, true, &[method, scheme, authority]), reset, ended),
        ("no authority", request(1, true, &[method, scheme, path]), "400 goes on", ended),
        ("a body that is longer than it says", body("2", &format!("ok{SMUGGLED}")), reset, reset),
        ("a body that is shorter than it says", body("9", "ok"), reset, reset),
        ("a request as a body", body(&SMUGGLED.len().to_string(), SMUGGLED), GOOD, GOOD),
        ("a body of a negative length", body("-2", "ok"), reset, ended),
        ("two lengths", with(&[("content-length", "0"), ("content-length", "44")]), reset, ended),
        ("CONNECT", request(1, false, &[(":method", "CONNECT"), (":authority", "edge.town:80")]), "404 goes on", "404 goes on"),
    ]
}

fn a_stream_is_one_request(kind: Kind) {
    let lab = lab(&format!("wp_edges2_{}", kind.word()));
    let edge = Edge::set(&lab, kind);
    play(&edge, &streams(), |edge, bytes| edge.play2(bytes));
}

#[test]
fn culvert_makes_one_request_of_one_stream() {
    a_stream_is_one_request(Kind::Culvert);
}

#[test]
fn envoy_makes_one_request_of_one_stream() {
    a_stream_is_one_request(Kind::Envoy);
}
