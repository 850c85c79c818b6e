//! As many connections as descriptors allow, on one thread at either end: `reflect` is the server, `many` the client.

use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::Builder,
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};

/// Connections that are opened at the same time.
const AT_ONCE: usize = 64;
/// At most so many of those that got no answer are named.
const NAMED: usize = 5;

/// Options of `probe reflect`.
#[derive(clap::Args)]
pub(crate) struct Reflect {
    /// Where to listen
    #[arg(long)]
    listen: SocketAddr,
}

/// Options of `probe many`.
#[derive(clap::Args)]
pub(crate) struct Many {
    /// The server, a `probe reflect`
    #[arg(long)]
    to: SocketAddr,
    /// How many connections
    #[arg(long)]
    count: usize,
    /// Longest wait for a connection or an answer, seconds
    #[arg(long, default_value_t = 30)]
    timeout: u64,
}

/// Sends back what comes, until killed; prints `listening`.
pub(crate) fn reflect(options: &Reflect) -> Result<()> {
    allow_descriptors();
    Builder::new_current_thread().enable_all().build()?.block_on(async {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(options.listen)?;
        let listener: TcpListener = socket.listen(4096)?;
        println!("listening");
        loop {
            let (mut stream, _) = listener.accept().await?;
            tokio::spawn(async move {
                let mut buffer = [0; 8];
                while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                    if stream.write_all(&buffer[..count]).await.is_err() {
                        break;
                    }
                }
            });
        }
    })
}

/// Opens all, exchanges a message on each, and prints `open`; then, for each SIGUSR1, exchanges one more on each and prints how
/// many were answered and who was not.
pub(crate) fn many(options: &Many) -> Result<()> {
    allow_descriptors();
    let patience = Duration::from_secs(options.timeout);
    Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut asked_for = signal(SignalKind::user_defined1())?;
        let mut open = Vec::with_capacity(options.count);
        let mut opening = JoinSet::new();
        for number in 0..options.count {
            let to = options.to;
            opening.spawn(async move {
                let connect = async {
                    let stream = TcpStream::connect(to).await.context("connect")?;
                    exchange(stream, number as u64).await
                };
                let done = tokio::time::timeout(patience, connect).await;
                done.context("no answer in time")
                    .flatten()
                    .with_context(|| format!("connection {number}"))
            });
            if opening.len() == AT_ONCE
                && let Some(done) = opening.join_next().await
            {
                open.push(done??);
            }
        }
        while let Some(done) = opening.join_next().await {
            open.push(done??);
        }
        println!("open");
        while asked_for.recv().await.is_some() {
            let mut asked = JoinSet::new();
            for (number, stream) in open.drain(..).enumerate() {
                asked.spawn(async move {
                    let local = stream.local_addr();
                    let done = tokio::time::timeout(patience, exchange(stream, number as u64)).await;
                    let done = done.context("no answer in time").flatten();
                    done.with_context(|| format!("from {local:?}"))
                });
            }
            let mut silent = Vec::new();
            while let Some(done) = asked.join_next().await {
                match done? {
                    Ok(stream) => open.push(stream),
                    Err(error) => silent.push(format!("{error:#}")),
                }
            }
            silent.truncate(NAMED);
            println!("{}", json!({ "answered": open.len(), "silent": silent }));
        }
        Ok(())
    })
}

/// A message there and back.
async fn exchange(mut stream: TcpStream, number: u64) -> Result<TcpStream> {
    let (sent, mut got) = (number.to_be_bytes(), [0; 8]);
    stream.write_all(&sent).await.context("send")?;
    stream.read_exact(&mut got).await.context("receive")?;
    ensure!(got == sent, "an answer came back changed");
    Ok(stream)
}

/// As many as the machine lets a process have; what is not allowed fails where a connection is opened, and says so there.
fn allow_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let _raised = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            ..limit
        },
    );
}
