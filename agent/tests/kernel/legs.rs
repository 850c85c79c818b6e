//! Local legs that the kernel carries: what an application sends, and who reads it.

use crate::support::{
    pod::{PEER4, PEER6, POD4, POD6, World, restart},
    sock::{self, PATIENCE, accept, set_client, stream},
};
use culvert_abi::Leg;
use culvert_agent::kernel::{LegsStatus, LocalLegs};
use socket2::{Protocol, Socket};
use std::{
    fs::File,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr},
    os::fd::{AsRawFd as _, FromRawFd as _},
    thread,
    time::{Duration, Instant},
};

const PIECE: usize = 64 << 10;

/// None where the kernel is too old for it to be known that it can: then the agent has said why, and connections go by TCP.
pub(crate) fn carrying() -> Option<World> {
    let mut world = World::new(|node| node.config.local_legs = LocalLegs::Polled);
    let status = world.kernel.local_legs().clone();
    world.enrol(true, true);
    match status {
        LegsStatus::Kernel => Some(world),
        LegsStatus::Refused(reason) if !is_recent() => {
            let (mut application, proxy) = captured(&world, false);
            application.write_all(b"by TCP").expect("write");
            verify_text(&proxy, b"by TCP");
            assert_eq!(sent(&world), 0, "{reason}");
            None
        }
        other => panic!("{other:?}"),
    }
}

/// Linux 6.14 counts what was redirected and not read; older ones do where the fix was taken into them.
fn is_recent() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release");
    let mut parts = release.split('.').map(|part| part.parse().unwrap_or(0_u32));
    (parts.next(), parts.next()) >= (Some(6), Some(14))
}

/// An application's socket, and the proxy's that it is captured by.
pub(crate) fn captured(world: &World, v6: bool) -> (Socket, Socket) {
    captured_with(world, v6, None)
}

fn captured_with(world: &World, v6: bool, protocol: Option<Protocol>) -> (Socket, Socket) {
    let to = SocketAddr::new(if v6 { PEER6 } else { PEER4 }, 80);
    let application = world.pod.run(move || {
        let socket = stream(v6, protocol);
        socket.connect(&to.into()).map(|()| socket)
    });
    let (proxy, _) = world.take(v6);
    proxy.set_read_timeout(Some(PATIENCE)).expect("timeout");
    (application.expect("connect"), proxy)
}

/// The other way: an application's socket, which has accepted, and the proxy's that has opened.
pub(crate) fn forwarded(world: &World, v6: bool) -> (Socket, Socket) {
    let at = SocketAddr::new(if v6 { POD6 } else { POD4 }, 8080);
    let listener = world.serve(&world.pod, at);
    let client = SocketAddr::new(if v6 { PEER6 } else { PEER4 }, 40000);
    let proxy = world.node.as_proxy(|| {
        world.pod.run(move || {
            let socket = stream(v6, None);
            set_client(&socket, client)?;
            socket.connect(&at.into()).map(|()| socket)
        })
    });
    let (application, shown) = accept(&listener);
    assert_eq!(shown, client);
    (application, proxy.expect("connect"))
}

pub(crate) fn sent(world: &World) -> u64 {
    world.count("legs", "redirected")
}

/// The byte at this place of a stream.
pub(crate) fn byte(at: usize, seed: usize) -> u8 {
    (at.wrapping_mul(31) >> 3 ^ at >> 11 ^ seed) as u8
}

pub(crate) fn bytes(from: usize, to: usize, seed: usize) -> Vec<u8> {
    (from..to).map(|at| byte(at, seed)).collect()
}

/// Reads `count` bytes, and the end if `to_end`.
pub(crate) fn verify(socket: &Socket, count: usize, seed: usize, to_end: bool) {
    let (mut buffer, mut at) = (vec![0; PIECE], 0);
    while at < count || to_end {
        let most = if to_end { PIECE } else { PIECE.min(count - at) };
        let read = read_on(socket, &mut buffer[..most], at, count);
        if read == 0 {
            break;
        }
        for (index, found) in buffer[..read].iter().enumerate() {
            assert_eq!(*found, byte(at + index, seed), "the byte at {}", at + index);
        }
        at += read;
    }
    assert_eq!(at, count);
}

