//! What a CONNECT must look like, and what comes of it, without TLS.
use super::Connection;
use crate::{Authority, BadRequest, Config, ConnectRequest, ErrorCode, Response, Role, Sink, StreamId};

/// Notes requests and answers.
#[derive(Default)]
struct Heads {
    requests: Vec<(StreamId, Result<ConnectRequest, BadRequest>)>,
    answers: Vec<(StreamId, Response)>,
}

impl<'b> Sink<'b> for Heads {
    fn connect(&mut self, id: StreamId, request: Result<ConnectRequest, BadRequest>) {
        self.requests.push((id, request));
    }
    fn response(&mut self, id: StreamId, response: Response) {
        self.answers.push((id, response));
    }
    fn data(&mut self, _: StreamId, _: &'b [u8]) {}
    fn end(&mut self, _: StreamId) {}
    fn reset(&mut self, _: StreamId, _: ErrorCode) {}
    fn writable(&mut self, _: StreamId) {}
    fn all_writable(&mut self) {}
    fn pong(&mut self, _: [u8; 8]) {}
    fn go_away(&mut self, _: StreamId, _: ErrorCode) {}
}

fn carry(from: &mut Connection, to: &mut Connection) -> Heads {
    let mut bytes = from.output().to_vec();
    from.written(bytes.len());
    let mut heads = Heads::default();
    assert_eq!(to.receive(&mut bytes, &mut heads), Ok(bytes.len()));
    heads
}

#[test]
fn a_connect_arrives_with_its_authority_and_headers_and_so_does_the_answer() {
    let mut client = Connection::plaintext(Role::Client, &Config::default());
    let mut server = Connection::plaintext(Role::Server, &Config::default());
    for text in [
        "198.18.0.1:80",
        "[fd00:c01e::1]:443",
        "cart.shop.svc.cluster.local:8080",
    ] {
        let authority: Authority = text.parse().unwrap();
        let id = client.open(&authority, &[("baggage", "service.name=a")]).unwrap();
        let (asked, request) = carry(&mut client, &mut server).requests.remove(0);
        let request = request.unwrap();
        assert_eq!((asked, &request.authority), (id, &authority));
        assert_eq!(request.header("baggage"), Some("service.name=a"));
        server.respond(id, 401, &[("x-why", "policy")], true);
        let (answered, response) = carry(&mut server, &mut client).answers.remove(0);
        assert_eq!((answered, response.status), (id, 401));
        assert_eq!(response.headers, [("x-why".to_owned(), "policy".to_owned())]);
        client.finish(id);
        carry(&mut client, &mut server);
        assert_eq!((client.streams(), server.streams()), (0, 0));
    }
}

const GOOD: [(&str, &str); 2] = [(":method", "CONNECT"), (":authority", "198.18.0.1:80")];

/// What a server makes of a request whose headers are literals without indexing.
fn asked(config: &Config, headers: &[(&str, &str)]) -> Result<ConnectRequest, BadRequest> {
    let mut block = Vec::new();
    for (name, value) in headers {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127);
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
    }
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    bytes.extend_from_slice(&(block.len() as u32).to_be_bytes()[1..]);
    // HEADERS with END_HEADERS on stream 1.
    bytes.extend_from_slice(&[1, 4, 0, 0, 0, 1]);
    bytes.extend_from_slice(&block);
    let mut heads = Heads::default();
    let mut server = Connection::plaintext(Role::Server, config);
    server.receive(&mut bytes, &mut heads).unwrap();
    heads.requests.remove(0).1
}

#[test]
fn requests_are_checked() {
    let ok = Authority::Address("198.18.0.1:80".parse().unwrap());
    type Verdict = Result<Authority, u16>;
    let cases: [(&[(&str, &str)], Verdict); 14] = [
        (&GOOD, Ok(ok)),
        (
            &[
                (":method", "GET"),
                (":authority", "a:80"),
                (":scheme", "https"),
                (":path", "/"),
            ],
            Err(405),
        ),
        (&[(":authority", "198.18.0.1:80")], Err(400)),
        (&[(":method", "CONNECT")], Err(400)),
        (&[(":method", "CONNECT"), (":authority", "198.18.0.1")], Err(400)),
        (&[GOOD[0], GOOD[1], (":scheme", "https")], Err(400)),
        (&[GOOD[0], GOOD[1], (":path", "/")], Err(400)),
        (&[GOOD[0], GOOD[1], (":protocol", "websocket")], Err(400)),
        (&[GOOD[0], GOOD[1], GOOD[1]], Err(400)),
        (&[GOOD[0], GOOD[1], ("Baggage", "a=b")], Err(400)),
        (&[GOOD[0], ("baggage", "a=b"), GOOD[1]], Err(400)),
        (&[GOOD[0], GOOD[1], ("connection", "close")], Err(400)),
        (&[GOOD[0], GOOD[1], ("baggage", "a\r\nb")], Err(400)),
        (&[GOOD[0], GOOD[1], (":unknown", "a")], Err(400)),
    ];
    for (headers, expected) in cases {
        let verdict = asked(&Config::default(), headers)
            .map(|request| request.authority)
            .map_err(|error| error.status());
        assert_eq!(verdict, expected, "{headers:?}");
    }
    let many: Vec<_> = (0..200).map(|_| ("a", "b")).collect();
    let config = Config {
        max_header_list: 4000,
        ..Config::default()
    };
    assert_eq!(asked(&config, &[&GOOD[..], &many].concat()), Err(BadRequest::TooLarge));
}
