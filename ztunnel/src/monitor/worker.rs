//! The worker as a child process: starting it, talking to it, starting the next one.

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
    process::Stdio,
    time::{Duration, Instant},
};

use culvert_net::packet::{self, AsyncPacketSocket, PacketSocket};
use prost::Message as _;
use tokio::process::{Child, Command};

use crate::wire::{self, Order, Report, ToMonitor};

/// A worker that lived shorter than this died of something that will kill the next one as well.
const INSTANT: Duration = Duration::from_secs(1);

/// Between two attempts to receive when the kernel lacks memory.
const RECEIVE_PAUSE: Duration = Duration::from_millis(10);

/// How many instant deaths in a row are answered at once.
const PATIENCE: u32 = 3;

/// What the worker does.
pub(super) enum Event {
    Report(Report),
    Died(String),
}

/// The running worker.
pub(super) struct Worker {
    child: Child,
    socket: AsyncPacketSocket,
    started: Instant,
    instant_deaths: u32,
    buffer: Vec<u8>,
}

impl Worker {
    pub(super) fn start() -> io::Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command.args(std::env::args_os().skip(1)).arg("--worker");
        Self::start_as(command)
    }

    /// Starts a program that takes its end of the socket pair as standard input.
    pub(super) fn start_as(mut command: Command) -> io::Result<Self> {
        let (ours, theirs) = PacketSocket::pair()?;
        let child = command
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .kill_on_drop(true)
            .spawn()?;
        let socket = AsyncPacketSocket::new(ours)?;
        Ok(Self {
            child,
            socket,
            started: Instant::now(),
            instant_deaths: 0,
            buffer: Vec::new(),
        })
    }

    /// Replaces a worker that died.
    pub(super) async fn restart(&mut self) -> io::Result<()> {
        self.instant_deaths = if self.started.elapsed() < INSTANT {
            self.instant_deaths + 1
        } else {
            0
        };
        if self.instant_deaths > PATIENCE {
            tokio::time::sleep(INSTANT).await;
        }
        *self = Self {
            instant_deaths: self.instant_deaths,
            ..Self::start()?
        };
        Ok(())
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits for the worker to say something or to die. May be cancelled.
    pub(super) async fn next(&mut self) -> Event {
        loop {
            tokio::select! {
                // What it said before it died comes first.
                biased;
                received = self.socket.recv(&mut self.buffer) => match received {
                    Ok(Some(_)) => match ToMonitor::decode(self.buffer.as_slice()) {
                        Ok(ToMonitor { report: Some(report) }) => return Event::Report(report),
                        _ => tracing::error!("the worker sent what does not parse"),
                    },
                    Ok(None) => return Event::Died(self.wait().await),
                    Err(error) if packet::is_closed(&error) => return Event::Died(self.wait().await),
                    Err(error) => {
                        tracing::warn!(%error, "cannot receive from the worker; trying again");
                        tokio::time::sleep(RECEIVE_PAUSE).await;
                    }
                },
                _ = self.child.wait() => return Event::Died(self.wait().await),
            }
        }
    }

    /// Tells the worker something. One that is dying does not hear it; its successor is told everything.
    pub(super) async fn send(&self, order: Order, descriptors: &[BorrowedFd<'_>]) {
        if let Err(error) = self.socket.send(&wire::order(order), descriptors).await {
            tracing::debug!(%error, "the worker does not listen");
        }
    }

    pub(super) async fn kill(&mut self) {
        let _ = self.child.kill().await;
    }

    /// A worker that closed its socket without ending is of no use: it is ended.
    async fn wait(&mut self) -> String {
        match tokio::time::timeout(INSTANT, self.child.wait()).await {
            Ok(Ok(status)) => status.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => {
                self.kill().await;
                "it closed its socket and was killed".into()
            }
        }
    }
}

#[cfg(test)]
mod tests;
