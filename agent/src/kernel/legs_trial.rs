//! Trying out whether this kernel carries legs as it should: a connection in a network namespace of its own.
//!
//! Version numbers do not tell: distributions take fixes into old kernels, and the same number may be right or wrong.

use super::{maps::Maps, sys};
use aya::maps::{MapData, MapError, SkStorage};
use culvert_abi::{Address, Leg, Pod};
use culvert_net::{Netns, netlink::Request, tcp_state};
use rustix::thread::Pid;
use std::{
    fs,
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    os::fd::{AsFd as _, AsRawFd as _},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// For each read and write; all of it is done within the machine.
const PATIENCE: Duration = Duration::from_secs(5);
/// What is written at a time where nobody reads.
const PIECE: usize = 64 << 10;
/// A connection that takes more than this, when nobody reads, holds nobody back.
const MOST: usize = 64 << 20;

const RTM_NEWLINK: u16 = 16;
const IFF_UP: u32 = 1;
/// Of every network namespace.
const LOOPBACK: u32 = 1;

/// Whether every byte is carried as it should be, or what is wrong. Where it is: what an application notices nevertheless.
pub(super) fn run(maps: &mut Maps, legs: &SkStorage<MapData, Leg>) -> Result<Option<&'static str>, String> {
    let space = thread::spawn(own_space).join();
    let space = space.map_err(|_| "a thread has panicked".to_owned())?;
    let space = space.map_err(|error| format!("no network namespace to try it in: {error}"))?;
    let cookie = space.cookie().map_err(|error| error.to_string())?;
    let pod = Pod {
        ipv4: Address::NONE,
        ipv6: Address::NONE,
        flags: Pod::LEGS_TRIAL,
        devices: [0; 2],
        held_ports: [0; Pod::HELD_PORTS],
    };
    maps.set_pod(cookie, pod).map_err(|error| error.to_string())?;
    let tried = space.run(|| {
        connection(legs).and_then(|()| readers().map_err(|error| format!("a reader cannot be tried: {error}")))
    });
    maps.remove_pod(cookie).map_err(|error| error.to_string())?;
    tried.map_err(|error| error.to_string())?
}

/// With its loopback interface up.
fn own_space() -> io::Result<Netns> {
    sys::leave_network()?;
    // `struct ifinfomsg`: family, type, index, flags, and which of them change.
    let header: Vec<u8> = [0, LOOPBACK, IFF_UP, IFF_UP]
        .iter()
        .flat_map(|word: &u32| word.to_ne_bytes())
        .collect();
    Request::new(RTM_NEWLINK, 0, &header).send()?;
    Netns::current().map_err(io::Error::other)
}

fn connection(legs: &SkStorage<MapData, Leg>) -> Result<(), String> {
    let (client, server) = pair().map_err(|error| format!("no connection to try it with: {error}"))?;
    let state = || match legs.get(&client.as_raw_fd(), 0) {
        Ok(leg) => Ok(leg.state),
        Err(MapError::KeyNotFound) => Err("the programs do not see connections begin".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    state()?;
    let failed = |step: &'static str| move |error: io::Error| format!("{step}: {error}");

    let sent = write_all(&client, 1, 0).map_err(failed("a first byte is not sent"))?;
    if state()? != Leg::JOINED {
        return Err("the kernel does not redirect what is sent".to_owned());
    }
    // Nobody reads meanwhile.
    let sent = fill(&client, sent).map_err(failed("more is not sent"))?;
    if state()? != Leg::TCP {
        return Err(
            "the kernel does not count what was redirected and not read (since Linux 6.14: `tcp_bpf: charge receive \
                    socket buffer in bpf_tcp_ingress`), so that nothing would hold an application back"
                .to_owned(),
        );
    }
    // Both ends are told of before a byte is read: a kernel that lets go of what was not read does it here.
    for socket in [&client, &server] {
        socket
            .shutdown(Shutdown::Write)
            .map_err(failed("the end is not sent"))?;
    }
    verify(&server, sent).map_err(failed("what was sent does not arrive"))
}

fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    for socket in [&client, &server] {
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
    }
    Ok((client, server))
}

/// What an application notices that reads.
fn readers() -> io::Result<Option<&'static str>> {
    if !waits()? {
        return Ok(Some(
            "the kernel tells an application that waits in a read to try again (EAGAIN), although its socket blocks, when it has shut its \
             side or may write again",
        ));
    }
    let (client, mut server) = pair()?;
    server.write_all(&[0])?;
    // It is there when it can be looked at.
    client.peek(&mut [0])?;
    Ok((rustix::io::ioctl_fionread(&client)? != 1).then_some(
        "the kernel tells an application that asks how much there is to read (FIONREAD) that there is nothing",
    ))
}

