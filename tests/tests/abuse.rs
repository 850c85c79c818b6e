//! Peers with a good certificate, and without, that do to a tunnel port what HTTP/2 servers are known to suffer from: they are told
//! to stop or are cut off and named, and cost neither others their connections nor the node its memory.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

use culvert_lab::{Lab, Pod, PodSpec, wait_until};
use culvert_tests::{
    PATIENCE, Town,
    authority::{Authority, Leaf},
    floods::ATTACKS,
    lab,
    memory::resident,
    probe,
    raw_peer::{END_HEADERS, END_STREAM, RawPeer, block, connect, frame, kind, window_update},
    town::PORT,
};
use std::{
    io::Write as _,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

/// ENHANCE_YOUR_CALM, REFUSED_STREAM (RFC 9113 section 7).
const CALM: u32 = 11;
const REFUSED: u32 = 7;

/// What a worker may have in memory beyond what it had before: docs/security.md. Each peer of these tests has a few tunnels.
const MOST_GROWTH: u64 = 16 << 20;

/// SETTINGS_INITIAL_WINDOW_SIZE.
const INITIAL_WINDOW: u16 = 4;

/// A town, and a pod beside it whose certificate is good.
struct Scene<'lab> {
    town: Town<'lab>,
    abuser: Pod,
    authority: Authority,
    worker: u32,
}

impl<'lab> Scene<'lab> {
    fn new(lab: &'lab Lab) -> Self {
        let mut town = Town::meshed(lab);
        let spec = PodSpec::new("town", "abuser").on(1).service_account("abuser");
        let abuser = lab.pod(spec).unwrap();
        town.mesh.wait_enrolled(&[&abuser], true, PATIENCE).unwrap();
        let worker = town.mesh.worker_pid(2).unwrap();
        Self {
            abuser,
            authority: Authority::of(lab),
            worker,
            town,
        }
    }

    fn leaf(&self) -> Leaf {
        self.authority.leaf(&[&self.abuser.identity()])
    }

    fn tunnel(&self) -> SocketAddr {
        (self.town.server.ip4(), 15008).into()
    }

    fn dial(&self, settings: &[(u16, u32)]) -> RawPeer {
        RawPeer::dial(&self.abuser, self.tunnel(), self.leaf(), settings).unwrap()
    }

    /// The application that everybody else uses, too.
    fn application(&self) -> String {
        format!("{}:{PORT}", self.town.server.ip4())
    }

    /// One of the victim's metrics; 0 when it has no such line.
    fn metric(&self, line: &str) -> u64 {
        let page = self.town.mesh.get(2, 15020, "/metrics").unwrap().body;
        let value = page.lines().find_map(|found| found.strip_prefix(line));
        value.map_or(0, |value| value.trim().parse().unwrap())
    }

    /// Does `abuse` while another peer's open connections to the same pod, and new ones, go on, and the worker stays small.
    fn others_unharmed<T>(&mut self, most: u64, abuse: impl FnOnce(&Self) -> T) -> T {
        let before = resident(self.worker);
        let to = (self.town.server.ip4(), PORT);
        let (hold, storm) = (probe::hold(&self.town.client, to), probe::storm(&self.town.client, to));
        let (is_over, peak) = (AtomicBool::new(false), AtomicU64::new(before));
        let done = thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Relaxed) {
                    peak.fetch_max(resident(self.worker), Relaxed);
                    thread::yield_now();
                    let _ = wait_until("a moment", Duration::from_millis(10), || is_over.load(Relaxed));
                }
            });
            let _over = Over(&is_over);
            abuse(self)
        });
        storm.stop().assert_unharmed("another peer's new connections meanwhile");
        hold.stop().assert_unharmed("another peer's open connections meanwhile");
        let grown = peak.load(Relaxed) - before;
        println!("{} KiB before, at most {} KiB more", before >> 10, grown >> 10);
        assert!(grown <= most, "the worker grew by {} MiB", grown >> 20);
        let worker = self.town.mesh.worker_pid(2).unwrap();
        assert_eq!(worker, self.worker, "the worker was replaced");
        done
    }

    /// The log names the abuser, and what it did.
    fn assert_named(&mut self, what: &str) {
        let (address, identity) = (self.abuser.ip4().to_string(), self.abuser.identity());
        let identity = identity.trim_start_matches("spiffe://");
        let ztunnel = self.town.mesh.ztunnel(2).unwrap();
        // Lines are written a moment after what they tell of.
        for words in [[address.as_str(), what], [identity, ""]] {
            let waited = wait_until("the log to name the peer", PATIENCE, || {
                let log = ztunnel.log();
                let mut lines = log.lines().filter(|line| line.contains("a peer misbehaves"));
                lines.any(|line| words.iter().all(|word| line.contains(word)))
            });
            waited.unwrap_or_else(|error| panic!("{error:#}: no line with {words:?}"));
        }
    }
}

