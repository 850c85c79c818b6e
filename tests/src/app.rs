//! An application that does as its requests say, and remembers them: what tests of routes send is seen here, with every try and copy.

use crate::http::{Head, read_head};
use culvert_lab::Pod;
use std::{
    collections::HashMap,
    io::{self, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// Names a request in [`Seen`]; all tries and copies of it have the same.
pub const KEY: &str = "x-key";
/// What to answer to the first, second, ... try, by commas; the last counts for all that follow. A status, `hang` or `close`.
pub const ANSWERS: &str = "x-answers";

/// Further headers of the answer, with `~` between them.
pub const ADDS: &str = "x-adds";

/// What applications have seen, by [`KEY`].
#[derive(Clone, Default)]
pub struct Seen(Arc<Mutex<HashMap<String, Vec<Arrival>>>>);

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The application's name.
    pub at: String,
    /// Request line and headers.
    pub head: Head,
}

impl Seen {
    /// All that came with a key, in order.
    pub fn with_key(&self, key: &str) -> Vec<Arrival> {
        self.0.lock().unwrap().get(key).cloned().unwrap_or_default()
    }

    /// Notes an arrival, and returns how many came to the same application before.
    fn note(&self, at: &str, head: Head) -> usize {
        let key = head.get(KEY).unwrap_or_default().to_owned();
        let mut all = self.0.lock().unwrap();
        let arrivals = all.entry(key).or_default();
        let before = arrivals.iter().filter(|arrival| arrival.at == at).count();
        arrivals.push(Arrival {
            at: at.to_owned(),
            head,
        });
        before
    }
}

/// Serves a port of a pod as long as the test runs. Answers have the header `x-app` with its name, and the same as body. What asks for
/// an upgrade to WebSocket gets it, and then its own bytes.
pub fn serve(pod: &Pod, port: u16, name: &str, seen: &Seen) {
    serve_at(pod.listen(SocketAddr::from((pod.ip4(), port))).unwrap(), name, seen);
}

/// The same at a listener that is there.
pub fn serve_at(listener: TcpListener, name: &str, seen: &Seen) {
    let (name, seen) = (name.to_owned(), seen.clone());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let (name, seen) = (name.clone(), seen.clone());
            let one = move || drop(answer_all(stream, &name, &seen));
            thread::Builder::new().stack_size(256 << 10).spawn(one).unwrap();
        }
    });
}

fn answer_all(stream: TcpStream, name: &str, seen: &Seen) -> io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    while let Some(head) = read_head(&mut reader)? {
        let length = head.get("content-length").and_then(|length| length.parse().ok());
        io::copy(&mut (&mut reader).take(length.unwrap_or(0)), &mut io::sink())?;
        let upgrades = head.get("upgrade") == Some("websocket");
        let answers = head.get(ANSWERS).unwrap_or("200").to_owned();
        let adds = head.get(ADDS).map(|adds| format!("{}\r\n", adds.replace('~', "\r\n")));
        let adds = adds.unwrap_or_default();
        let before = seen.note(name, head);
        let answer = answers.split(',').nth(before).or(answers.split(',').next_back());
        let status = match answer {
            Some("close") => return Ok(()),
            Some("hang") => return io::copy(&mut reader, &mut io::sink()).map(drop),
            answer => answer.unwrap_or("200"),
        };
        if upgrades && status == "200" {
            let key = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade";
            write!(writer, "{key}\r\nx-app: {name}\r\n\r\n")?;
            return io::copy(&mut reader, &mut writer).map(drop);
        }
        let length = name.len();
        write!(
            writer,
            "HTTP/1.1 {status} Answer\r\ncontent-length: {length}\r\nx-app: {name}\r\nx-from-app: yes\r\n{adds}\r\n{name}"
        )?;
    }
    Ok(())
}
