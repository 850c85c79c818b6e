//! Two connections face to face, without TLS.
use std::collections::VecDeque;

use crate::{
    BadHeaders, Config, ErrorCode, Fill, OpenError, Plain, ProtocolError, Request, Response, Role, Sink, StreamId,
};

type Connection = crate::Connection<Plain>;

/// What a sink was told, with data of one stream joined, so that how it was cut does not matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Request(StreamId, Result<Request, BadHeaders>),
    Response(StreamId, Response),
    Data(StreamId, Vec<u8>),
    End(StreamId),
    Reset(StreamId, ErrorCode),
    Writable(StreamId),
    AllWritable,
    Pong([u8; 8]),
    GoAway(StreamId, ErrorCode),
}

#[derive(Debug, Default)]
pub(super) struct Recorder(pub(super) VecDeque<Event>);

impl<'b> Sink<'b> for Recorder {
    fn request(&mut self, id: StreamId, request: Result<Request, BadHeaders>) {
        self.0.push_back(Event::Request(id, request));
    }
    fn response(&mut self, id: StreamId, response: Response) {
        self.0.push_back(Event::Response(id, response));
    }
    fn data(&mut self, id: StreamId, data: &'b [u8]) {
        assert!(!data.is_empty());
        match self.0.back_mut() {
            Some(Event::Data(last, bytes)) if *last == id => bytes.extend_from_slice(data),
            _ => self.0.push_back(Event::Data(id, data.to_vec())),
        }
    }
    fn end(&mut self, id: StreamId) {
        self.0.push_back(Event::End(id));
    }
    fn reset(&mut self, id: StreamId, code: ErrorCode) {
        self.0.push_back(Event::Reset(id, code));
    }
    fn writable(&mut self, id: StreamId) {
        self.0.push_back(Event::Writable(id));
    }
    fn all_writable(&mut self) {
        self.0.push_back(Event::AllWritable);
    }
    fn pong(&mut self, payload: [u8; 8]) {
        self.0.push_back(Event::Pong(payload));
    }
    fn go_away(&mut self, last: StreamId, code: ErrorCode) {
        self.0.push_back(Event::GoAway(last, code));
    }
}

/// Moves everything that `from` has to say to `to`, and returns what its sink was told.
pub(super) fn carry(from: &mut Connection, to: &mut Connection) -> Result<Vec<Event>, ProtocolError> {
    let bytes = from.output().to_vec();
    from.written(bytes.len());
    let mut recorder = Recorder::default();
    to.receive(&bytes, &mut recorder)?;
    Ok(recorder.0.into())
}

struct Pair {
    client: Connection,
    server: Connection,
}

impl Pair {
    fn new(config: &Config) -> Self {
        let mut pair = Self {
            client: Connection::new(Role::Client, Plain, config),
            server: Connection::new(Role::Server, Plain, config),
        };
        pair.at_server();
        pair.at_client();
        pair.at_server();
        pair.at_client();
        pair
    }

    fn at_server(&mut self) -> Vec<Event> {
        carry(&mut self.client, &mut self.server).unwrap()
    }

    fn at_client(&mut self) -> Vec<Event> {
        carry(&mut self.server, &mut self.client).unwrap()
    }

    /// A stream that has been answered.
    fn open(&mut self) -> StreamId {
        let id = self.client.open(&CONNECT, &[]).unwrap();
        assert!(matches!(self.at_server()[..], [Event::Request(opened, Ok(_))] if opened == id));
        self.server.respond(id, 200, &[], false);
        assert!(
            matches!(&self.at_client()[..], [Event::Response(answered, response)] if *answered == id && response.status == 200)
        );
        id
    }
}

/// The pseudo-headers of a stream.
const CONNECT: [(&str, &str); 2] = [(":method", "CONNECT"), (":authority", "198.18.0.1:80")];

/// What the other end makes of them.
fn connect(headers: Vec<(String, String)>) -> Request {
    Request {
        method: "CONNECT".to_owned(),
        authority: Some("198.18.0.1:80".to_owned()),
        scheme: None,
        path: None,
        protocol: None,
        headers,
    }
}

/// A frame by hand.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A server that has heard a client's preface and SETTINGS, and takes frames by hand.
fn server(config: &Config) -> Connection {
    let mut server = Connection::new(Role::Server, Plain, config);
    let bytes = [crate::frame::PREFACE, &frame(4, 0, 0, &[])].concat();
    server.receive(&bytes, &mut Recorder::default()).unwrap();
    let n = server.output().len();
    server.written(n);
    server
}

fn feed(connection: &mut Connection, bytes: Vec<u8>) -> Result<Vec<Event>, ProtocolError> {
    let mut recorder = Recorder::default();
    connection.receive(&bytes, &mut recorder)?;
    Ok(recorder.0.into())
}