/// Ends what runs beside a test when it is dropped.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn floods_of_every_kind_end_in_goaway_and_harm_nobody_else() {
    const PEERS: usize = 2;
    let lab = lab("abuse_flood");
    let mut scene = Scene::new(&lab);
    for attack in &ATTACKS {
        println!("{}", attack.name);
        let lines: Vec<String> = attack
            .reasons
            .iter()
            .map(|reason| format!("culvert_ztunnel_peer_violations_total{{reason=\"{reason}\"}}"))
            .collect();
        let counted = |scene: &Scene<'_>| lines.iter().map(|line| scene.metric(line)).sum::<u64>();
        let before = counted(&scene);
        let codes = scene.others_unharmed(MOST_GROWTH, |scene| {
            let peers: Vec<_> = (0..PEERS).map(|_| scene.dial(&[])).collect();
            thread::scope(|scope| {
                let flood = |peer: RawPeer| {
                    let flood = (attack.flood)(scene.application());
                    scope.spawn(|| peer.flood(PATIENCE, attack.reads, flood))
                };
                let floods: Vec<_> = peers.into_iter().map(flood).collect();
                floods
                    .into_iter()
                    .map(|flood| flood.join().unwrap())
                    .collect::<Vec<_>>()
            })
        });
        // Whoever reads is told; where answers are left unread, the last word may not get through behind them.
        let told = codes.iter().flatten().all(|code| *code == CALM);
        assert!(
            told && (!attack.reads || codes.iter().all(Option::is_some)),
            "{}: {codes:?}",
            attack.name
        );
        let expected = before + PEERS as u64;
        let _ = wait_until("all to be counted", PATIENCE, || counted(&scene) >= expected);
        assert_eq!(counted(&scene), expected, "{}", attack.name);
        scene.assert_named(attack.said);
    }
    scene.town.assert_works();
}

/// A few bytes on the wire that stand for many in memory.
#[test]
fn header_lists_that_unfold_are_answered_431_and_not_kept() {
    let lab = lab("abuse_hpack");
    let mut scene = Scene::new(&lab);
    scene.others_unharmed(MOST_GROWTH, |scene| {
        let mut peer = scene.dial(&[]);
        // An entry of the table of 4,000 bytes, then 8,000 times by its index: 32 MB of headers in 12 KB.
        let mut first = vec![0x40, 1, b'x', 0x7f, 0xa1, 0x1e];
        first.extend(vec![b'a'; 4000]);
        for n in 0..50u32 {
            let mut block = if n == 0 { first.clone() } else { Vec::new() };
            block.extend(vec![0xbe; 8000]);
            let id = 2 * n + 1;
            peer.send(&frame(kind::HEADERS, END_HEADERS | END_STREAM, id, &block))
                .unwrap();
            let answer = peer.find(|frame| frame.kind == kind::HEADERS && frame.stream == id);
            let answer = answer.expect("an answer");
            let is_431 = n > 0 || answer.payload.windows(3).any(|text| text == b"431");
            assert!(is_431, "{answer:?}");
        }
        // The connection is as good as before.
        peer.open(101, &scene.application());
    });
}

/// Peers that have all that is for them sent, and take none of it.
#[test]
fn peers_that_never_read_are_cut_off_and_what_is_kept_for_them_is_bounded() {
    const TUNNELS: usize = 40;
    let lab = lab("abuse_unread");
    let mut scene = Scene::new(&lab);
    let (source, sessions) = endless(&scene.town.server);
    // A tunnel's output is at most 1.4 MiB.
    scene.others_unharmed(TUNNELS as u64 * (3 << 19) + MOST_GROWTH, |scene| {
        let peers: Vec<_> = (0..TUNNELS)
            .map(|_| {
                let mut peer = scene.dial(&[(INITIAL_WINDOW, 0x7fff_ffff)]);
                peer.send(&window_update(0, 0x7fff_ffff - 65_535)).unwrap();
                for stream in [1, 3, 5] {
                    peer.open(stream, &source.to_string());
                }
                peer
            })
            .collect();
        let open = || sessions.load(Relaxed);
        wait_until("all streams are connected", PATIENCE, || open() == 3 * TUNNELS).unwrap();
        // The kernel gives up after 30 s in which the peer takes nothing, or the proxy after 10 s of silence and 20 s for the answer
        // of a ping.
        wait_until("those who read nothing are cut off", 2 * PATIENCE, || open() == 0).unwrap();
        drop(peers);
    });
    let (address, identity) = (scene.abuser.ip4().to_string(), scene.abuser.identity());
    let named = |line: &&str| line.contains("tunnel lost") && line.contains(&address) && line.contains(&identity);
    let ztunnel = scene.town.mesh.ztunnel(2).unwrap();
    let lines = || ztunnel.log().lines().filter(named).count();
    let _ = wait_until("each stream to have its line", PATIENCE, || lines() >= 3 * TUNNELS);
    assert_eq!(lines(), 3 * TUNNELS);
    scene.town.assert_works();
}

