//! The server for tests in clusters: HTTP, a protocol in which the server speaks first, and gRPC's health check.
//!
//! An HTTP answer says who answers and who was seen to ask (`x-pod`, `x-port`, `x-peer`), and has a body of 1 KiB that the
//! asker knows.

use anyhow::{Context, Result};
use bytes::Bytes;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    thread,
};

/// Options of `probe answer`.
#[derive(clap::Args)]
pub(crate) struct Answer {
    /// A port for HTTP/1.1, repeatable
    #[arg(long)]
    http: Vec<u16>,
    /// A port on which the server speaks first, then sends back what it receives; repeatable
    #[arg(long)]
    greet: Vec<u16>,
    /// A port for gRPC's health check (h2c)
    #[arg(long)]
    grpc: Option<u16>,
}

/// What a server that speaks first says.
pub(crate) const GREETING: &str = "220 culvert-probe\r\n";
/// Bytes in an answer's body.
const BODY: usize = 1024;

/// The body of every answer. It is text that a tap on the wire can look for.
pub(crate) fn body() -> Vec<u8> {
    b"culvert-probe-answer. ".iter().copied().cycle().take(BODY).collect()
}

/// Serves until killed.
pub(crate) fn run(answer: &Answer) -> Result<()> {
    let mut threads = Vec::new();
    for port in &answer.http {
        threads.push(serve(*port, http)?);
    }
    for port in &answer.greet {
        threads.push(serve(*port, greet)?);
    }
    if let Some(port) = answer.grpc {
        let listener = listen(port)?;
        threads.push(thread::spawn(move || grpc(listener)));
    }
    println!("listening");
    for thread in threads {
        thread
            .join()
            .map_err(|_| anyhow::anyhow!("a server's thread panicked"))??;
    }
    Ok(())
}

fn listen(port: u16) -> Result<TcpListener> {
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    TcpListener::bind(any).with_context(|| format!("cannot listen on port {port}"))
}

fn serve(port: u16, session: fn(TcpStream) -> Result<()>) -> Result<thread::JoinHandle<Result<()>>> {
    let listener = listen(port)?;
    Ok(thread::spawn(move || {
        loop {
            let (stream, _) = listener.accept()?;
            // What a client does to its own connection is the client's to report.
            thread::spawn(move || drop(session(stream)));
        }
    }))
}

fn http(stream: TcpStream) -> Result<()> {
    let name = std::env::var("HOSTNAME").unwrap_or_default();
    let (peer, port) = (stream.peer_addr()?, stream.local_addr()?.port());
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    loop {
        let mut closes = false;
        let mut lines = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            match line.trim_end() {
                "" => break,
                line => closes |= line.eq_ignore_ascii_case("connection: close"),
            }
            lines += 1;
            anyhow::ensure!(lines < 100, "too many header lines");
        }
        let connection = if closes { "close" } else { "keep-alive" };
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let mut answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {BODY}\r\nconnection: {connection}\r\nx-pod: {name}\r\nx-port: {port}\r\nx-peer: {peer}\r\n\r\n"
        )
        .into_bytes();
        answer.extend(body());
        stream.write_all(&answer)?;
        if closes {
            return Ok(());
        }
    }
}

fn greet(mut stream: TcpStream) -> Result<()> {
    stream.write_all(GREETING.as_bytes())?;
    let mut buffer = [0u8; 4096];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            count => stream.write_all(&buffer[..count])?,
        }
    }
}

/// `grpc.health.v1.Health/Check`, and to every other method the same answer: SERVING.
fn grpc(listener: TcpListener) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(async move {
                let Ok(mut connection) = h2::server::handshake(stream).await else {
                    return;
                };
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    let _ = serving(&mut respond);
                }
            });
        }
    })
}

fn serving(respond: &mut h2::server::SendResponse<Bytes>) -> Result<()> {
    let headers = http::Response::builder()
        .header("content-type", "application/grpc")
        .body(())?;
    let mut stream = respond.send_response(headers, false)?;
    // One uncompressed message of two bytes: field 1 (status), a number, 1 (SERVING).
    stream.send_data(Bytes::from_static(&[0, 0, 0, 0, 2, 0x08, 0x01]), false)?;
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
    Ok(stream.send_trailers(trailers)?)
}
