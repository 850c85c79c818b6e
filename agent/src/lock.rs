//! One agent at a time on a node.
//!
//! Two agents would put each other's pods out. The lock is `flock` on a file beside the proxies' socket: it ends with the
//! process that holds it, however that ends. Who comes second stands by: it counts as ready when it has seen that it could do the
//! work, so that a rolling update goes on and ends the first one, and takes over at that very moment. The file says who holds it.

use std::{
    fs::{File, OpenOptions, Permissions},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    thread,
};

use rustix::fs::{FlockOperation, flock};
use tokio::sync::oneshot;

/// The lock, while it lives.
#[derive(Debug)]
pub struct NodeLock {
    _file: File,
}

/// What came of asking for the lock.
#[derive(Debug)]
pub enum Attempt {
    /// It is ours.
    Taken(NodeLock),
    /// Another agent has it, described by itself.
    Held {
        /// The text that it left in the file.
        by: String,
        /// To wait for its end.
        turn: Turn,
    },
}

/// A place in the queue.
#[derive(Debug)]
pub struct Turn {
    file: File,
    who: String,
}

/// The lock's file for agents that listen at this socket: its name with `.lock` after it.
pub fn path_beside(zds_socket: &Path) -> PathBuf {
    let mut path = zds_socket.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

/// Asks for the lock in the name of `who`, one line of text that is shown to the next one.
///
/// # Errors
/// The file cannot be made, written or locked.
pub fn take(path: &Path, who: &str) -> io::Result<Attempt> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    // Whoever can open it can lock it, and keep the node without an agent. Earlier versions let everybody.
    file.set_permissions(Permissions::from_mode(0o600))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Attempt::Taken(sign(file, who)?)),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut by = String::new();
            // Written by a program of ours; what is not text is not shown.
            let _ = file.read_to_string(&mut by);
            let turn = Turn {
                file,
                who: who.to_owned(),
            };
            Ok(Attempt::Held {
                by: by.trim().to_owned(),
                turn,
            })
        }
        Err(errno) => Err(errno.into()),
    }
}

impl Turn {
    /// Waits until the agent that holds the lock has ended.
    ///
    /// # Errors
    /// The file cannot be locked or written.
    pub async fn wait(self) -> io::Result<NodeLock> {
        let (done, waiting) = oneshot::channel();
        // A thread of its own, which the end of the process ends: the runtime would wait for one of its own threads.
        thread::Builder::new().name("node-lock".into()).spawn(move || {
            let locked = flock(&self.file, FlockOperation::LockExclusive);
            let _ = done.send(
                locked
                    .map_err(io::Error::from)
                    .and_then(|()| sign(self.file, &self.who)),
            );
        })?;
        waiting.await.map_err(io::Error::other)?
    }
}

fn sign(mut file: File, who: &str) -> io::Result<NodeLock> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(who.as_bytes())?;
    Ok(NodeLock { _file: file })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_but_root_can_hold_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("zds.sock.lock");
        // As an earlier version left it.
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let _lock = take(&path, "us").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn the_second_agent_learns_who_is_there_and_takes_over_when_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = path_beside(&folder.path().join("run/zds.sock"));
        let Attempt::Taken(first) = take(&path, "the first").unwrap() else {
            panic!("nobody has the lock yet");
        };
        let Attempt::Held { by, turn } = take(&path, "the second").unwrap() else {
            panic!("two agents at once");
        };
        assert_eq!(by, "the first");
        drop(first);
        let _second = turn.wait().await.unwrap();
        assert!(matches!(take(&path, "the third").unwrap(), Attempt::Held { by, .. } if by == "the second"));
    }
}
