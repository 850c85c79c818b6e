//! An application that takes its time, as paths say, and notes what becomes of its connections.

use crate::http::{Head, read_head};
use culvert_lab::Pod;
use std::{
    io::{self, BufReader, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

/// How long it takes for what is slow.
pub const SLOW: Duration = Duration::from_secs(3);

/// How often there is another piece of what comes slowly.
const PIECE: Duration = Duration::from_millis(200);

/// What it noted.
#[derive(Clone, Default)]
pub struct Noted(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    busy: Vec<Instant>,
    closed: Vec<String>,
}

impl Noted {
    /// When somebody asked for `/busy`.
    pub fn busy(&self) -> Vec<Instant> {
        self.0.lock().unwrap().busy.clone()
    }

    /// Whether a waypoint has closed a connection without a request, whose last request was for this host.
    pub fn is_closed(&self, host: &str) -> bool {
        self.0.lock().unwrap().closed.iter().any(|closed| closed == host)
    }
}

/// Serves a port of a pod as long as the test runs. `/hang` is never answered, `/late` is after [`SLOW`]; `/drip` is answered by a body
/// that takes as long and is never silent, `/stuck` by one that begins and does not go on. `/busy` is told the first time to come back
/// after a second. All else is answered with its head.
pub fn serve(pod: &Pod, port: u16) -> Noted {
    let listener = pod.listen(SocketAddr::from((pod.ip4(), port))).unwrap();
    let noted = Noted::default();
    let all = noted.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let all = all.clone();
            thread::spawn(move || drop(answer_all(stream, &all)));
        }
    });
    noted
}

#[allow(
    clippy::disallowed_methods,
    reason = "it takes its time: that is what its callers' limits are tested with"
)]
fn answer_all(stream: TcpStream, noted: &Noted) -> io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let mut last: Option<Head> = None;
    // However it ends.
    while let Ok(Some(head)) = read_head(&mut reader) {
        match head.first().split(' ').nth(1).unwrap_or_default() {
            "/hang" => return io::copy(&mut reader, &mut io::sink()).map(drop),
            "/late" => {
                thread::sleep(SLOW);
                say(&mut writer, "200 OK", "late")?;
            }
            "/stuck" => {
                begin(&mut writer)?;
                return io::copy(&mut reader, &mut io::sink()).map(drop);
            }
            "/drip" => {
                let until = Instant::now() + SLOW;
                begin(&mut writer)?;
                while Instant::now() < until {
                    thread::sleep(PIECE);
                    write!(writer, "1\r\nx\r\n")?;
                }
                write!(writer, "0\r\n\r\n")?;
            }
            "/busy" => {
                let mut inner = noted.0.lock().unwrap();
                inner.busy.push(Instant::now());
                let is_first = inner.busy.len() == 1;
                drop(inner);
                match is_first {
                    true => say(&mut writer, "503 Busy\r\nretry-after: 1", "busy")?,
                    false => say(&mut writer, "200 OK", "free")?,
                }
            }
            _ => say(&mut writer, "200 OK", &head.0.join("\n"))?,
        }
        last = Some(head);
    }
    // Only a waypoint says this.
    let of_waypoint = last.filter(|head| head.get("x-request-id").is_some());
    if let Some(host) = of_waypoint.as_ref().and_then(|head| head.get("host")) {
        noted.0.lock().unwrap().closed.push(host.to_owned());
    }
    Ok(())
}

fn begin(writer: &mut TcpStream) -> io::Result<()> {
    write!(
        writer,
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nbegin\r\n"
    )
}

fn say(writer: &mut TcpStream, status: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    write!(writer, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}")
}
