//! Connections that are held until the proxy knows what becomes of them.

use crate::support::{
    pod::{PEER4, PEER6, POD4, World},
    sock::{
        self, TCP_FASTOPEN, TCP_FASTOPEN_CONNECT, finish, listen, local, mapped, peer, send_fast_open, set_tcp_option,
        stream,
    },
    uring,
};
use culvert_net::hold::{self, Syn};
use culvert_objects::Hold as Held;
use socket2::{Protocol, SockAddr, Socket};
use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr},
    os::fd::AsFd,
    sync::mpsc,
    thread,
    time::Instant,
};

const CLAIMANT: u32 = 7;

/// A destination, and whether an IPv6 socket connects to it.
fn cases() -> [(SocketAddr, bool); 3] {
    let at = |address: IpAddr| SocketAddr::new(address, 80);
    [(at(PEER4), false), (at(PEER6), true), (at(PEER4), true)]
}

/// As the application writes it.
fn address(destination: SocketAddr, v6: bool) -> SockAddr {
    if v6 { mapped(destination) } else { destination }.into()
}

impl World {
    /// Begins to connect; `connect` must not be over.
    fn begin(&self, destination: SocketAddr, v6: bool) -> Socket {
        self.pod.run(move || {
            let socket = stream(v6, None);
            socket.set_nonblocking(true).expect("non-blocking");
            let begun = socket.connect(&address(destination, v6)).expect_err("held");
            assert_eq!(begun.raw_os_error(), Some(libc::EINPROGRESS));
            socket
        })
    }

    /// The next SYN, as the proxy sees it.
    fn syn(&self, v6: bool) -> Syn {
        let hold = self.listeners.as_ref().and_then(|listeners| listeners.hold.as_ref());
        let tap = &hold.expect("a proxy that holds").taps[usize::from(v6)];
        let begun = Instant::now();
        loop {
            if let Some(syn) = tap.next().expect("read the tap") {
                return syn;
            }
            assert!(begun.elapsed() < sock::PATIENCE, "no SYN");
            std::thread::yield_now();
        }
    }

    fn refuse(&self, syn: &Syn) {
        let hold = self.listeners.as_ref().and_then(|listeners| listeners.hold.as_ref());
        let tap = &hold.expect("a proxy that holds").taps[usize::from(syn.source.is_ipv6())];
        tap.refuse(syn).expect("refuse");
    }

    fn claim(&self, syn: &Syn) -> io::Result<SocketAddr> {
        self.claim_as(syn, CLAIMANT)
    }

    fn claim_as(&self, syn: &Syn, claimant: u32) -> io::Result<SocketAddr> {
        let cookie = self.pod.cookie();
        self.node
            .as_proxy(|| hold::claim(stream(true, None).as_fd(), cookie, syn, claimant))
    }

    /// Meets the application's socket half way, as the proxy does.
    fn meet(&self, syn: &Syn) -> io::Result<Socket> {
        let syn = *syn;
        let connect = move || {
            let socket = Socket::from(culvert_net::sockopt::tcp_stream_socket()?);
            hold::bind_to_meet(socket.as_fd(), &syn)?;
            match socket.connect(&mapped(syn.source).into()) {
                Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => finish(&socket).map(|()| socket),
                outcome => outcome.map(|()| socket),
            }
        };
        self.node.as_proxy(|| self.pod.run(connect))
    }

    fn is_connecting(&self, socket: &Socket) -> bool {
        let mut poll = libc::pollfd {
            fd: std::os::fd::AsRawFd::as_raw_fd(socket),
            events: libc::POLLOUT,
            revents: 0,
        };
        // SAFETY: one element.
        unsafe { libc::poll(&mut poll, 1, 0) == 0 }
    }
}

fn carries_bytes(application: &mut Socket, proxy: &mut Socket) {
    for socket in [&*application, &*proxy] {
        socket.set_nonblocking(false).expect("blocking");
        socket.set_read_timeout(Some(sock::PATIENCE)).expect("timeout");
    }
    application.write_all(b"question").expect("write");
    let mut buffer = [0; 8];
    proxy.read_exact(&mut buffer).expect("read");
    assert_eq!(&buffer, b"question");
    proxy.write_all(b"answered").expect("write");
    application.read_exact(&mut buffer).expect("read");
    assert_eq!(&buffer, b"answered");
}

#[test]
fn a_held_connect_ends_when_the_proxy_meets_it() {
    let world = World::holding(Held::All);
    for (destination, v6) in cases() {
        let mut application = world.begin(destination, v6);
        let syn = world.syn(destination.is_ipv6());
        assert_eq!(world.claim(&syn).expect("claim"), destination);
        assert!(world.is_connecting(&application), "nothing has answered it");
        let mut proxy = world.meet(&syn).expect("meet");
        finish(&application).expect("connected");
        assert_eq!(
            peer(&application),
            destination,
            "the application sees whom it asked for"
        );
        assert_eq!(peer(&proxy), local(&application), "the proxy sees the pod");
        assert_eq!(world.open_flows(), 0, "only handshakes take room");
        carries_bytes(&mut application, &mut proxy);
    }
    assert_eq!(world.count("sk_lookup", "held"), 3);
    assert_eq!(world.count("sock_ops", "met"), 3);
    assert_eq!(world.count("sk_lookup", "outbound"), 0);
}

