//! HTTP/2 as strangers speak it: frames, header blocks, cut anywhere, to both roles.
//!
//! The first byte chooses the role and whether the opening (preface, SETTINGS) is done for the input, the second the size of pieces.
#![no_main]

use culvert_hbone::{
    BadRequest, Config, ConnectRequest, Connection, ErrorCode, ProtocolError, Response, Role, Sink, StreamId,
};
use libfuzzer_sys::fuzz_target;

/// What happened, with data joined so that cuts do not show.
#[derive(Default)]
struct Log {
    events: Vec<String>,
    data: Vec<(StreamId, Vec<u8>)>,
}

impl<'b> Sink<'b> for Log {
    fn connect(&mut self, id: StreamId, request: Result<ConnectRequest, BadRequest>) {
        self.events.push(format!("{id} {request:?}"));
    }
    fn response(&mut self, id: StreamId, response: Response) {
        self.events.push(format!("{id} {response:?}"));
    }
    fn data(&mut self, id: StreamId, data: &'b [u8]) {
        match self.data.last_mut() {
            Some((last, bytes)) if *last == id => bytes.extend_from_slice(data),
            _ => self.data.push((id, data.to_vec())),
        }
    }
    fn end(&mut self, id: StreamId) {
        self.events.push(format!("{id} end"));
    }
    fn reset(&mut self, id: StreamId, code: ErrorCode) {
        self.events.push(format!("{id} reset {code:?}"));
    }
    fn writable(&mut self, id: StreamId) {
        self.events.push(format!("{id} writable"));
    }
    fn all_writable(&mut self) {
        self.events.push("writable".to_owned());
    }
    fn pong(&mut self, payload: [u8; 8]) {
        self.events.push(format!("pong {payload:?}"));
    }
    fn go_away(&mut self, last: StreamId, code: ErrorCode) {
        self.events.push(format!("go away {last} {code:?}"));
    }
}

/// Everything that can be seen of a connection that was fed `bytes` in pieces of `size`.
fn follow(role: Role, bytes: &[u8], size: usize) -> (Log, Option<ProtocolError>, Vec<u8>) {
    let config = Config {
        max_pending_answers: 100,
        max_idle_frames: 100,
        max_window_updates: 100,
        ..Config::default()
    };
    let mut connection = Connection::plaintext(role, &config);
    if role == Role::Client {
        for n in 1..4 {
            let authority = format!("198.18.0.{n}:80").parse().expect("an address");
            connection
                .open(&authority, &[("baggage", "service.name=fuzz")])
                .expect("streams are free");
        }
    }
    let mut bytes = bytes.to_vec();
    let mut log = Log::default();
    for piece in bytes.chunks_mut(size) {
        if let Err(error) = connection.receive(piece, &mut log) {
            return (log, Some(error), connection.output().to_vec());
        }
    }
    // Use what came of it, in ways that must be harmless.
    for &(id, ref data) in &log.data {
        connection.respond(id, 200, &[], false);
        connection.send(id, data);
        connection.release(id, data.len());
        connection.finish(id);
        connection.reset(id, ErrorCode::Cancel);
    }
    connection.go_away();
    assert!(connection.output_len() < 4 << 20);
    (log, None, connection.output().to_vec())
}

fuzz_target!(|input: &[u8]| {
    let &[mode, size, ref rest @ ..] = input else { return };
    let role = if mode & 1 == 0 { Role::Server } else { Role::Client };
    let mut bytes = Vec::new();
    if mode & 2 == 0 {
        if role == Role::Server {
            bytes.extend_from_slice(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        }
        bytes.extend_from_slice(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
    }
    bytes.extend_from_slice(rest);
    let whole = follow(role, &bytes, bytes.len().max(1));
    let cut = follow(role, &bytes, usize::from(size) + 1);
    assert_eq!(whole.0.events, cut.0.events);
    assert_eq!(whole.0.data, cut.0.data);
    assert_eq!(whole.1, cut.1);
    assert_eq!(whole.2, cut.2);
});
