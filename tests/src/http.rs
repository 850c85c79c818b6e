//! HTTP/1.1 in a pod, in the test's own process: an application that answers with its name and what it was sent, and its clients.

use culvert_lab::Pod;
use std::{
    io::{self, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    thread,
    time::Duration,
};

/// What an application answered.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The name of the application that answered, from the body's first line.
    pub name: String,
    /// The request line and headers, as they came to the application.
    pub seen: Vec<String>,
}

impl Answer {
    /// The value of a header that the application saw.
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.seen.iter().filter_map(|line| line.split_once(':'));
        let mut found = lines.filter(|(known, _)| known.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.trim())
    }
}

/// The lines of a request's or an answer's head.
#[derive(Clone, Debug)]
pub struct Head(pub Vec<String>);

impl Head {
    /// The request line or status line.
    pub fn first(&self) -> &str {
        self.0.first().map(String::as_str).unwrap_or_default()
    }

    /// The first value of a header.
    pub fn get(&self, name: &str) -> Option<&str> {
        let lines = self.0.iter().skip(1).filter_map(|line| line.split_once(':'));
        let mut found = lines.filter(|(known, _)| known.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.trim())
    }

    /// All values of a header, with commas between.
    pub fn all(&self, name: &str) -> Option<String> {
        let lines = self.0.iter().skip(1).filter_map(|line| line.split_once(':'));
        let found = lines.filter(|(known, _)| known.eq_ignore_ascii_case(name));
        let values: Vec<&str> = found.map(|(_, value)| value.trim()).collect();
        (!values.is_empty()).then(|| values.join(","))
    }

    /// The values of a header that is written in this very way, line by line.
    pub fn lines(&self, name: &str) -> Vec<String> {
        let lines = self.0.iter().skip(1).filter_map(|line| line.split_once(':'));
        let found = lines.filter(|(known, _)| *known == name);
        found.map(|(_, value)| value.trim().to_owned()).collect()
    }

    /// The status of an answer.
    pub fn status(&self) -> Option<u16> {
        self.first().split(' ').nth(1)?.parse().ok()
    }
}

/// The next head of a connection; none at its end.
///
/// # Errors
/// Those of the connection.
pub fn read_head(reader: &mut impl io::BufRead) -> io::Result<Option<Head>> {
    let lines = head(reader)?;
    Ok((!lines.is_empty()).then_some(Head(lines)))
}

/// Sends a request whose head is `lines`, without a body, over a connection of its own. Returns the answer's head, once its body has
/// come, and the body.
///
/// # Errors
/// When the connection cannot be made or breaks, or what comes is no answer.
pub fn ask(from: &Pod, to: SocketAddr, lines: &[String], patience: Duration) -> io::Result<(Head, String)> {
    ask_with(from, to, &lines.join("\r\n"), "", patience)
}

/// As [`ask`], with a body behind the head, which is given without its empty line.
///
/// # Errors
/// As above.
pub fn ask_with(
    from: &Pod,
    to: SocketAddr,
    request: &str,
    body: &str,
    patience: Duration,
) -> io::Result<(Head, String)> {
    let stream = send(from, to, request, body, patience)?;
    answer_of(stream, request)
}

/// As [`ask_with`], with a pause before the rest of a body.
///
/// # Errors
/// As above.
#[allow(
    clippy::disallowed_methods,
    reason = "a client that is slow: limits of time are tested with it"
)]
pub fn ask_slowly(
    from: &Pod,
    to: SocketAddr,
    request: &str,
    (begin, pause, rest): (&str, Duration, &str),
    patience: Duration,
) -> io::Result<(Head, String)> {
    let mut stream = send(from, to, request, begin, patience)?;
    thread::sleep(pause);
    stream.write_all(rest.as_bytes())?;
    answer_of(stream, request)
}

fn send(from: &Pod, to: SocketAddr, request: &str, body: &str, patience: Duration) -> io::Result<TcpStream> {
    let mut stream = from.connect(to, patience)?;
    stream.set_read_timeout(Some(patience))?;
    write!(stream, "{request}\r\n\r\n{body}")?;
    Ok(stream)
}

fn answer_of(stream: TcpStream, request: &str) -> io::Result<(Head, String)> {
    let mut reader = BufReader::new(stream);
    let head = read_head(&mut reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let mut body = Vec::new();
    if request.starts_with("HEAD ") {
        return Ok((head, String::new()));
    }
    if let Some(length) = head.get("content-length").and_then(|length| length.parse().ok()) {
        body.resize(length, 0);
        reader.read_exact(&mut body)?;
    } else if head.get("transfer-encoding").is_some() {
        while !body.ends_with(b"0\r\n\r\n") {
            let mut more = [0; 4096];
            match reader.read(&mut more)? {
                0 => break,
                count => body.extend_from_slice(&more[..count]),
            }
        }
    }
    Ok((head, String::from_utf8_lossy(&body).into_owned()))
}

/// Answers requests without a body, as long as the test runs. The body of an answer is `name`, and the request's head.
pub fn serve(pod: &Pod, port: u16, name: &str) {
    let listener = pod.listen(SocketAddr::from((pod.ip4(), port))).unwrap();
    let name = name.to_owned();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let name = name.clone();
            let one = move || drop(answer_all(stream, &name));
            thread::Builder::new().stack_size(256 << 10).spawn(one).unwrap();
        }
    });
}

fn answer_all(stream: TcpStream, name: &str) -> io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let head = head(&mut reader)?;
        if head.is_empty() {
            return Ok(());
        }
        let body = format!("{name}\n{}\n", head.join("\n"));
        let length = body.len();
        write!(writer, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}")?;
    }
}

/// The lines of a head; none at the end of the connection.
fn head(reader: &mut impl io::BufRead) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(Vec::new());
        }
        let line = line.trim_end();
        if line.is_empty() {
            return Ok(lines);
        }
        lines.push(line.to_owned());
    }
}

/// A request over a connection of its own, which the client closes: Envoy resets the tunnel's stream where it is first.
///
/// # Errors
/// When the connection cannot be made or breaks, or what comes is no answer.
pub fn get(from: &Pod, to: SocketAddr, host: &str, path: &str, patience: Duration) -> io::Result<Answer> {
    let mut stream = from.connect(to, patience)?;
    stream.set_read_timeout(Some(patience))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n")?;
    let mut reader = BufReader::new(stream);
    let head = head(&mut reader)?;
    let no_answer = || io::Error::other(format!("no answer: {head:?}"));
    let status = head.first().and_then(|line| line.split(' ').nth(1));
    let status = status.and_then(|status| status.parse().ok()).ok_or_else(no_answer)?;
    let length = head.iter().filter_map(|line| line.split_once(':'));
    let mut length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = length.next().and_then(|(_, value)| value.trim().parse().ok());
    let mut body = vec![0; length.ok_or_else(no_answer)?];
    reader.read_exact(&mut body)?;
    let body = String::from_utf8(body).map_err(io::Error::other)?;
    let mut lines = body.lines().map(str::to_owned);
    Ok(Answer {
        status,
        name: lines.next().unwrap_or_default(),
        seen: lines.collect(),
    })
}

/// What a program in a pod shows on loopback, with the answer's head.
///
/// # Errors
/// When it does not answer.
pub fn page(pod: &Pod, port: u16, path: &str) -> io::Result<String> {
    let stream = pod.run(|| TcpStream::connect((Ipv4Addr::LOCALHOST, port)));
    let mut stream = stream.map_err(io::Error::other)??;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text.replace('\r', ""))
}