/// Tries again where the kernel says so: see `a_reader_that_is_woken_by_room_to_write_loses_no_byte`.
pub(crate) fn read_on(mut socket: &Socket, buffer: &mut [u8], at: usize, count: usize) -> usize {
    let until = Instant::now() + PATIENCE;
    loop {
        match socket.read(buffer) {
            Ok(read) => return read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < until => {}
            Err(error) => panic!("after {at} of {count}: {error}"),
        }
    }
}

/// Tries again where the kernel has no memory for what is redirected, which it says where TCP would wait: then it has taken nothing.
pub(crate) fn write_on(mut socket: &Socket, mut bytes: &[u8]) {
    let until = Instant::now() + PATIENCE;
    while !bytes.is_empty() {
        match socket.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::OutOfMemory && Instant::now() < until => thread::yield_now(),
            Err(error) => panic!("{} bytes before the end: {error}", bytes.len()),
        }
    }
}

/// Writes until nobody takes more.
fn fill(mut socket: &Socket, seed: usize) -> usize {
    socket.set_nonblocking(true).expect("non-blocking");
    let mut at = 0;
    loop {
        match socket.write(&bytes(at, at + PIECE, seed)) {
            Ok(count) => at += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
        assert!(at < 64 << 20, "nobody reads, and nobody is held back");
    }
    socket.set_nonblocking(false).expect("blocking");
    at
}

#[test]
fn what_an_application_sends_is_carried_past_tcp_and_what_it_reads_is_not() {
    let Some(world) = carrying() else { return };
    for v6 in [false, true] {
        for open in [captured, forwarded] {
            let before = sent(&world);
            let (mut application, mut proxy) = open(&world, v6);
            for round in 0..3 {
                application.write_all(&bytes(0, 1000, round)).expect("write");
                verify(&proxy, 1000, round, false);
                proxy.write_all(&bytes(0, 1000, round)).expect("write");
                verify(&application, 1000, round, false);
            }
            assert_eq!(sent(&world) - before, 3, "the application's, and nothing else");
            application.shutdown(Shutdown::Write).expect("half-close");
            verify(&proxy, 0, 0, true);
            // The other direction goes on.
            proxy.write_all(&bytes(0, 5, 0)).expect("write");
            drop(proxy);
            verify(&application, 5, 0, true);
        }
    }
    assert_eq!(world.count("legs", "tcp_late"), 0);
    assert_eq!(world.open_flows(), 0);
}

#[test]
fn a_proxy_that_does_not_read_holds_the_application_back_and_gets_every_byte_in_order() {
    let Some(world) = carrying() else { return };
    for open in [captured, forwarded] {
        let (mut application, proxy) = open(&world, false);
        let before = world.count("legs", "tcp_unread");
        let count = fill(&application, 7);
        assert!(count > Leg::UNREAD as usize);
        assert_eq!(world.count("legs", "tcp_unread") - before, 1, "back to TCP, once");
        let redirected = sent(&world);
        thread::scope(|scope| {
            scope.spawn(|| verify(&proxy, count + 3 * PIECE, 7, true));
            application
                .write_all(&bytes(count, count + 3 * PIECE, 7))
                .expect("write");
            application.shutdown(Shutdown::Write).expect("half-close");
        });
        assert_eq!(sent(&world), redirected, "for good");
    }
}

#[test]
fn an_application_that_ends_at_once_leaves_nothing_behind() {
    let Some(world) = carrying() else { return };
    for open in [captured, forwarded] {
        for ends_first in [true, false] {
            let (mut application, proxy) = open(&world, true);
            application.write_all(&bytes(0, 300_000, 3)).expect("write");
            if ends_first {
                // The kernel may let go of a connection that has ended both ways before its last bytes are read.
                proxy.shutdown(Shutdown::Write).expect("half-close");
            }
            drop(application);
            verify(&proxy, 300_000, 3, true);
        }
    }
}

#[test]
fn a_reset_is_a_reset() {
    let Some(world) = carrying() else { return };
    let (mut application, mut proxy) = captured(&world, false);
    application.write_all(b"begin").expect("write");
    application.set_linger(Some(Duration::ZERO)).expect("linger");
    drop(application);
    let mut found = Vec::new();
    let error = proxy.read_to_end(&mut found).expect_err("no end");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(found, b"begin");
}

/// Whether this kernel lets readers wait decides for those who did not say that all applications poll.
#[test]
fn a_kernel_that_does_not_let_readers_wait_carries_legs_only_where_all_poll() {
    let Some(mut world) = carrying() else { return };
    world.node.config.local_legs = LocalLegs::Kernel;
    restart(&mut world);
    let (application, proxy) = captured(&world, false);
    let (mut other, before) = (application.try_clone().expect("another descriptor"), sent(&world));
    match world.kernel.local_legs() {
        LegsStatus::Kernel => {}
        LegsStatus::Refused(reason) => assert!(reason.contains("`polled`"), "{reason}"),
        LegsStatus::Tcp => panic!("it was asked for"),
    }
    let is_carried = *world.kernel.local_legs() == LegsStatus::Kernel;
    world.enrol(true, true);
    let (mut later, reader) = captured(&world, false);
    later.write_all(b"later").expect("write");
    verify_text(&reader, b"later");
    assert_eq!(sent(&world) > before, is_carried);
    other.write_all(b"still").expect("write");
    verify_text(&proxy, b"still");
}

fn verify_text(mut socket: &Socket, text: &[u8]) {
    let mut found = vec![0; text.len()];
    socket.read_exact(&mut found).expect("read");
    assert_eq!(found, text);
}

/// The next agent's programs find them as they are; and one that does without lets them go on.
#[test]
fn an_agent_that_comes_and_goes_changes_nothing_for_what_is_open() {
    let Some(mut world) = carrying() else { return };
    let (mut application, proxy) = captured(&world, false);
    application.write_all(&bytes(0, 5000, 1)).expect("write");
    restart(&mut world);
    application.write_all(&bytes(5000, 6000, 1)).expect("write");
    world.node.config.local_legs = LocalLegs::Tcp;
    restart(&mut world);
    assert_eq!(*world.kernel.local_legs(), LegsStatus::Tcp);
    world.enrol(true, true);
    application.write_all(&bytes(6000, 7000, 1)).expect("write");
    let before = sent(&world);
    let (mut later, reader) = captured(&world, false);
    later.write_all(b"later").expect("write");
    assert_eq!(sent(&world), before, "new ones go by TCP");
    drop((later, reader));
    // Also when all of Culvert goes, what was sent is read first.
    drop(application);
    verify(&proxy, 7000, 1, true);
}

#[test]
fn what_was_sent_before_or_beside_goes_first() {
    let Some(world) = carrying() else { return };
    // With the SYN.
    let listeners = world.listeners.as_ref().expect("open");
    sock::set_tcp_option(&listeners.outbound4, sock::TCP_FASTOPEN, 16);
    for _ in 0..2 {
        let application = world.pod.run(|| {
            let socket = stream(false, None);
            sock::send_fast_open(&socket, &bytes(0, 500, 2), SocketAddr::new(PEER4, 80)).map(|_| socket)
        });
        let mut application = application.expect("fast open");
        sock::finish(&application).expect("established");
        application.write_all(&bytes(500, 1000, 2)).expect("write");
        drop(application);
        let (proxy, _) = world.take(false);
        verify(&proxy, 1000, 2, true);
    }
    // MPTCP has a socket above that of the leg.
    let before = sent(&world);
    let (mut application, proxy) = captured_with(&world, false, Some(Protocol::MPTCP));
    application.write_all(&bytes(0, 1000, 2)).expect("write");
    drop(application);
    verify(&proxy, 1000, 2, true);
    assert_eq!(sent(&world), before);
}

/// `sendfile` and `splice` into the socket.
#[test]
fn files_are_sent_whole() {
    let Some(world) = carrying() else { return };
    let mut file = tempfile();
    file.write_all(&bytes(0, 700_000, 4)).expect("write");
    let (application, proxy) = captured(&world, false);
    thread::scope(|scope| {
        scope.spawn(|| verify(&proxy, 700_000, 4, true));
        let mut offset = 0;
        while offset < 700_000 {
            // SAFETY: both descriptors are open, and the offset is a variable of this function.
            let count = unsafe { libc::sendfile(application.as_raw_fd(), file.as_raw_fd(), &mut offset, 1 << 20) };
            assert!(count > 0, "{}", io::Error::last_os_error());
        }
        application.shutdown(Shutdown::Write).expect("half-close");
    });
    assert!(sent(&world) > 0);
}

fn tempfile() -> File {
    // SAFETY: a terminated name.
    let fd = unsafe { libc::memfd_create(c"culvert".as_ptr(), 0) };
    assert!(fd >= 0, "{}", io::Error::last_os_error());
    // SAFETY: just made.
    unsafe { File::from_raw_fd(fd) }
}

/// TLS in the kernel would be seen through.
#[test]
fn what_sits_above_tcp_keeps_its_bytes() {
    let Some(world) = carrying() else { return };
    let (mut application, proxy) = captured(&world, false);
    application.write_all(&bytes(0, 100, 5)).expect("write");
    // SAFETY: the value is as long as it is said to be.
    let result = unsafe {
        libc::setsockopt(
            application.as_raw_fd(),
            libc::SOL_TCP,
            libc::TCP_ULP,
            c"tls".as_ptr().cast(),
            3,
        )
    };
    if result != 0 {
        let error = io::Error::last_os_error();
        assert_eq!(
            error.raw_os_error(),
            Some(libc::ENOENT),
            "this kernel has TLS, and refuses it: {error}"
        );
        return;
    }
    application.write_all(&bytes(100, 200, 5)).expect("write");
    drop(application);
    verify(&proxy, 200, 5, true);
    assert_eq!(world.count("legs", "tcp_above"), 1);
}

/// Linux wakes who waits in a read of such a socket when there is room to write again, and does not let it wait on: an application
/// with a thread that reads and another that writes more than is read is told to try again, although its socket blocks. Nothing
/// is lost by that, but few look for it: one reason why legs go by TCP unless asked for.
#[test]
fn a_reader_that_is_woken_by_room_to_write_loses_no_byte() {
    let Some(world) = carrying() else { return };
    for open in [captured, forwarded] {
        let (application, mut proxy) = open(&world, false);
        let (waiting, is_waiting) = std::sync::mpsc::channel();
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                waiting.send(()).expect("the test waits");
                (&application).read(&mut [0; 1]).or_else(|error| {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    (&application).read(&mut [0; 1])
                })
            });
            is_waiting.recv().expect("the reader begins");
            let writer = application.try_clone().expect("another descriptor");
            let count = flood(&writer);
            verify(&proxy, count, 1, false);
            proxy.write_all(b"x").expect("write");
            assert_eq!(reader.join().expect("no panic").expect("read"), 1);
        });
    }
}

/// As [`fill`], without making the socket non-blocking for who reads from it.
fn flood(socket: &Socket) -> usize {
    let mut at = 0;
    loop {
        match socket.send_with_flags(&bytes(at, at + PIECE, 1), libc::MSG_DONTWAIT) {
            Ok(count) => at += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return at,
            Err(error) => panic!("{error}"),
        }
        assert!(at < 64 << 20, "nobody reads, and nobody is held back");
    }
}
