//! Applications that want a head of the PROXY protocol at the beginning of each connection, and repeat what it says.

use crate::http::read_head;
use culvert_lab::Pod;
use std::{
    io::{self, BufRead as _, BufReader, Read, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// What a head of version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Answers requests as long as the test runs: the body is what the head of the connection says, and `x-connection` which connection it was.
pub fn serve_http(pod: &Pod, port: u16) {
    let count = Arc::new(AtomicUsize::new(0));
    serve(pod, port, move |said, mut reader, mut writer| {
        let number = count.fetch_add(1, Ordering::Relaxed);
        while read_head(&mut reader)?.is_some() {
            let length = said.len();
            write!(
                writer,
                "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nx-connection: {number}\r\n\r\n{said}"
            )?;
        }
        Ok(())
    });
}

/// Says what the head of a connection says, on a line, before the client says anything, and answers bytes by the same bytes.
pub fn serve_bytes(pod: &Pod, port: u16) {
    serve(pod, port, |said, mut reader, mut writer| {
        writeln!(writer, "{said}")?;
        io::copy(&mut reader, &mut writer).map(drop)
    });
}

fn serve<F>(pod: &Pod, port: u16, go_on: F)
where
    F: Fn(String, BufReader<TcpStream>, TcpStream) -> io::Result<()> + Send + Sync + 'static,
{
    let listener = pod.listen(SocketAddr::from((pod.ip4(), port))).unwrap();
    let go_on = Arc::new(go_on);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let go_on = Arc::clone(&go_on);
            let one = move || {
                let writer = stream.try_clone()?;
                let mut reader = BufReader::new(stream);
                let said = said(&mut reader)?;
                go_on(said, reader, writer)
            };
            thread::Builder::new()
                .stack_size(256 << 10)
                .spawn(move || drop(one()))
                .unwrap();
        }
    });
}

/// `v1` or `v2`, and both ends; `-` for a connection that the proxy made for itself.
fn said(reader: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut begin = [0; SIGNATURE.len()];
    reader.read_exact(&mut begin)?;
    if begin == *SIGNATURE {
        return binary(reader);
    }
    let mut line = begin.to_vec();
    reader.read_until(b'\n', &mut line)?;
    let line = String::from_utf8(line).map_err(io::Error::other)?;
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => Ok("v1 -".to_owned()),
        ["PROXY", "TCP4", source, destination, from, to] => Ok(format!("v1 {source}:{from} {destination}:{to}")),
        _ => Err(io::Error::other(line)),
    }
}

fn binary(reader: &mut impl Read) -> io::Result<String> {
    let mut head = [0; 4];
    reader.read_exact(&mut head)?;
    let mut addresses = vec![0; usize::from(u16::from_be_bytes([head[2], head[3]]))];
    reader.read_exact(&mut addresses)?;
    match (head[0], head[1], addresses.as_slice()) {
        (0x20, ..) => Ok("v2 -".to_owned()),
        (0x21, 0x11, &[a, b, c, d, e, f, g, h, s, t, u, v, ..]) => {
            let source = SocketAddr::from((Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([s, t])));
            let destination = SocketAddr::from((Ipv4Addr::new(e, f, g, h), u16::from_be_bytes([u, v])));
            Ok(format!("v2 {source} {destination}"))
        }
        other => Err(io::Error::other(format!("{other:?}"))),
    }
}
