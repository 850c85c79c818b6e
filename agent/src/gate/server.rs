//! The plug-in's socket.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::Path,
    sync::Arc,
    time::Duration,
};

use culvert_cni::wire::{Answer, BadRequest, Failure, MAX_LINE, Request};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    time::{sleep, timeout},
};

use super::doorkeeper::{Doorkeeper, Gatekeeper};

/// Conversations at a time: twice what a kubelet takes for pods at most by default. More wait in the backlog.
const CONVERSATIONS: usize = 256;

/// How long a plug-in may take to ask, and to take an answer.
const PROMPT: Duration = Duration::from_secs(1);

/// The listening socket.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
}

impl Server {
    /// Listens at `path`, for root alone; makes the folder if it is missing. A socket that is there is replaced in one step:
    /// at no moment is there none.
    ///
    /// # Errors
    /// From the file system or `bind`.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder)?;
        // Nobody else enters this folder, so nobody connects before the mode is right.
        let draft = folder.join(format!(".gate-{}", std::process::id()));
        let _ = fs::remove_dir_all(&draft);
        DirBuilder::new().mode(0o700).create(&draft)?;
        let bound = Self::bind_in(&draft, path);
        let _ = fs::remove_dir_all(&draft);
        bound
    }

    fn bind_in(draft: &Path, path: &Path) -> io::Result<Self> {
        let socket = draft.join("s");
        let listener = UnixListener::bind(&socket)?;
        fs::set_permissions(&socket, Permissions::from_mode(0o600))?;
        fs::rename(&socket, path)?;
        Ok(Self { listener })
    }

    /// Serves plug-ins, each on a task of its own.
    pub async fn run<G: Gatekeeper>(self, doorkeeper: Arc<Doorkeeper<G>>) {
        let slots = Arc::new(Semaphore::new(CONVERSATIONS));
        loop {
            // Never closed.
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
                return;
            };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let doorkeeper = Arc::clone(&doorkeeper);
                    tokio::spawn(async move {
                        if let Err(error) = converse(stream, &doorkeeper).await {
                            tracing::debug!(%error, "a conversation with the CNI plug-in broke off");
                        }
                        drop(slot);
                    });
                }
                Err(error) => {
                    // Out of descriptors, most likely: others will be closed.
                    tracing::error!(%error, "cannot accept a CNI plug-in");
                    sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }
}

async fn converse<G: Gatekeeper>(mut stream: UnixStream, doorkeeper: &Doorkeeper<G>) -> io::Result<()> {
    let line = timeout(PROMPT, read_line(&mut stream)).await??;
    let request = match Request::parse(&line) {
        Ok(request) => request,
        Err(error) => {
            tracing::warn!(%error, "a CNI plug-in asks what this agent does not understand");
            doorkeeper.metrics().misunderstood();
            return say(&mut stream, &not_understood(&error)).await;
        }
    };
    say(&mut stream, &Answer::Heard).await?;
    let (mut from, mut to) = stream.split();
    tokio::select! {
        answer = doorkeeper.answer(request) => timeout(PROMPT, to.write_all(answer.line().as_bytes())).await?,
        // The runtime has ended the plug-in; it asks no more.
        ended = ended(&mut from) => ended,
    }
}

fn not_understood(error: &BadRequest) -> Answer {
    match error {
        BadRequest::Version(_) => Answer::Unsupported,
        BadRequest::Unintelligible(error) => Answer::error(Failure::BadRequest, error.to_string()),
    }
}

async fn say(stream: &mut UnixStream, answer: &Answer) -> io::Result<()> {
    timeout(PROMPT, stream.write_all(answer.line().as_bytes())).await?
}

async fn read_line(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let length = stream.read(&mut chunk).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let chunk = &chunk[..length];
        if let Some(end) = chunk.iter().position(|byte| *byte == b'\n') {
            line.extend_from_slice(&chunk[..end]);
            return Ok(line);
        }
        line.extend_from_slice(chunk);
        if line.len() >= MAX_LINE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a line without end"));
        }
    }
}

async fn ended(from: &mut tokio::net::unix::ReadHalf<'_>) -> io::Result<()> {
    let mut ignored = [0; 64];
    while from.read(&mut ignored).await? > 0 {}
    Ok(())
}
