//! HTTP/2 as strangers speak it: frames and header blocks of any kind, cut anywhere, to both roles, over no layer below and over one.
//!
//! The first byte chooses the role and whether the opening (preface, SETTINGS) is done for the input, the second the size of pieces.
#![no_main]

use culvert_h2core::{
    BadHeaders, Config, Connection, ErrorCode, Plain, ProtocolError, Request, Response, Role, Seal, Sink, StreamId,
};
use libfuzzer_sys::fuzz_target;

/// A layer below as TLS is one: a header that tells the length, a trailer that says what the record holds.
struct Framed;

impl Seal for Framed {
    type Error = ();

    fn lead(&self) -> usize {
        5
    }

    fn trail(&self) -> usize {
        17
    }

    fn seal(&mut self, content: Option<u8>, record: &mut [u8]) -> Result<(), ()> {
        assert!(record.len() > 22 && record.len() <= 22 + culvert_h2core::MAX_PLAINTEXT);
        let length = (record.len() as u32).to_be_bytes();
        record[..5].copy_from_slice(&[0xa5, length[0], length[1], length[2], length[3]]);
        record
            .iter_mut()
            .rev()
            .take(17)
            .for_each(|byte| *byte = content.unwrap_or(0xc3));
        Ok(())
    }
}

/// The plaintext of records.
fn unframe(mut records: &[u8]) -> Vec<u8> {
    let mut plaintext = Vec::new();
    while let &[first, a, b, c, d, ..] = records {
        assert_eq!(first, 0xa5);
        let (record, rest) = records.split_at(u32::from_be_bytes([a, b, c, d]) as usize);
        assert!(record[record.len() - 17..].iter().all(|&byte| byte == 0xc3));
        plaintext.extend_from_slice(&record[5..record.len() - 17]);
        records = rest;
    }
    assert!(records.is_empty());
    plaintext
}

/// What happened, with data joined so that cuts do not show.
#[derive(Default)]
struct Log {
    events: Vec<String>,
    data: Vec<(StreamId, Vec<u8>)>,
    asked: Vec<StreamId>,
}

impl<'b> Sink<'b> for Log {
    fn request(&mut self, id: StreamId, request: Result<Request, BadHeaders>) {
        self.events.push(format!("{id} {request:?}"));
        self.asked.push(id);
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
fn follow<S: Seal>(seal: S, role: Role, bytes: &[u8], size: usize) -> (Log, Option<ProtocolError>, Vec<u8>) {
    let config = Config {
        max_pending_answers: 100,
        max_idle_frames: 100,
        max_window_updates: 100,
        ..Config::default()
    };
    let mut connection = Connection::new(role, seal, &config);
    if role == Role::Client {
        for path in ["/a", "/b", "/c"] {
            let pseudo = [(":method", "GET"), (":scheme", "https"), (":path", path)];
            connection
                .open(&pseudo, &[("user-agent", "fuzz")])
                .expect("streams are free");
        }
    }
    let mut log = Log::default();
    for piece in bytes.chunks(size) {
        if let Err(error) = connection.receive(piece, &mut log) {
            assert_eq!(
                connection.receive(piece, &mut log),
                Err(error.clone()),
                "there is no way back"
            );
            connection.end_output();
            return (log, Some(error), connection.output().to_vec());
        }
    }
    // Use what came of it, in ways that must be harmless.
    for &id in &log.asked {
        connection.respond(id, 200, &[("server", "fuzz")], false);
    }
    for &(id, ref data) in &log.data {
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
    let whole = follow(Plain, role, &bytes, bytes.len().max(1));
    let cut = follow(Framed, role, &bytes, usize::from(size) + 1);
    assert_eq!(whole.0.events, cut.0.events);
    assert_eq!(whole.0.data, cut.0.data);
    assert_eq!(whole.1, cut.1);
    assert_eq!(whole.2, unframe(&cut.2));
});
