//! So many connections that a thread for each is too much: `keep` opens them and keeps them, `echo` is the other side.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
    task::JoinSet,
    time::timeout,
};

/// How many are on their way at a time.
const AT_A_TIME: usize = 64;

/// Options of `probe keep`.
#[derive(clap::Args)]
pub(crate) struct Keep {
    /// The server (`probe echo`)
    #[arg(long)]
    to: SocketAddr,
    /// How many connections
    #[arg(long)]
    connections: usize,
    /// Longest wait for anything, seconds
    #[arg(long, default_value_t = 30)]
    timeout: u64,
}

/// Opens them all, each with a byte there and back, and prints `open`. On SIGTERM a byte goes there and back on each again, and
/// what came of it is printed.
pub(crate) fn run(keep: &Keep) -> Result<()> {
    let patience = Duration::from_secs(keep.timeout);
    runtime()?.block_on(async {
        let mut end = signal(SignalKind::terminate())?;
        let mut streams = Vec::with_capacity(keep.connections);
        let mut opening = JoinSet::<Result<TcpStream>>::new();
        for number in 0..keep.connections {
            if number >= AT_A_TIME {
                let opened = opening.join_next().await.context("none is on its way")?;
                let stream = opened?.with_context(|| format!("with {} open", streams.len()))?;
                streams.push(stream);
            }
            opening.spawn(open(keep.to, patience));
        }
        while let Some(opened) = opening.join_next().await {
            streams.push(opened??);
        }
        println!("open");
        end.recv().await;
        let (mut carried, mut errors) = (0, Vec::new());
        for part in streams.chunks_mut(AT_A_TIME) {
            // All are asked before the first answer is waited for.
            let mut asked = Vec::new();
            for stream in part {
                let said = stream.write_all(&[1]).await;
                asked.push((stream, said));
            }
            for (stream, said) in asked {
                let answered = match said {
                    Ok(()) => answer(stream, 1, patience).await,
                    Err(error) => Err(error.into()),
                };
                match answered {
                    Ok(()) => carried += 1,
                    Err(error) => errors.push(format!("{error:#}")),
                }
            }
        }
        let failed = errors.len();
        errors.truncate(5);
        println!(
            "{}",
            json!({ "done": carried, "failed": failed, "longest_ms": 0, "errors": errors })
        );
        Ok(())
    })
}

async fn open(to: SocketAddr, patience: Duration) -> Result<TcpStream> {
    let connect = timeout(patience, TcpStream::connect(to));
    let mut stream = connect.await.context("connect")?.context("connect")?;
    stream.write_all(&[0]).await?;
    answer(&mut stream, 0, patience).await.context("the first byte")?;
    Ok(stream)
}

async fn answer(stream: &mut TcpStream, expected: u8, patience: Duration) -> Result<()> {
    let answer = timeout(patience, stream.read_u8()).await.context("no answer")??;
    ensure!(answer == expected, "an answer came back changed");
    Ok(())
}

/// Sends back what it receives, byte by byte, until killed.
pub(crate) fn echo(listen: SocketAddr) -> Result<()> {
    runtime()?.block_on(async {
        let listener = TcpListener::bind(listen).await?;
        println!("listening");
        loop {
            let (mut stream, _) = listener.accept().await?;
            tokio::spawn(async move {
                while let Ok(byte) = stream.read_u8().await {
                    if stream.write_all(&[byte]).await.is_err() {
                        return;
                    }
                }
            });
        }
    })
}

fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
