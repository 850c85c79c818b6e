//! An application that reads HTTP/1.1 as strictly as the strictest, notes what it was sent and every flaw in it, and answers as badly as
//! a path asks for. What a proxy lets through is seen here.

use culvert_lab::Pod;
use socket2::SockRef;
use std::{
    io::{self, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

/// What came.
#[derive(Clone, Default)]
pub struct Noted(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    requests: Vec<Request>,
    flaws: Vec<String>,
    given_up: usize,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Request {
    /// The request line.
    pub line: String,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body, without its chunks.
    pub body: Vec<u8>,
    /// What followed the last chunk.
    pub trailers: Vec<(String, String)>,
}

impl Request {
    /// The only value of a header.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

impl Noted {
    /// Requests whose target begins like this, in order.
    pub fn under(&self, target: &str) -> Vec<Request> {
        let inner = self.0.lock().unwrap();
        let fits = |request: &&Request| {
            let found = request.line.split(' ').nth(1).unwrap_or_default();
            found.starts_with(target)
        };
        inner.requests.iter().filter(fits).cloned().collect()
    }

    /// What no proxy may send, as it came.
    pub fn flaws(&self) -> Vec<String> {
        self.0.lock().unwrap().flaws.clone()
    }

    /// Endless answers that nobody wants any more.
    pub fn given_up(&self) -> usize {
        self.0.lock().unwrap().given_up
    }

    fn flaw(&self, what: impl Into<String>) {
        self.0.lock().unwrap().flaws.push(what.into());
    }
}

/// Serves a port of a pod as long as the test runs.
pub fn serve(pod: &Pod, port: u16) -> Noted {
    let listener = pod.listen(SocketAddr::from((pod.ip4(), port))).unwrap();
    let noted = Noted::default();
    let all = noted.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let noted = all.clone();
            let one = move || drop(answer_all(&stream, &noted));
            thread::Builder::new().stack_size(256 << 10).spawn(one).unwrap();
        }
    });
    noted
}

fn answer_all(stream: &TcpStream, noted: &Noted) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream.try_clone()?;
    while let Some(mut request) = head(&mut reader, noted)? {
        let target = request.line.split(' ').nth(1).unwrap_or_default().to_owned();
        let is_early = target.starts_with("/early");
        if is_early {
            noted.0.lock().unwrap().requests.push(request.clone());
            writer.write_all(b"HTTP/1.1 403 Enough\r\ncontent-length: 5\r\n\r\nearly")?;
        }
        if !body(&mut reader, &mut request, noted)? {
            return Ok(());
        }
        if is_early {
            continue;
        }
        noted.0.lock().unwrap().requests.push(request);
        if !answer(&target, stream, &mut writer, noted)? {
            return Ok(());
        }
    }
    Ok(())
}

/// Answers as a path asks for. Whether the connection goes on.
fn answer(target: &str, stream: &TcpStream, writer: &mut TcpStream, noted: &Noted) -> io::Result<bool> {
    let good = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let way = target
        .trim_start_matches('/')
        .split(['/', '?'])
        .next()
        .unwrap_or_default();
    let answer = match way {
        // Another answer, which nobody asked for.
        "second" => format!("{good}HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecond"),
        "interim" => format!(
            "{}{good}",
            "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(1000)
        ),
        "garbage" => "no HTTP at all\r\n\r\n".to_owned(),
        "differing" => "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok!".to_owned(),
        "both" => {
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".to_owned()
        }
        "folded" => "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-folded: a\r\n b\r\n\r\nok".to_owned(),
        "huge" => format!(
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-huge: {}\r\n\r\nok",
            "x".repeat(100 << 10)
        ),
        "short" => {
            writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")?;
            return Ok(false);
        }
        "stall" => {
            writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")?;
            io::copy(&mut stream.try_clone()?, &mut io::sink())?;
            return Ok(false);
        }
        "badchunk" => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\nZZ\r\n".to_owned(),
        "reset" => {
            SockRef::from(stream).set_linger(Some(Duration::ZERO))?;
            return Ok(false);
        }
        "endless" => {
            writer.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
            let chunk = format!("{:x}\r\n{}\r\n", 16 << 10, "x".repeat(16 << 10));
            while writer.write_all(chunk.as_bytes()).is_ok() {}
            noted.0.lock().unwrap().given_up += 1;
            return Ok(false);
        }
        "hang" => {
            io::copy(&mut stream.try_clone()?, &mut io::sink())?;
            return Ok(false);
        }
        _ => good.to_owned(),
    };
    writer.write_all(answer.as_bytes())?;
    Ok(!matches!(way, "garbage" | "differing" | "badchunk"))
}

