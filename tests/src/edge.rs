//! What a waypoint makes of bytes that make no sense: a Service whose application reads strictly, and cases of what becomes of a connection.

use std::{
    io::{BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use culvert_lab::{Lab, Pod, wait_until};

use crate::{
    PATIENCE,
    http::{self, read_head},
    raw_http2::{Outcome, RawHttp2, request},
    scene::{Scene, service},
    strict_app::{self, Noted},
    town::PORT,
    waypoint::Kind,
};

/// How long an answer may take.
const ATTEMPT: Duration = Duration::from_secs(5);

/// A scene with a Service whose application reads strictly.
pub struct Edge<'lab> {
    /// The town, and the waypoint.
    pub scene: Scene<'lab>,
    /// What the application noted.
    pub noted: Noted,
    /// Where the Service is.
    pub to: SocketAddr,
}

impl<'lab> Edge<'lab> {
    /// Makes it, and waits until requests go through the waypoint.
    pub fn set(lab: &'lab Lab, kind: Kind) -> Self {
        let scene = Scene::set(lab, kind);
        let noted = strict_app::serve(&scene.town.server, PORT + 20);
        let edge = service("edge", "server", PORT + 20, "http").label("culvert.dev/use-waypoint", "wp");
        let to = SocketAddr::from((lab.service(edge).unwrap().ip4(), 80));
        let edge = Self { scene, noted, to };
        let waited = wait_until("requests to go through the waypoint", PATIENCE, || {
            let lines = ["GET /ready HTTP/1.1", "host: edge.town"].map(str::to_owned);
            let answered = http::ask(edge.client(), edge.to, &lines, ATTEMPT);
            let through = |request: &strict_app::Request| request.get("x-request-id").is_some();
            answered.is_ok() && edge.noted.under("/ready").iter().any(through)
        });
        waited.unwrap_or_else(|error| panic!("{}\n{error:#}", edge.scene.last_words()));
        edge
    }

    /// Who asks.
    pub fn client(&self) -> &Pod {
        &self.scene.town.client
    }

    /// A connection to the Service.
    pub fn connect(&self) -> TcpStream {
        self.connect_from(self.client())
    }

    /// A connection to the Service from another pod.
    pub fn connect_from(&self, pod: &Pod) -> TcpStream {
        self.try_connect_from(pod).unwrap()
    }

    /// The same, where it may be refused.
    ///
    /// # Errors
    /// When it is.
    pub fn try_connect_from(&self, pod: &Pod) -> std::io::Result<TcpStream> {
        let stream = pod.connect(self.to, ATTEMPT)?;
        stream.set_read_timeout(Some(ATTEMPT))?;
        stream.set_write_timeout(Some(ATTEMPT))?;
        Ok(stream)
    }

    /// What becomes of a connection that begins like this: the status, and whether the next request over it is answered.
    pub fn play(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let Ok(Some(answer)) = answer(&mut reader) else {
            return "ended".to_owned();
        };
        let _ = stream.write_all(b"GET /after HTTP/1.1\r\nhost: edge.town\r\n\r\n");
        let next = match self::answer(&mut reader) {
            Ok(Some((200, body))) if body == "ok" => "goes on".to_owned(),
            Ok(None) => "ended".to_owned(),
            Ok(Some((status, _))) => format!("then {status}"),
            // Reset, or not a word.
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => "silent".to_owned(),
            Err(_) => "ended".to_owned(),
        };
        format!("{} {next}", answer.0)
    }

    /// What became of stream 1, and of a good request over the same connection.
    pub fn play2(&self, frames: &[u8]) -> String {
        let mut client = RawHttp2::dial(self.client(), self.to, &[], ATTEMPT).unwrap();
        client.send(frames).unwrap();
        let first = match client.outcome(1) {
            Outcome::Status(status) => status.to_string(),
            Outcome::Reset(code) => format!("reset {code}"),
            Outcome::GoAway(code) => return format!("goaway {code}"),
            Outcome::Ended => return "ended".to_owned(),
        };
        let good = [
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/after"),
            (":authority", "edge.town"),
        ];
        let _ = client.send(&request(3, true, &good));
        match client.outcome(3) {
            Outcome::Status(200) => format!("{first} goes on"),
            other => format!("{first} then {other:?}"),
        }
    }

    /// What no application may ever see.
    pub fn assert_none_smuggled(&self) {
        let smuggled = self.noted.under("/smuggled");
        let flaws = self.noted.flaws();
        assert!(
            smuggled.is_empty() && flaws.is_empty(),
            "{smuggled:?}\n{}\n{}",
            flaws.join("\n"),
            self.scene.last_words()
        );
    }
}

/// Status and body of an answer; none at the connection's end.
///
/// # Errors
/// When the connection breaks, or nothing comes in time.
pub fn answer(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<(u16, String)>> {
    let Some(head) = read_head(reader)? else {
        return Ok(None);
    };
    let mut body = Vec::new();
    if let Some(length) = head.get("content-length").and_then(|length| length.parse().ok()) {
        body.resize(length, 0);
        reader.read_exact(&mut body)?;
    } else if head.get("transfer-encoding").is_some() {
        while !body.ends_with(b"0\r\n\r\n") {
            let mut byte = [0];
            reader.read_exact(&mut byte)?;
            body.push(byte[0]);
        }
    }
    let status = head.status().unwrap_or_default();
    Ok(Some((status, String::from_utf8_lossy(&body).into_owned())))
}

/// What is sent, and what becomes of it at `culvert-waypoint` and at Envoy.
pub type Case<'a> = (&'a str, &'a [u8], &'a str, &'a str);

/// Plays cases, and says which came out otherwise.
pub fn assert_all(edge: &Edge<'_>, cases: &[Case<'_>], play: impl Fn(&Edge<'_>, &[u8]) -> String) {
    let mut wrong = Vec::new();
    for (name, bytes, culvert, envoy) in cases {
        let expected = match edge.scene.kind {
            Kind::Culvert => culvert,
            _ => envoy,
        };
        let found = play(edge, bytes);
        eprintln!("{name}: {found}");
        if !expected.split('|').any(|expected| expected == found) {
            wrong.push(format!("{name}: {found:?}, not {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", edge.scene.last_words(), wrong.join("\n"));
}