/// A request whose headers are literals without indexing.
fn request(stream: u32, flags: u8, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in headers {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127);
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
    }
    frame(1, flags, stream, &block)
}

const GOOD: [(&str, &str); 2] = CONNECT;

#[test]
fn a_stream_goes_and_comes_back() {
    let mut pair = Pair::new(&Config::default());
    let headers = [("baggage", "service.name=a"), ("forwarded", "for=198.18.0.9")];
    let id = pair.client.open(&CONNECT, &headers).unwrap();
    assert_eq!(pair.client.send(id, b"hello"), 5);
    let headers = headers
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
    assert_eq!(
        pair.at_server(),
        [
            Event::Request(id, Ok(connect(headers))),
            Event::Data(id, b"hello".to_vec())
        ]
    );
    // Nothing before the answer.
    assert_eq!(pair.server.send_capacity(id), 0);
    assert_eq!(pair.server.fill(id, 100, |_| unreachable!()).unwrap(), Fill::Blocked);
    pair.server.respond(id, 200, &[("baggage", "service.name=b")], false);
    assert_eq!(pair.server.send(id, b"world"), 5);
    pair.server.finish(id);
    let headers = vec![("baggage".to_owned(), "service.name=b".to_owned())];
    assert_eq!(
        pair.at_client(),
        [
            Event::Response(id, Response { status: 200, headers }),
            Event::Data(id, b"world".to_vec()),
            Event::End(id)
        ]
    );
    // Half closed: our direction goes on.
    assert_eq!(pair.client.send(id, b"more"), 4);
    pair.client.finish(id);
    assert_eq!(pair.at_server(), [Event::Data(id, b"more".to_vec()), Event::End(id)]);
    assert_eq!((pair.client.streams(), pair.server.streams()), (0, 0));
    assert_eq!((pair.client.output_len(), pair.server.output_len()), (0, 0));
}

#[test]
fn a_refusal_ends_the_stream() {
    let mut pair = Pair::new(&Config::default());
    let id = pair.client.open(&CONNECT, &[]).unwrap();
    pair.at_server();
    pair.server.respond(id, 401, &[], true);
    let events = pair.at_client();
    assert!(matches!(&events[..], [Event::Response(_, response), Event::End(_)] if response.status == 401));
    pair.client.finish(id);
    assert_eq!(pair.at_server(), [Event::End(id)]);
    assert_eq!((pair.client.streams(), pair.server.streams()), (0, 0));
}

#[test]
fn windows_hold_the_sender_and_open_again() {
    let config = Config {
        stream_window: 100_000,
        connection_window: 150_000,
        ..Config::default()
    };
    let mut pair = Pair::new(&config);
    let (a, b) = (pair.open(), pair.open());
    let data = vec![7; 1 << 20];
    assert_eq!(pair.client.send(a, &data), 100_000);
    assert_eq!(pair.client.send_capacity(a), 0);
    assert_eq!(pair.client.send(b, &data), 50_000);
    assert_eq!(pair.client.connection_capacity(), 0);
    pair.at_server();
    // The connection's credit does not wait for the applications.
    assert_eq!(pair.at_client(), [Event::AllWritable]);
    assert_eq!(pair.client.send(b, &data), 50_000);
    pair.at_server();
    pair.server.release(a, 60_000);
    pair.server.release(b, 10_000);
    assert_eq!(pair.at_client(), [Event::Writable(a)]);
    assert_eq!(
        (pair.client.send_capacity(a), pair.client.send_capacity(b)),
        (60_000, 0)
    );
}

#[test]
fn connection_credit_is_withheld_while_too_much_is_held() {
    let config = Config {
        stream_window: 200_000,
        connection_window: 65_535,
        held_limit: 100_000,
        ..Config::default()
    };
    let mut pair = Pair::new(&config);
    let id = pair.open();
    let data = vec![7; 1 << 20];
    let mut sent = 0;
    for _ in 0..10 {
        sent += pair.client.send(id, &data);
        pair.at_server();
        pair.at_client();
    }
    assert!((100_000..=170_000).contains(&sent), "{sent}");
    pair.server.release(id, sent);
    pair.at_client();
    assert!(pair.client.send(id, &data) > 0);
}

#[test]
fn connection_credit_is_withheld_as_long_as_the_owner_wants() {
    let config = Config {
        stream_window: 200_000,
        connection_window: 65_535,
        ..Config::default()
    };
    let mut pair = Pair::new(&config);
    let (a, b) = (pair.open(), pair.open());
    assert!(!pair.server.withhold(true));
    let data = vec![7; 1 << 20];
    let sent = pair.client.send(a, &data);
    assert_eq!(sent, 65_535);
    pair.at_server();
    pair.server.release(a, sent);
    pair.at_client();
    assert_eq!(pair.client.send(b, &data), 0);
    assert!(pair.server.withhold(false));
    pair.at_client();
    assert_eq!(pair.client.send(b, &data), 65_535);
}

