//! Peers that misbehave: they lose their tunnels, are told why where they can hear it, and others do not notice. Real peers do the
//! same to the whole proxy in `tests/tests/abuse.rs`.

use super::*;

use culvert_identity::SpiffeId;
use culvert_tunnel::budget::HeldBytes;
use rustls::{ClientConnection, StreamOwned, pki_types::ServerName};

type Raw = StreamOwned<ClientConnection, TcpStream>;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A tunnel to the server's node whose frames are made by hand. Its preface and SETTINGS are said.
fn raw(scene: &Scene) -> Raw {
    let expected = [SpiffeId::parse(SERVER).unwrap()];
    let config = scene.authority.credentials(CLIENT).client_config(expected.into());
    let name = ServerName::from(scene.server_address);
    let socket = dial(SocketAddr::new(local(scene.server_address), 15008));
    let mut raw = StreamOwned::new(ClientConnection::new(config.unwrap(), name).unwrap(), socket);
    // All windows as large as they can be.
    let settings = frame(4, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
    let window = frame(8, 0, 0, &(0x7fff_ffff - 65_535u32).to_be_bytes());
    let begin = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &settings[..],
        &window,
        &frame(4, 1, 0, &[]),
    ];
    raw.write_all(&begin.concat()).unwrap();
    raw
}

fn connect(stream: u32, authority: SocketAddr) -> Vec<u8> {
    let mut block = Vec::new();
    for text in [":method", "CONNECT", ":authority", &authority.to_string()] {
        if text.starts_with(':') {
            block.push(0);
        }
        block.push(text.len() as u8);
        block.extend_from_slice(text.as_bytes());
    }
    frame(1, 4, stream, &block)
}

/// Everything until the end; whether the end was proper.
fn rest(raw: &mut Raw) -> (Vec<u8>, bool) {
    let mut all = Vec::new();
    let end = raw.read_to_end(&mut all);
    (all, end.is_ok())
}

fn given_up(scene: &Scene, reason: &'static str) -> u64 {
    let given_up = &scene.server.shared.telemetry.proxy().tunnels_given_up;
    given_up.get_or_create(&[("reason", reason)]).get()
}

/// Closing a socket with unread bytes resets it, and what the peer has not got yet is lost with it.
#[test]
fn a_peer_that_goes_on_sending_hears_why_its_tunnel_is_closed() {
    let scene = Scene::new();
    for _ in 0..10 {
        let mut raw = raw(&scene);
        // DATA on a stream that was never opened, and much behind it.
        let mut bytes = frame(0, 0, 1, b"x");
        bytes.extend(frame(0, 0, 1, &vec![0; 16_000]).repeat(500));
        let _ = raw.write_all(&bytes);
        let (said, _) = rest(&mut raw);
        let go_away = [&[7, 0, 0, 0, 0, 0][..], &[0, 0, 0, 0], &[0, 0, 0, 1]].concat();
        assert!(said.ends_with(&go_away), "{said:?}");
    }
    let violations = &scene.server.shared.telemetry.proxy().peer_violations;
    assert_eq!(violations.get_or_create(&[("reason", "http2")]).get(), 10);
    both_ways(scene.front, &scene.app, 1_000_000, 1_000_000, 3);
}

#[test]
fn a_malformed_request_is_answered_and_its_stream_reset_and_a_foreign_method_is_answered_alone() {
    let scene = Scene::new();
    let literal = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    let header = |name: &str, value: &str| [vec![0], literal(name), literal(value)].concat();
    let get = [
        header(":method", "GET"),
        header(":scheme", "http"),
        header(":path", "/"),
    ]
    .concat();
    let cases = [(header(":method", "GET"), "400", true), (get, "405", false)];
    let mut raw = raw(&scene);
    for (number, (block, status, malformed)) in cases.into_iter().enumerate() {
        let id = 2 * number as u32 + 1;
        let status = if status == "400" {
            vec![0x8c]
        } else {
            status.as_bytes().to_vec()
        };
        raw.write_all(&frame(1, 5, id, &block)).unwrap();
        let mut said = Vec::new();
        let read_until = |raw: &mut Raw, said: &mut Vec<u8>, is_there: &dyn Fn(&[u8]) -> bool| {
            while !is_there(said) {
                let mut buffer = [0; 4096];
                let count = raw.read(&mut buffer).unwrap();
                said.extend_from_slice(&buffer[..count]);
            }
        };
        read_until(&mut raw, &mut said, &|said| {
            said.windows(status.len()).any(|part| part == status)
        });
        // What belongs to the answer has come when the answer to this has.
        raw.write_all(&frame(6, 0, 0, &[7; 8])).unwrap();
        read_until(&mut raw, &mut said, &|said| said.ends_with(&[7; 8]));
        let reset = frame(3, 0, id, &[0, 0, 0, 1]);
        assert_eq!(said.windows(13).any(|part| part == reset), malformed, "{said:?}");
    }
}

