//! The smallest HTTP client that can ask the programs' own ports: one request, one connection.

use anyhow::{Context, Result, bail};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// What came back.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The body; what is not UTF-8 is replaced.
    pub body: String,
}

/// GET `path` from `address`, in the network namespace of the calling thread.
pub fn get(address: SocketAddr, path: &str, timeout: Duration) -> Result<Response> {
    let (status, body) = ask("GET", address, path, timeout)?;
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Response { status, body })
}

/// As [`get`], by any method: the status code, and the body as it came.
pub fn ask(method: &str, address: SocketAddr, path: &str, timeout: Duration) -> Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect_timeout(&address, timeout).with_context(|| format!("connect to {address}"))?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    // Version 1.0 spares us chunked bodies: the server ends the connection after the response.
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut bytes = Vec::new();
    stream
        .read_to_end(&mut bytes)
        .with_context(|| format!("read {path} from {address}"))?;
    parse(&bytes).with_context(|| format!("{path} from {address}"))
}

fn parse(bytes: &[u8]) -> Result<(u16, Vec<u8>)> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        bail!("the response has no end of headers")
    };
    let head = String::from_utf8_lossy(&bytes[..end]);
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .context("no status code")?;
    Ok((status, bytes[end + 4..].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn reads_status_and_body() {
        let (status, body) = parse(b"HTTP/1.0 503 Service Unavailable\r\nA: b\r\n\r\nnot\r\n\r\nyet").unwrap();
        assert_eq!((status, body.as_slice()), (503, b"not\r\n\r\nyet".as_slice()));
    }

    #[test]
    fn refuses_a_cut_response() {
        assert!(parse(b"HTTP/1.0 200 OK\r\n").is_err());
    }
}
