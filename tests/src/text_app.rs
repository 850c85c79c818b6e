//! An application whose answers are worth compressing, and a client that reads bytes rather than text.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use culvert_lab::Pod;

use crate::http::{Head, read_head};

/// What `/long` answers.
pub fn long() -> String {
    "all that is said is said again. ".repeat(1000)
}

/// Serves a port of a pod as long as the test runs. `/long` is a long text with a tag, `/short` a short one, `/image` no text, `/packed` says that
/// it is compressed, `/part` a part of something, `/events` one event, after which nothing comes and nothing ends.
pub fn serve(pod: &Pod, port: u16) {
    let listener = pod.listen(SocketAddr::from((pod.ip4(), port))).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            thread::spawn(move || drop(answer_all(stream)));
        }
    });
}

fn answer_all(stream: TcpStream) -> io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    while let Some(head) = read_head(&mut reader)? {
        let path = head.first().split(' ').nth(1).unwrap_or_default();
        if path == "/events" {
            let event = "data: first\n\n";
            write!(
                writer,
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{event}\r\n",
                event.len()
            )?;
            continue;
        }
        let (status, fields, body) = match path {
            "/short" => ("200 OK", "content-type: text/plain", "short".to_owned()),
            "/image" => ("200 OK", "content-type: image/png", long()),
            "/packed" => ("200 OK", "content-type: text/plain\r\ncontent-encoding: x-own", long()),
            "/part" => (
                "206 Partial Content",
                "content-type: text/plain\r\ncontent-range: bytes 0-31999/64000",
                long(),
            ),
            _ => (
                "200 OK",
                "content-type: text/plain; charset=utf-8\r\netag: \"tag\"",
                long(),
            ),
        };
        let length = body.len();
        let body = if head.first().starts_with("HEAD ") {
            String::new()
        } else {
            body
        };
        write!(
            writer,
            "HTTP/1.1 {status}\r\n{fields}\r\ncontent-length: {length}\r\n\r\n{body}"
        )?;
    }
    Ok(())
}

/// Asks for a path, over a connection of its own, and reads `pieces` pieces of a body that comes in such, or all of it.
///
/// # Errors
/// When the connection cannot be made or breaks, or what comes is no answer.
pub fn fetch(
    from: &Pod,
    to: SocketAddr,
    path: &str,
    accepted: &str,
    pieces: Option<usize>,
) -> io::Result<(Head, Vec<u8>)> {
    let patience = Duration::from_secs(10);
    let mut stream = from.connect(to, patience)?;
    stream.set_read_timeout(Some(patience))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: web.town\r\naccept-encoding: {accepted}\r\n\r\n"
    )?;
    let mut reader = BufReader::new(stream);
    let head = read_head(&mut reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let mut body = Vec::new();
    if let Some(length) = head.get("content-length").and_then(|length| length.parse().ok()) {
        body.resize(length, 0);
        reader.read_exact(&mut body)?;
        return Ok((head, body));
    }
    for _ in 0..pieces.unwrap_or(usize::MAX) {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
        let mut piece = vec![0; size];
        reader.read_exact(&mut piece)?;
        reader.read_line(&mut String::new())?;
        if size == 0 {
            break;
        }
        body.extend(piece);
    }
    Ok((head, body))
}

/// What can be read of compressed bytes, though they may go on.
///
/// # Panics
/// For a coding that nobody knows.
pub fn unpacked(coding: &str, bytes: &[u8]) -> String {
    let mut reader: Box<dyn io::Read + '_> = match coding {
        "br" => Box::new(brotli::Decompressor::new(bytes, 4096)),
        "gzip" => Box::new(flate2::read::GzDecoder::new(bytes)),
        "zstd" => Box::new(zstd::stream::read::Decoder::new(bytes).unwrap()),
        other => panic!("nobody knows {other:?}"),
    };
    let mut found = Vec::new();
    // What is not ended yet ends with an error.
    let mut byte = [0];
    while reader.read(&mut byte).is_ok_and(|read| read > 0) {
        found.extend(byte);
    }
    String::from_utf8(found).unwrap()
}