#[test]
fn a_held_connect_that_is_refused_fails_as_without_a_mesh() {
    let world = World::holding(Held::All);
    for (destination, v6) in cases() {
        let application = world.begin(destination, v6);
        let syn = world.syn(destination.is_ipv6());
        world.claim(&syn).expect("claim");
        world.refuse(&syn);
        let refused = finish(&application).expect_err("refused");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
    assert_eq!(world.open_flows(), 0, "failed handshakes leave nothing behind");
}

#[test]
fn a_held_connect_that_nobody_answers_is_asked_again_and_times_out_in_the_applications_time() {
    const TCP_SYNCNT: i32 = 7;
    let world = World::holding(Held::All);
    let application = world.pod.run(|| {
        let socket = stream(false, None);
        socket.set_nonblocking(true).expect("non-blocking");
        set_tcp_option(&socket, TCP_SYNCNT, 1);
        let begun = socket.connect(&SocketAddr::new(PEER4, 80).into());
        assert_eq!(begun.expect_err("held").raw_os_error(), Some(libc::EINPROGRESS));
        socket
    });
    let first = world.syn(false);
    world.claim(&first).expect("claim");
    let again = world.syn(false);
    assert_eq!(again, first, "the application's kernel repeats it");
    let taken = world.claim(&again).expect_err("it is ours already");
    assert_eq!(taken.raw_os_error(), Some(libc::EALREADY));
    // A proxy that died has taken its number with it.
    world.claim_as(&again, CLAIMANT + 1).expect("another may take it");

    let cookie = world.pod.cookie();
    let release = || hold::release(stream(true, None).as_fd(), cookie, &again);
    world.node.as_proxy(release).expect("give it back");
    world.claim(&again).expect("claim it anew");
    let silent = finish(&application).expect_err("nobody answers");
    assert_eq!(silent.raw_os_error(), Some(libc::ETIMEDOUT));
    let gone = world.claim(&again).expect_err("it is gone");
    assert_eq!(gone.raw_os_error(), Some(libc::ENOENT));
    assert_eq!(world.open_flows(), 0, "failed handshakes leave nothing behind");
}

#[test]
fn only_the_ports_that_are_named_are_held() {
    let world = World::holding(Held::Ports(vec![80, 443]));
    let _held = world.begin(SocketAddr::new(PEER4, 443), false);
    let syn = world.syn(false);
    assert_eq!(world.claim(&syn).expect("claim"), SocketAddr::new(PEER4, 443));

    let destination = SocketAddr::new(PEER4, 8080);
    let application = world.pod.run(move || {
        let socket = stream(false, None);
        socket.connect(&destination.into()).map(|()| socket)
    });
    application.expect("accepted first");
    let seen = world.syn(false);
    let other = world.claim(&seen).expect_err("it is not held");
    assert_eq!(other.raw_os_error(), Some(libc::ENOENT));
    assert_eq!(world.take(false).1, destination);
}

#[test]
fn where_nobody_can_hold_it_a_connection_is_accepted_first_and_counted() {
    let mut world = World::holding(Held::All);
    let direct = world.serve(&world.peer, "[::]:80".parse().expect("an address"));
    // An agent and a proxy that have closed theirs.
    world.listeners.as_mut().expect("not closed").hold = None;
    for (destination, v6) in cases() {
        let application = world.pod.run(move || {
            let socket = stream(v6, None);
            socket.connect(&address(destination, v6)).map(|()| socket)
        });
        let application = application.expect("connect");
        let (proxy, taken) = world.take(destination.is_ipv6());
        assert_eq!(taken, destination);
        assert_eq!(peer(&application), destination);
        assert_eq!(peer(&proxy), local(&application));
    }
    assert_eq!(world.count("sk_lookup", "not_held"), 3);
    assert_eq!(world.open_flows(), 0);
    direct.set_nonblocking(true).expect("non-blocking");
    assert!(direct.accept().is_err(), "nothing went out in clear");
}

#[test]
fn no_proxy_at_all_is_a_refusal() {
    let mut world = World::holding(Held::All);
    world.listeners = None;
    let refused = world
        .pod
        .run(|| stream(false, None).connect(&SocketAddr::new(PEER4, 80).into()));
    assert_eq!(
        refused.expect_err("nobody is there").kind(),
        io::ErrorKind::ConnectionRefused
    );
}

/// The application has given up and listens on the port that it connected from.
#[test]
fn an_answer_that_comes_too_late_meets_nobody() {
    let world = World::holding(Held::All);
    let application = world.begin(SocketAddr::new(PEER4, 80), false);
    let syn = world.syn(false);
    world.claim(&syn).expect("claim");
    drop(application);
    let listener = world
        .pod
        .run(move || listen(SocketAddr::new(POD4, syn.source.port()), None));
    let late = world.meet(&syn).expect_err("nobody is there");
    assert_eq!(late.kind(), io::ErrorKind::ConnectionRefused);
    listener.set_nonblocking(true).expect("non-blocking");
    assert!(
        listener.accept().is_err(),
        "the application did not take it for a client"
    );
    assert_eq!(world.count("sk_lookup", "denied_late"), 1);
    assert_eq!(world.open_flows(), 0);
}

#[test]
fn holding_can_begin_and_end_while_the_pod_runs() {
    let mut world = World::holding(Held::All);
    for held in [Held::None, Held::All] {
        world.held = held.clone();
        world.enrol(true, true);
        let before = world.count("sk_lookup", "held");
        let _application = world.pod.run(|| {
            let socket = stream(false, None);
            socket.set_nonblocking(true).expect("non-blocking");
            let _ = socket.connect(&SocketAddr::new(PEER4, 80).into());
            socket
        });
        let is_held = world.count("sk_lookup", "held") > before;
        assert_eq!(is_held, held == Held::All);
    }
}

/// The agent tells it anew with each change, when proxies come and go, and when it starts.
#[test]
fn a_pod_that_is_brought_in_anew_holds_all_the_time() {
    let mut world = World::holding(Held::All);
    let (stop, is_stopped) = mpsc::channel::<()>();
    let dialling = world.pod.run(move || {
        thread::spawn(move || {
            let mut begun = 0;
            while is_stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
                let socket = stream(false, None);
                socket.set_nonblocking(true).expect("non-blocking");
                let error = socket.connect(&SocketAddr::new(PEER4, 80).into()).expect_err("held");
                assert_eq!(error.raw_os_error(), Some(libc::EINPROGRESS));
                begun += 1;
            }
            begun
        })
    });
    for round in 0..200 {
        world.held = if round % 2 == 0 {
            Held::Ports(vec![80])
        } else {
            Held::All
        };
        world.enrol(true, true);
    }
    drop(stop);
    let begun = dialling.join().expect("nothing panicked");
    assert!(begun > 0, "nothing was tried");
    assert_eq!(world.count("sk_lookup", "held"), begun);
}

