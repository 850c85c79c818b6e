//! Pods that talk to each other, and what answers them.

use crate::town::PORT;
use culvert_lab::Pod;
use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// Where the pods' echoes are, beside the town's own servers.
pub const ECHO: u16 = PORT + 1;

/// How long an attempt may take to be accepted, and then to be answered.
const ATTEMPT: Duration = Duration::from_millis(700);

/// Connections from one pod to another, one after the other to each of its addresses, each with a question, and one that stays.
pub(super) struct Talker {
    pub(super) name: String,
    /// The addresses of who talks.
    pub(super) own: [IpAddr; 2],
    counts: Arc<Counts>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Counts {
    stop: AtomicBool,
    made: AtomicU64,
    /// At each address.
    answered: [AtomicU64; 2],
}

impl Talker {
    /// Begins.
    pub(super) fn start(from: &Pod, to: &Pod, text: &'static str) -> Self {
        let counts = Arc::new(Counts::default());
        let thread = thread::spawn({
            let (from, to, counts) = (from.clone(), to.addresses(), Arc::clone(&counts));
            move || talk(&from, to, text, &counts)
        });
        Self {
            name: format!("{} to {}", from.name(), to.name()),
            own: from.addresses(),
            counts,
            thread: Some(thread),
        }
    }

    /// How many connections were tried.
    pub(super) fn made(&self) -> u64 {
        self.counts.made.load(Ordering::Relaxed)
    }

    /// How many of them were answered at each address.
    pub(super) fn answered_at(&self) -> [u64; 2] {
        self.counts
            .answered
            .each_ref()
            .map(|count| count.load(Ordering::Relaxed))
    }

    /// How many of them were answered.
    pub(super) fn answered(&self) -> u64 {
        self.answered_at().iter().sum()
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        self.counts.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "{}", self.name);
        }
    }
}

fn talk(from: &Pod, to: [IpAddr; 2], text: &str, counts: &Counts) {
    let mut open: Option<TcpStream> = None;
    for number in (0..2).cycle() {
        if counts.stop.load(Ordering::Relaxed) {
            return;
        }
        if let Ok(stream) = ask_new(from, SocketAddr::new(to[number], ECHO), text) {
            counts.answered[number].fetch_add(1, Ordering::Relaxed);
            open.get_or_insert(stream);
        }
        counts.made.fetch_add(1, Ordering::Relaxed);
        open = open.filter(|stream| ask(stream, text).is_ok());
        pause();
    }
}

fn ask_new(from: &Pod, to: SocketAddr, text: &str) -> io::Result<TcpStream> {
    let stream = from.connect(to, ATTEMPT)?;
    stream.set_read_timeout(Some(ATTEMPT))?;
    stream.set_write_timeout(Some(ATTEMPT))?;
    ask(&stream, text)?;
    Ok(stream)
}

fn ask(mut stream: &TcpStream, text: &str) -> io::Result<()> {
    stream.write_all(text.as_bytes())?;
    stream.read_exact(&mut vec![0; text.len()])
}

#[allow(
    clippy::disallowed_methods,
    reason = "between two attempts the processors are for what is tested"
)]
fn pause() {
    thread::sleep(Duration::from_millis(20));
}

/// Answers what comes by the same, at both addresses, in as large pieces.
pub(super) fn serve(pod: &Pod) {
    let listener = pod.listen((Ipv6Addr::UNSPECIFIED, ECHO)).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let echo = move || {
                let mut piece = [0; 256];
                while let Ok(length @ 1..) = stream.read(&mut piece)
                    && stream.write_all(&piece[..length]).is_ok()
                {}
            };
            thread::Builder::new().stack_size(64 << 10).spawn(echo).unwrap();
        }
    });
}