/// The next head; none at the end, or where it makes no sense.
fn head(reader: &mut BufReader<TcpStream>, noted: &Noted) -> io::Result<Option<Request>> {
    let Some(line) = line(reader, noted)? else {
        return Ok(None);
    };
    if !(line.ends_with(" HTTP/1.1") && line.split(' ').count() == 3) {
        noted.flaw(format!("no request line: {line:?}"));
        return Ok(None);
    }
    let Some(headers) = fields(reader, noted)? else {
        return Ok(None);
    };
    Ok(Some(Request {
        line,
        headers,
        body: Vec::new(),
        trailers: Vec::new(),
    }))
}

/// A line without its end.
fn line(reader: &mut BufReader<TcpStream>, noted: &Noted) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\n") {
        let mut byte = [0];
        if reader.read(&mut byte)? == 0 {
            return Ok(None);
        }
        bytes.push(byte[0]);
    }
    let text = bytes.strip_suffix(b"\r\n");
    let is_bad = |byte: &u8| matches!(byte, b'\r' | b'\n' | 0);
    let text = text.filter(|text| !text.iter().any(is_bad));
    if text.is_none() {
        noted.flaw(format!("a bad line: {:?}", String::from_utf8_lossy(&bytes)));
    }
    Ok(text.map(|text| String::from_utf8_lossy(text).into_owned()))
}

fn fields(reader: &mut BufReader<TcpStream>, noted: &Noted) -> io::Result<Option<Vec<(String, String)>>> {
    let mut fields = Vec::new();
    loop {
        let Some(line) = line(reader, noted)? else {
            return Ok(None);
        };
        if line.is_empty() {
            return Ok(Some(fields));
        }
        let field = line.split_once(':').filter(|(name, _)| {
            let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            !name.is_empty() && name.bytes().all(is_token)
        });
        let Some((name, value)) = field else {
            noted.flaw(format!("a bad field: {line:?}"));
            return Ok(None);
        };
        fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

/// Reads the body. Whether what follows can be told from it.
fn body(reader: &mut BufReader<TcpStream>, request: &mut Request, noted: &Noted) -> io::Result<bool> {
    let all = |name: &str| -> Vec<String> {
        let found = request.headers.iter().filter(|(known, _)| known == name);
        found.map(|(_, value)| value.clone()).collect()
    };
    if all("host").len() != 1 {
        noted.flaw(format!("not one host: {request:?}"));
        return Ok(false);
    }
    match (all("content-length").as_slice(), all("transfer-encoding").as_slice()) {
        ([], []) => Ok(true),
        ([length], []) if length.bytes().all(|digit| digit.is_ascii_digit()) => {
            request.body.resize(length.parse().unwrap_or(0), 0);
            reader.read_exact(&mut request.body)?;
            Ok(true)
        }
        ([], [coding]) if coding == "chunked" => chunks(reader, request, noted),
        _ => {
            noted.flaw(format!("a body whose length is uncertain: {request:?}"));
            Ok(false)
        }
    }
}

fn chunks(reader: &mut BufReader<TcpStream>, request: &mut Request, noted: &Noted) -> io::Result<bool> {
    loop {
        let Some(size) = line(reader, noted)? else {
            return Ok(false);
        };
        let is_hex = !size.is_empty() && size.bytes().all(|digit| digit.is_ascii_hexdigit());
        let Some(count) = usize::from_str_radix(&size, 16).ok().filter(|_| is_hex) else {
            noted.flaw(format!("a bad chunk size: {size:?}"));
            return Ok(false);
        };
        if count == 0 {
            let Some(trailers) = fields(reader, noted)? else {
                return Ok(false);
            };
            request.trailers = trailers;
            return Ok(true);
        }
        let mut chunk = vec![0; count];
        reader.read_exact(&mut chunk)?;
        request.body.extend_from_slice(&chunk);
        if line(reader, noted)?.is_none_or(|rest| !rest.is_empty()) {
            noted.flaw("a chunk that does not end");
            return Ok(false);
        }
    }
}