/// An MPTCP socket would never notice that it is met.
#[test]
fn an_mptcp_connect_is_accepted_first() {
    let world = World::holding(Held::All);
    let destination = SocketAddr::new(PEER4, 80);
    let application = world.pod.run(move || {
        let socket = stream(false, Some(Protocol::MPTCP));
        socket.connect(&destination.into()).map(|()| socket)
    });
    let mut application = application.expect("connect");
    let (mut proxy, taken) = world.take(false);
    assert_eq!((taken, peer(&application)), (destination, destination));
    carries_bytes(&mut application, &mut proxy);
    assert_eq!(world.count("sk_lookup", "held"), 0);
}

#[test]
fn a_connect_through_io_uring_is_held_and_met() {
    let world = World::holding(Held::All);
    let destination = SocketAddr::new(PEER4, 80);
    let connecting = {
        let socket = world.pod.run(|| stream(false, None));
        std::thread::spawn(move || uring::connect(socket.as_fd(), &destination.into()).map(|()| socket))
    };
    let syn = world.syn(false);
    assert_eq!(world.claim(&syn).expect("claim"), destination);
    let mut proxy = world.meet(&syn).expect("meet");
    let mut application = connecting.join().expect("no panic").expect("connected");
    carries_bytes(&mut application, &mut proxy);
}

/// What the SYN carries is lost with it, and sent again by the application's kernel.
#[test]
fn fast_open_is_held_and_loses_no_byte() {
    let world = World::holding(Held::All);
    let destination = SocketAddr::new(PEER4, 80);
    let listeners = world.listeners.as_ref().expect("not closed");
    set_tcp_option(&listeners.outbound4, TCP_FASTOPEN, 16);
    for by_option in [false, true] {
        let application = world.pod.run(move || {
            let mut socket = stream(false, None);
            socket.set_nonblocking(true).expect("non-blocking");
            if by_option {
                set_tcp_option(&socket, TCP_FASTOPEN_CONNECT, 1);
                let _ = socket.connect(&destination.into());
                let _ = socket.write(b"question");
            } else {
                let _ = send_fast_open(&socket, b"question", destination);
            }
            socket
        });
        let syn = world.syn(false);
        world.claim(&syn).expect("claim");
        let mut proxy = world.meet(&syn).expect("meet");
        finish(&application).expect("connected");
        let mut application = application;
        carries_bytes(&mut application, &mut proxy);
    }
}

#[test]
fn an_application_that_gives_up_leaves_nothing_behind() {
    let world = World::holding(Held::All);
    let application = world.begin(SocketAddr::new(PEER4, 80), false);
    let syn = world.syn(false);
    drop(application);
    let gone = world.claim(&syn).expect_err("it is gone");
    assert_eq!(gone.raw_os_error(), Some(libc::ENOENT));
    assert_eq!(world.open_flows(), 0);
}