/// A window that is opened by a byte at a time (CVE-2019-9511), and one that stays shut.
#[test]
fn tiny_windows_hold_up_their_own_stream_alone_and_giving_bytes_one_by_one_ends_the_tunnel() {
    let lab = lab("abuse_window");
    let mut scene = Scene::new(&lab);
    let (source, _) = endless(&scene.town.server);
    let taken = scene.others_unharmed(MOST_GROWTH, |scene| {
        let mut shut = scene.dial(&[(INITIAL_WINDOW, 0)]);
        for stream in 0..50 {
            shut.open(2 * stream + 1, &source.to_string());
        }
        let mut peer = scene.dial(&[(INITIAL_WINDOW, 0)]);
        peer.open(1, &source.to_string());
        let mut taken = 0;
        loop {
            // Fails when it is over.
            let _ = peer.send(&window_update(1, 1));
            let wanted = peer.find(|frame| matches!(frame.kind, kind::DATA | kind::GOAWAY));
            let wanted = wanted.expect("a byte, or GOAWAY");
            if wanted.kind == kind::GOAWAY {
                assert_eq!(wanted.code(), CALM);
                break;
            }
            taken += wanted.payload.len();
        }
        // The one that is shut is as good as before.
        shut.send(&window_update(99, 5)).unwrap();
        let data = shut.find(|frame| frame.kind == kind::DATA).expect("data");
        assert_eq!((data.stream, data.payload.len()), (99, 5));
        taken
    });
    assert!((900..1100).contains(&taken), "{taken} bytes");
    scene.assert_named("window updates that no data calls for");
}

#[test]
fn streams_up_to_the_limit_are_the_peers_own_and_more_are_refused() {
    let lab = lab("abuse_streams");
    let mut scene = Scene::new(&lab);
    scene.others_unharmed(MOST_GROWTH, |scene| {
        let mut held = Vec::new();
        for _ in 0..5 {
            let mut peer = scene.dial(&[]);
            for stream in 0..100 {
                peer.open(2 * stream + 1, &scene.application());
            }
            peer.send(&connect(201, 0, &scene.application())).unwrap();
            let refusal = peer.find(|frame| frame.stream == 201).expect("a refusal");
            assert_eq!((refusal.kind, refusal.code()), (kind::RST_STREAM, REFUSED));
            held.push(peer);
        }
        probe::dial(&scene.town.client, (scene.town.server.ip4(), PORT), &[]).unwrap();
    });
    scene.town.assert_works();
}

/// Whoever has no certificate can begin handshakes, and keep them waiting.
#[test]
fn handshakes_that_are_begun_and_not_ended_end_by_themselves_and_harm_nobody() {
    const BEGUN: usize = 200;
    let lab = lab("abuse_tls");
    let mut scene = Scene::new(&lab);
    let stranger = lab.pod(PodSpec::new("outside", "stranger").on(1)).unwrap();
    let hello = culvert_tests::tunnel::client_hello();
    scene.others_unharmed(MOST_GROWTH, |scene| {
        let dial = || stranger.connect(scene.tunnel(), PATIENCE).unwrap();
        let mut waiting: Vec<_> = (0..BEGUN).map(|_| dial()).collect();
        for (number, stream) in waiting.iter_mut().enumerate() {
            let part = match number % 3 {
                0 => &[][..],
                1 => &hello[..hello.len() / 2],
                _ => &hello[..],
            };
            // One that is refused at once is as good.
            let _ = stream.write_all(part);
        }
        for mut stream in waiting {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let end = std::io::copy(&mut stream, &mut std::io::sink());
            let timed_out = matches!(&end, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
            assert!(!timed_out, "a handshake is waited for without end");
        }
    });
    wait_until("refusals to be counted", PATIENCE, || {
        scene.metric("culvert_ztunnel_refused_tunnels_total{reason=\"handshake\"}") > 0
    })
    .unwrap();
    scene.town.assert_works();
}

/// An application in a pod that sends to whoever connects, as much as is taken; and how many are connected.
fn endless(pod: &Pod) -> (SocketAddr, Arc<AtomicUsize>) {
    let address = SocketAddr::from((pod.ip4(), 9100));
    let listener = pod.listen(address).unwrap();
    let open = Arc::<AtomicUsize>::default();
    let sessions = Arc::clone(&open);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let sessions = Arc::clone(&sessions);
            sessions.fetch_add(1, Relaxed);
            let one = move || {
                let chunk = vec![7; 64 << 10];
                while stream.write_all(&chunk).is_ok() {}
                sessions.fetch_sub(1, Relaxed);
            };
            thread::Builder::new().stack_size(64 << 10).spawn(one).unwrap();
        }
    });
    (address, open)
}

#[test]
fn the_blocks_of_these_tests_are_what_they_should_be() {
    // Shows that what is refused above is refused for what it is: without the flood, it is let in.
    let lab = lab("abuse_good");
    let scene = Scene::new(&lab);
    let mut peer = scene.dial(&[]);
    let application = scene.application();
    let headers = block(&[(":method", "CONNECT"), (":authority", &application)]);
    assert_eq!(
        connect(1, 0, &application),
        frame(kind::HEADERS, END_HEADERS, 1, &headers)
    );
    peer.open(1, &application);
}