#[test]
fn handshakes_that_keep_waiting_make_room_for_others() {
    let scene = Scene::with_server(|config| {
        config.admission.unproven = 8;
        config.handshake_timeout = Duration::from_secs(3600);
    });
    let target = SocketAddr::new(local(scene.server_address), 15008);
    let silent = || {
        let stream = dial(target);
        stream.set_nonblocking(true).unwrap();
        stream
    };
    let mut waiting: Vec<_> = (0..20).map(|_| silent()).collect();
    let is_closed =
        |mut stream: &TcpStream| !matches!(stream.read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock);
    wait_until("those that wait longest are given up", || {
        waiting.push(silent());
        waiting[..12].iter().all(is_closed)
    });
    assert!(!is_closed(waiting.last().unwrap()), "the latest is not");
    both_ways(scene.front, &scene.app, 100_000, 100_000, 5);
}

#[test]
fn of_too_many_tunnels_that_carry_nothing_those_idle_longest_are_closed() {
    let scene = Scene::with_server(|config| {
        config.admission.idle = 3;
        config.sweep = Duration::from_millis(100);
        config.limits.parting = Duration::from_millis(100);
    });
    let mut busy = raw(&scene);
    busy.write_all(&connect(1, scene.app_address)).unwrap();
    let mut app = accept(&scene.app);
    let mut idle: Vec<_> = (0..10)
        .map(|_| {
            let mut raw = raw(&scene);
            // Open, as far as both know.
            assert!(raw.read(&mut [0; 4096]).unwrap() > 0);
            raw
        })
        .collect();
    wait_until("seven are given up", || given_up(&scene, "idle") >= 7);
    for raw in &mut idle[..7] {
        let (said, _) = rest(raw);
        assert!(said.windows(4).any(|part| part == [0, 8, 7, 0]), "no GOAWAY: {said:?}");
    }
    assert_eq!(given_up(&scene, "idle"), 7);
    // What carries something does not count.
    busy.write_all(&frame(0, 0, 1, b"still")).unwrap();
    let mut got = [0; 5];
    app.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"still");
}

#[test]
fn what_peers_do_not_take_is_bounded_and_who_takes_least_loses_tunnels() {
    // A pod's share is five sixteenths.
    let scene = Scene::with_server(|config| config.held = Arc::new(HeldBytes::new(8 << 20)));
    let witness = dial(scene.front);
    let mut witness_app = accept(&scene.app);
    let mut greedy = Vec::new();
    let chunk = vec![7; 1 << 20];
    // And what one tunnel adds before it is noticed.
    let limit = ((8 << 20) / 16 * 5) + (3 << 19);
    wait_until("tunnels are given up", || {
        let mut raw = raw(&scene);
        socket2::SockRef::from(&raw.sock).set_recv_buffer_size(8 << 10).unwrap();
        raw.write_all(&connect(1, scene.app_address)).unwrap();
        greedy.push(raw);
        let mut app = accept(&scene.app);
        app.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        // As much as is taken.
        while app.write(&chunk).is_ok_and(|count| count > 0) {}
        assert!(scene.server.held.held() <= limit, "{}", scene.server.held.held());
        (&witness).write_all(b"still").unwrap();
        let mut got = [0; 5];
        witness_app.read_exact(&mut got).unwrap();
        given_up(&scene, "memory") > 0
    });
    // What is counted is given back.
    drop(greedy);
    wait_until("nothing is held", || scene.server.held.held() == 0);
    both_ways(scene.front, &scene.app, 1_000_000, 1_000_000, 7);
}