#[test]
fn fill_reads_into_full_records_and_respects_its_bounds() {
    let mut pair = Pair::new(&Config::default());
    let id = pair.open();
    let data: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let (mut sent, mut received) = (0, Vec::new());
    while sent < data.len() {
        let read = |slices: &mut [std::io::IoSliceMut<'_>]| {
            assert!(slices.len() <= Connection::MAX_SLICES);
            let mut rest = &data[sent..];
            let before = rest.len();
            for slice in slices {
                let n = slice.len().min(rest.len());
                slice[..n].copy_from_slice(&rest[..n]);
                rest = &rest[n..];
            }
            Ok(before - rest.len())
        };
        match pair.client.fill(id, 1 << 20, read).unwrap() {
            Fill::Bytes(n) => sent += n,
            Fill::Blocked => {
                for event in pair.at_server() {
                    if let Event::Data(id, bytes) = event {
                        pair.server.release(id, bytes.len());
                        received.extend(bytes);
                    }
                }
                pair.at_client();
            }
            Fill::End => unreachable!(),
        }
    }
    for event in pair.at_server() {
        if let Event::Data(_, bytes) = event {
            received.extend(bytes);
        }
    }
    assert!(received == data);
    let error = pair
        .client
        .fill(id, 10, |_| Err(std::io::ErrorKind::ConnectionReset.into()))
        .unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(pair.client.fill(id, 10, |_| Ok(0)).unwrap(), Fill::End);
    assert_eq!(pair.client.output_len(), 0);
}

#[test]
fn streams_are_limited_on_both_sides() {
    let mut pair = Pair::new(&Config {
        max_streams: 2,
        ..Config::default()
    });
    let (a, _) = (pair.open(), pair.open());
    assert!(!pair.client.can_open());
    assert_eq!(pair.client.open(&CONNECT, &[]), Err(OpenError::Busy(2)));
    pair.client.reset(a, ErrorCode::Cancel);
    assert_eq!(pair.at_server(), [Event::Reset(a, ErrorCode::Cancel)]);
    pair.open();

    let config = Config {
        max_streams: 1,
        max_pending_answers: 10,
        ..Config::default()
    };
    let mut server = server(&config);
    feed(&mut server, request(1, 4, &GOOD)).unwrap();
    assert_eq!(feed(&mut server, request(3, 4, &GOOD)), Ok(vec![]));
    assert_eq!(server.output(), frame(3, 0, 3, &[0, 0, 0, 7]));
}

#[test]
fn a_server_drains_in_two_steps() {
    let mut pair = Pair::new(&Config::default());
    let a = pair.open();
    // Opened before the client can have heard of it.
    let b = pair.client.open(&CONNECT, &[]).unwrap();
    pair.server.go_away();
    assert!(matches!(pair.at_client()[..], [Event::GoAway(last, ErrorCode::NoError)] if last.get() == u32::MAX >> 1));
    assert_eq!(pair.client.open(&CONNECT, &[]), Err(OpenError::GoingAway));
    assert!(matches!(pair.at_server()[..], [Event::Request(id, _)] if id == b));
    assert_eq!(pair.at_client(), [Event::GoAway(b, ErrorCode::NoError)]);
    assert!(!pair.server.is_drained());
    for id in [a, b] {
        pair.client.reset(id, ErrorCode::Cancel);
    }
    pair.at_server();
    assert!(pair.server.is_drained());
}

#[test]
fn a_goaway_tells_which_streams_are_lost() {
    let mut pair = Pair::new(&Config::default());
    let (a, b) = (pair.open(), pair.open());
    let bytes = frame(
        7,
        0,
        0,
        &[&a.get().to_be_bytes()[..], &[0, 0, 0, 11], b"too much"].concat(),
    );
    let events = feed(&mut pair.client, bytes).unwrap();
    assert_eq!(
        events,
        [
            Event::Reset(b, ErrorCode::RefusedStream),
            Event::GoAway(a, ErrorCode::EnhanceYourCalm)
        ]
    );
    assert!(pair.client.is_going_away());
    assert_eq!(pair.client.streams(), 1);
}

#[test]
fn pings_are_answered() {
    let mut pair = Pair::new(&Config::default());
    pair.client.ping(*b"are you?");
    assert_eq!(pair.at_server(), []);
    assert_eq!(pair.at_client(), [Event::Pong(*b"are you?")]);
}

mod hostile;
mod random;
