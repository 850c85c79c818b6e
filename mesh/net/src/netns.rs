//! Network namespaces by descriptor.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    panic::resume_unwind,
    path::{Path, PathBuf},
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::sockopt;

/// `NS_GET_NSTYPE` of `linux/nsfs.h`: which kind of namespace a descriptor is (kernel 4.11).
const NS_GET_NSTYPE: libc::Ioctl = 0xb703;

/// Why a network namespace cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The path cannot be opened.
    #[error("cannot open the network namespace {}", path.display())]
    Open {
        /// As given.
        path: PathBuf,
        /// From `open`.
        source: io::Error,
    },
    /// The descriptor is something else.
    #[error("{} is not a network namespace", path.as_ref().map_or("a descriptor".into(), |path| path.display().to_string()))]
    NotNetworkNamespace {
        /// Where it was opened, if by path.
        path: Option<PathBuf>,
    },
    /// `setns` failed: usually for want of `CAP_SYS_ADMIN`.
    #[error("cannot enter the network namespace")]
    Enter(#[source] io::Error),
    /// No thread could be started to enter the namespace.
    #[error("cannot start a thread to enter the network namespace")]
    Thread(#[source] io::Error),
    /// The kernel did not tell the namespace's cookie (`SO_NETNS_COOKIE` needs kernel 5.14).
    #[error("cannot learn the network namespace's cookie")]
    Cookie(#[source] io::Error),
    /// The namespace's descriptor cannot be examined.
    #[error("cannot examine the network namespace")]
    Examine(#[source] io::Error),
}

/// An open network namespace. It exists as long as this value does, also when its name and its last process are gone.
#[derive(Debug)]
pub struct Netns {
    file: OwnedFd,
}

impl Netns {
    /// Opens a namespace by path: `/run/netns/NAME`, `/proc/PID/ns/net`.
    ///
    /// # Errors
    /// The path cannot be opened, or is no network namespace.
    pub fn open(path: &Path) -> Result<Self, NetError> {
        let file = File::open(path).map_err(|source| NetError::Open {
            path: path.to_path_buf(),
            source,
        })?;
        Self::checked(file.into(), Some(path))
    }

    /// Takes a descriptor that came from elsewhere, after making sure that it is a network namespace.
    ///
    /// # Errors
    /// It is not.
    pub fn from_fd(file: OwnedFd) -> Result<Self, NetError> {
        Self::checked(file, None)
    }

    fn checked(file: OwnedFd, path: Option<&Path>) -> Result<Self, NetError> {
        use std::os::fd::AsRawFd;
        // SAFETY: NS_GET_NSTYPE takes no argument and returns an integer; on a descriptor of another kind it fails.
        let kind = unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) };
        if kind == libc::CLONE_NEWNET {
            Ok(Self { file })
        } else {
            Err(NetError::NotNetworkNamespace {
                path: path.map(Path::to_path_buf),
            })
        }
    }

    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn current() -> Result<Self, NetError> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// The number by which kernel programs know the namespace; never reused while the machine runs.
    ///
    /// # Errors
    /// The namespace cannot be entered, or the kernel is older than 5.14.
    pub fn cookie(&self) -> Result<u64, NetError> {
        self.run(|| {
            let socket = rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::DGRAM, None)?;
            sockopt::netns_cookie(socket.as_fd())
        })?
        .map_err(NetError::Cookie)
    }

    /// The inode number, as `ip netns` and `lsns` show it; reused after the namespace is gone.
    ///
    /// # Errors
    /// `fstat` failed.
    pub fn inode(&self) -> Result<u64, NetError> {
        let file = self.file.try_clone().map(File::from).map_err(NetError::Examine)?;
        Ok(file.metadata().map_err(NetError::Examine)?.ino())
    }

    /// A second descriptor of the same namespace.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            file: self.file.try_clone()?,
        })
    }

    /// Runs `work` inside the namespace, on a thread of its own, and waits for it: the caller's thread never changes its
    /// namespace. Sockets made there stay in the namespace wherever they are used later.
    ///
    /// # Errors
    /// The thread could not be started or could not enter. A panic of `work` is carried on.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NetError> {
        thread::scope(|scope| {
            let entered = thread::Builder::new()
                .name("netns".into())
                .spawn_scoped(scope, || {
                    move_into_link_name_space(self.as_fd(), Some(LinkNameSpaceType::Network))
                        .map_err(|error| NetError::Enter(error.into()))?;
                    Ok(work())
                })
                .map_err(NetError::Thread)?;
            entered.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl From<Netns> for OwnedFd {
    fn from(netns: Netns) -> Self {
        netns.file
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A fresh namespace that ends with the value; needs root.
    pub(crate) fn fresh() -> Netns {
        thread::spawn(|| {
            // SAFETY: only this thread's network namespace changes; it shares no other state that unshare would touch.
            unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.expect("needs root");
            Netns::current().expect("proc is mounted")
        })
        .join()
        .expect("no panic")
    }

    #[test]
    fn namespaces_have_their_own_cookie_and_inode() {
        let (one, two, here) = (fresh(), fresh(), Netns::current().expect("own namespace"));
        let cookies = [&one, &two, &here].map(|netns| netns.cookie().expect("cookie"));
        assert!(cookies.iter().all(|cookie| *cookie != 0));
        assert!(cookies[0] != cookies[1] && cookies[1] != cookies[2] && cookies[0] != cookies[2]);
        assert_ne!(one.inode().expect("inode"), two.inode().expect("inode"));
        assert_eq!(one.cookie().expect("again"), cookies[0]);
        assert_eq!(one.try_clone().expect("clone").cookie().expect("cookie"), cookies[0]);
    }

    #[test]
    fn work_runs_inside_and_the_caller_stays_outside() {
        let inside = fresh();
        let before = Netns::current().expect("own namespace").inode().expect("inode");
        let (seen, socket) = inside
            .run(|| {
                let seen = Netns::current().expect("inside").inode().expect("inode");
                (
                    seen,
                    TcpListener::bind("0.0.0.0:15001").expect("port is free in a fresh namespace"),
                )
            })
            .expect("enter");
        assert_eq!(seen, inside.inode().expect("inode"));
        assert_eq!(Netns::current().expect("own namespace").inode().expect("inode"), before);
        assert_eq!(
            sockopt::netns_cookie(socket.as_fd()).expect("cookie"),
            inside.cookie().expect("cookie")
        );
    }

    #[test]
    fn what_is_no_network_namespace_is_refused_by_name() {
        let missing = Netns::open(Path::new("/run/netns/does-not-exist")).expect_err("missing");
        assert!(missing.to_string().contains("/run/netns/does-not-exist"));
        for path in ["/proc/self/ns/uts", "/dev/null"] {
            let other = Netns::open(Path::new(path)).expect_err("another kind");
            assert_eq!(other.to_string(), format!("{path} is not a network namespace"));
        }
        assert!(Netns::from_fd(File::open("/dev/null").expect("null").into()).is_err());
    }
}
