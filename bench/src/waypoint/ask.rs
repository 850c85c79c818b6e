//! Single requests of HTTP/1.1, on a connection that is kept.

use anyhow::{Context, Result, bail};
use culvert_lab::Pod;
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(5);

/// A connection.
pub(super) struct Asker {
    stream: TcpStream,
    host: String,
    buffer: Vec<u8>,
}

impl Asker {
    /// Connects from a pod.
    pub(super) fn connect(from: &Pod, to: SocketAddr, host: &str) -> Result<Self> {
        let stream = from.connect(to, PATIENCE).with_context(|| format!("connect to {to}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            host: host.to_owned(),
            buffer: vec![0; 16 << 10],
        })
    }

    /// Asks and waits: status and head of the answer.
    pub(super) fn ask(&mut self, path: &str, token: Option<&str>) -> Result<(u16, String)> {
        let token = token.map_or_else(String::new, |token| format!("authorization: Bearer {token}\r\n"));
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n{token}\r\n", self.host);
        self.stream.write_all(request.as_bytes())?;
        let mut filled = 0;
        loop {
            let count = self.stream.read(&mut self.buffer[filled..])?;
            if count == 0 {
                bail!("the connection ended before the answer did");
            }
            filled += count;
            let Some((head, length)) = crate::http::head_and_length(&self.buffer[..filled])? else {
                continue;
            };
            if filled < head + length {
                continue;
            }
            let head = String::from_utf8_lossy(&self.buffer[..head]).to_ascii_lowercase();
            let status = head.get(9..12).context("no status")?.parse()?;
            return Ok((status, head));
        }
    }
}
