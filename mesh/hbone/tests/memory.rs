//! What a connection costs in memory: little when idle, and no allocation per frame. The allocator counts, per thread.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use common::{End, configs, server_name, shake};
use culvert_hbone::{
    BadRequest, Config, ConnectRequest, Connection, ErrorCode, Fill, Handshake, Response, Sink, StreamId,
};

struct Counting;

thread_local! {
    static CALLS: Cell<usize> = const { Cell::new(0) };
    static BYTES: Cell<isize> = const { Cell::new(0) };
}

fn count(calls: usize, bytes: isize) {
    // While a thread ends, its counters are gone already; nothing is measured then.
    let _ = CALLS.try_with(|all| all.set(all.get() + calls));
    let _ = BYTES.try_with(|all| all.set(all.get() + bytes));
}

// SAFETY: everything is passed on to the system's allocator as it came; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as isize);
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, -(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, size as isize - layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Counts data, keeps nothing.
#[derive(Default)]
struct Counter {
    bytes: usize,
    asked: Option<StreamId>,
}

impl<'b> Sink<'b> for Counter {
    fn connect(&mut self, id: StreamId, _: Result<ConnectRequest, BadRequest>) {
        self.asked = Some(id);
    }
    fn response(&mut self, _: StreamId, _: Response) {}
    fn data(&mut self, _: StreamId, data: &'b [u8]) {
        self.bytes += data.len();
    }
    fn end(&mut self, _: StreamId) {}
    fn reset(&mut self, _: StreamId, _: ErrorCode) {}
    fn writable(&mut self, _: StreamId) {}
    fn all_writable(&mut self) {}
    fn pong(&mut self, _: [u8; 8]) {}
    fn go_away(&mut self, _: StreamId, _: ErrorCode) {}
}

fn carry(from: &mut Connection, to: &mut Connection, wire: &mut Vec<u8>) -> Counter {
    wire.clear();
    wire.extend_from_slice(from.output());
    from.written(wire.len());
    let mut counter = Counter::default();
    assert_eq!(to.receive(wire, &mut counter), Ok(wire.len()));
    counter
}

/// Two connections with all that opens them said.
fn pair(wire: &mut Vec<u8>) -> (Connection, Connection) {
    let (client, server) = configs();
    let client = Handshake::client(Arc::new(client), server_name()).unwrap();
    let server = Handshake::server(Arc::new(server)).unwrap();
    let (client, server) = shake(client, server, usize::MAX, &Config::default());
    let [mut client, mut server] = [client, server].map(
        |End {
             mut connection,
             mut inbox,
         }| {
            connection.receive(&mut inbox, &mut Counter::default()).unwrap();
            connection
        },
    );
    for _ in 0..2 {
        carry(&mut client, &mut server, wire);
        carry(&mut server, &mut client, wire);
    }
    (client, server)
}

#[test]
fn data_allocates_nothing() {
    let mut wire = Vec::with_capacity(4 << 20);
    let (mut client, mut server) = pair(&mut wire);
    let id = client.open(&"198.18.0.1:80".parse().unwrap(), &[]).unwrap();
    let asked = carry(&mut client, &mut server, &mut wire).asked.unwrap();
    server.respond(asked, 200, &[], false);
    carry(&mut server, &mut client, &mut wire);
    for (round, size) in [1, 100, 16_000, 16_375, 100_000, 1 << 20]
        .into_iter()
        .cycle()
        .take(60)
        .enumerate()
    {
        let before = CALLS.get();
        let filled = client
            .fill(id, size, |slices| Ok(slices.iter().map(|slice| slice.len()).sum()))
            .unwrap();
        assert_eq!(filled, Fill::Bytes(size));
        assert_eq!(carry(&mut client, &mut server, &mut wire).bytes, size);
        server.release(id, size);
        carry(&mut server, &mut client, &mut wire);
        // Once each: the output buffers of this thread.
        assert!(
            round < 2 || CALLS.get() == before,
            "round {round}: {} allocations",
            CALLS.get() - before
        );
    }
}

#[test]
fn idle_connections_are_small() {
    let mut wire = Vec::with_capacity(4 << 20);
    // Whatever is made once per thread.
    drop(pair(&mut wire));
    let before = BYTES.get();
    let pairs: Vec<_> = (0..20).map(|_| pair(&mut wire)).collect();
    let each = (BYTES.get() - before) / 40;
    println!("{each} bytes each");
    assert!(each < 12 << 10, "{each} bytes");
    drop(pairs);
}

/// A proxy asks all its silent peers at the same moment.
#[test]
fn a_sign_of_life_asked_of_many_takes_no_buffer_that_is_made_for_data() {
    let mut wire = Vec::with_capacity(4 << 20);
    let mut pairs: Vec<_> = (0..20).map(|_| pair(&mut wire)).collect();
    let before = BYTES.get();
    for (client, server) in &mut pairs {
        client.ping(*b"culvert?");
        server.ping(*b"culvert?");
    }
    let each = (BYTES.get() - before) / 40;
    assert!(each <= 5 << 10, "{each} bytes");
    for (client, server) in &mut pairs {
        carry(client, server, &mut wire);
        carry(server, client, &mut wire);
        // The answer to what came last.
        carry(client, server, &mut wire);
    }
    // And of what was spare nothing is left after a while in which nobody needed it.
    (0..2).for_each(|_| culvert_hbone::release_unused());
    let each = (BYTES.get() - before) / 40;
    assert!(each < 1 << 10, "{each} bytes");
}
