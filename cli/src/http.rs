//! The least of HTTP/1.1 that asking our own admin servers takes: one request, one answer, connection closed.

use anyhow::{Context, Result, ensure};
use std::{
    fmt, io,
    io::{Read, Write},
    net::{TcpStream, ToSocketAddrs},
    str::FromStr,
    time::Duration,
};

/// How long an admin server may take to connect, and then to go on answering.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same for an answer that has to be worked out.
const LONG_PATIENCE: Duration = Duration::from_secs(30);
/// The longest answer that is believed, bytes.
const LONGEST: u64 = 256 << 20;

/// Where an admin server listens: `http://HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    authority: String,
}

impl FromStr for Server {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let rest = text
            .strip_prefix("http://")
            .context("the address must begin with http://")?;
        let authority = rest.trim_end_matches('/');
        ensure!(
            !authority.contains('/'),
            "the address must be http://HOST:PORT, without a path"
        );
        let (host, port) = authority
            .rsplit_once(':')
            .context("the address needs a port: http://HOST:PORT")?;
        ensure!(!host.is_empty(), "the address needs a host: http://HOST:PORT");
        port.parse::<u16>().with_context(|| format!("{port:?} is no port"))?;
        Ok(Self {
            authority: authority.to_owned(),
        })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority)
    }
}

impl Server {
    /// On the loopback address.
    pub(crate) fn on_this_machine(port: u16) -> Self {
        Self {
            authority: format!("127.0.0.1:{port}"),
        }
    }

    /// The body that a path answers with; anything but 200 is an error.
    pub(crate) fn get(&self, path: &str) -> Result<String> {
        self.exchange(path)
            .with_context(|| format!("{self}{path} did not answer"))
    }

    /// The body that a path answers with when it is sent one; anything but 200 is an error. The answer may take its time.
    pub(crate) fn post(&self, path: &str, body: &str) -> Result<String> {
        let sent = || {
            let mut stream = self.connect(LONG_PATIENCE)?;
            stream.write_all(post(path, &self.authority, body).as_bytes())?;
            let mut answer = Vec::new();
            stream.take(LONGEST).read_to_end(&mut answer)?;
            crate::http::body(&answer)
        };
        sent().with_context(|| format!("{self}{path} did not answer"))
    }

    fn exchange(&self, path: &str) -> Result<String> {
        let mut stream = self.connect(PATIENCE)?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.authority
        )?;
        let mut answer = Vec::new();
        stream.take(LONGEST).read_to_end(&mut answer)?;
        body(&answer)
    }

    /// Connects to a server whose answers may take so long.
    fn connect(&self, patience: Duration) -> Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in self.authority.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(patience))?;
                    stream.set_write_timeout(Some(patience))?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last.into())
    }
}

/// A request with a body.
pub(crate) fn post(path: &str, host: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// The body of an answer with status 200.
pub(crate) fn body(answer: &[u8]) -> Result<String> {
    let (status, body) = self::answer(answer)?;
    ensure!(status == 200, "{status}: {}", body.trim());
    Ok(body)
}

/// Status and body of an answer.
pub(crate) fn answer(answer: &[u8]) -> Result<(u16, String)> {
    let end = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .context("not an HTTP answer")?;
    let head = std::str::from_utf8(&answer[..end]).context("the head is not text")?;
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    let headers: Vec<(String, &str)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim()))
        .collect();
    let header = |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| *value);
    let rest = &answer[end + 4..];
    let body = match (header("transfer-encoding"), header("content-length")) {
        (Some(coding), _) if coding.eq_ignore_ascii_case("chunked") => dechunked(rest)?,
        (_, Some(length)) => {
            let length: usize = length.parse().context("content-length is no number")?;
            rest.get(..length).context("the answer ended too early")?.to_vec()
        }
        _ => rest.to_vec(),
    };
    let body = String::from_utf8(body).context("the body is not text")?;
    let code = status.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((code.context("the answer has no status")?, body))
}

/// RFC 9112, section 7.1; trailers are ignored.
fn dechunked(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line_end = rest
            .windows(2)
            .position(|window| window == b"\r\n")
            .context("a chunk has no size")?;
        let line = std::str::from_utf8(&rest[..line_end])?;
        let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)
            .with_context(|| format!("{line:?} is no chunk size"))?;
        if size == 0 {
            return Ok(body);
        }
        let begin = line_end + 2;
        let end = begin.checked_add(size).context("a chunk is too large")?;
        body.extend_from_slice(rest.get(begin..end).context("the answer ended within a chunk")?);
        rest = rest.get(end + 2..).context("the answer ended within a chunk")?;
    }
}

#[cfg(test)]
mod tests {
    use super::{Server, body};

    #[test]
    fn an_address_is_checked_before_it_is_dialled() {
        assert_eq!(
            "http://127.0.0.1:15000/".parse::<Server>().unwrap().to_string(),
            "http://127.0.0.1:15000"
        );
        assert!("http://[::1]:15000".parse::<Server>().is_ok());
        for bad in [
            "127.0.0.1:15000",
            "https://a:1",
            "http://a",
            "http://:1",
            "http://a:b",
            "http://a:1/x",
        ] {
            assert!(bad.parse::<Server>().is_err(), "{bad}");
        }
    }

    #[test]
    fn bodies_come_by_length_in_chunks_or_to_the_end() {
        assert_eq!(body(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}x").unwrap(), "{}");
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[1\r\n1;x=y\r\n]\r\n0\r\n\r\n";
        assert_eq!(body(chunked).unwrap(), "[1]");
        assert_eq!(body(b"HTTP/1.1 200 OK\r\n\r\nall").unwrap(), "all");
    }

    #[test]
    fn a_truncated_or_failed_answer_is_an_error() {
        assert!(body(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}").is_err());
        assert!(body(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab").is_err());
        assert!(body(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nab").is_err());
        let error = body(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnope").unwrap_err();
        assert!(error.to_string().contains("404: nope"), "{error}");
    }
}
