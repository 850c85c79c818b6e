//! Accepting proxies.

use std::{io, path::Path};

use culvert_net::packet::{AsyncPacketListener, PacketListener};
use tokio::sync::mpsc::UnboundedSender;

use super::{Event, session};

/// Only root, as which a proxy's monitor runs.
const MODE: u32 = 0o600;

/// The listening socket.
#[derive(Debug)]
pub struct Server {
    listener: AsyncPacketListener,
}

impl Server {
    /// Listens at `path`; makes the folder if it is missing.
    ///
    /// # Errors
    /// From the file system or `bind`.
    pub fn bind(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        Ok(Self {
            listener: AsyncPacketListener::new(PacketListener::bind(path, MODE)?)?,
        })
    }

    /// Accepts proxies and serves each on a task of its own, until `events` has no receiver any more.
    pub async fn run(self, events: UnboundedSender<Event>) {
        for id in 1.. {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = events.closed() => return,
            };
            match accepted {
                Ok((socket, peer)) => drop(tokio::spawn(session::serve(id, socket, peer, events.clone()))),
                Err(error) => {
                    // Out of descriptors, most likely: others will be closed.
                    tracing::error!(%error, "cannot accept a proxy");
                    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                }
            }
        }
    }
}