/// Whether a client waits that is in a read while its other side is shut, which is acknowledged, and gets a byte after that. Linux's
/// `tcp_bpf_recvmsg` waits once, whatever wakes it.
fn waits() -> io::Result<bool> {
    let (client, mut server) = pair()?;
    let (begins, has_begun) = mpsc::channel();
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            // Fails only where nobody waits for it any more.
            let _ = begins.send(rustix::thread::gettid());
            (&client).read(&mut [0])
        });
        let thread = has_begun.recv().map_err(io::Error::other)?;
        let until = Instant::now() + PATIENCE;
        while !is_asleep(thread)? {
            if Instant::now() > until {
                return Err(io::ErrorKind::TimedOut.into());
            }
            thread::yield_now();
        }
        client.shutdown(Shutdown::Write)?;
        server.read_to_end(&mut Vec::new())?;
        // Whom the acknowledgement has woken is to look before there is something to find.
        let is_woken =
            || Ok::<_, io::Error>(tcp_state::send_state(client.as_fd())?.outstanding || !is_settled(&reader, thread)?);
        while is_woken()? {
            if Instant::now() > until {
                return Err(io::ErrorKind::TimedOut.into());
            }
            thread::yield_now();
        }
        server.write_all(&[0])?;
        let read = reader.join().map_err(|_| io::Error::other("a thread has panicked"))?;
        match read {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    })
}

/// Whether a thread has ended, or waits.
fn is_settled<T>(reader: &thread::ScopedJoinHandle<'_, T>, thread: Pid) -> io::Result<bool> {
    Ok(reader.is_finished() || is_asleep(thread).or_else(|_| Ok::<_, io::Error>(reader.is_finished()))?)
}

/// Whether a thread of this process waits in the kernel.
fn is_asleep(thread: Pid) -> io::Result<bool> {
    let stat = fs::read_to_string(format!("/proc/self/task/{}/stat", thread.as_raw_nonzero()))?;
    // The name before the state may have anything in it.
    let state = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next());
    Ok(state == Some("S"))
}

/// The byte at this place of the stream.
fn byte(at: usize) -> u8 {
    (at ^ at >> 8 ^ at >> 16) as u8
}

fn write_all(mut client: &TcpStream, count: usize, at: usize) -> io::Result<usize> {
    let bytes: Vec<u8> = (at..at + count).map(byte).collect();
    client.write_all(&bytes)?;
    Ok(at + count)
}

/// Writes until the connection takes no more. Returns how many bytes were written in all.
fn fill(mut client: &TcpStream, mut at: usize) -> io::Result<usize> {
    client.set_nonblocking(true)?;
    while at < MOST {
        let bytes: Vec<u8> = (at..at + PIECE).map(byte).collect();
        match client.write(&bytes) {
            Ok(count) => at += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    client.set_nonblocking(false)?;
    Ok(at)
}

/// Reads to the end.
fn verify(mut server: &TcpStream, count: usize) -> io::Result<()> {
    let (mut buffer, mut at) = (vec![0; PIECE], 0);
    loop {
        let read = server.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        if buffer[..read]
            .iter()
            .enumerate()
            .any(|(index, found)| *found != byte(at + index))
        {
            return Err(io::Error::other(format!("a wrong byte after {at}")));
        }
        at += read;
    }
    match at == count {
        true => Ok(()),
        false => Err(io::Error::other(format!("{at} of {count} bytes"))),
    }
}
