//! What a tunnel runs over, and where that comes from.

use std::{future::Future, io, net::SocketAddr, os::fd::AsFd as _, sync::Arc};

use culvert_identity::{Credentials, SpiffeId};
use culvert_net::tcp_state::{self, SendState};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream},
    net::TcpStream,
};

/// A connected socket that a tunnel runs over.
///
/// What the kernel knows of a TCP socket is used where it is to be had: how much it still has to send decides how long a tunnel
/// that ends is waited for, and how much it takes ahead of the network how long small messages wait behind large ones.
pub trait Socket: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// How far the peer has taken what was written. None: nobody knows, and what was written last may still be on its way.
    fn send_state(&self) -> Option<SendState> {
        None
    }

    /// Bounds the bytes that are taken ahead of what the network takes.
    fn limit_unsent(&self, _bytes: u32) {}
}

impl Socket for TcpStream {
    fn send_state(&self) -> Option<SendState> {
        tcp_state::send_state(self.as_fd()).ok()
    }

    fn limit_unsent(&self, bytes: u32) {
        if let Err(error) = tcp_state::set_unsent_limit(self.as_fd(), bytes) {
            tracing::debug!(%error, "a tunnel's socket takes no limit of what is not sent yet");
        }
    }
}

/// Memory, for tests.
impl Socket for DuplexStream {}

/// On whose behalf a tunnel is opened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Whose certificate is shown.
    pub identity: SpiffeId,
    /// Where its sockets come from, by a name that the [`SocketSource`] knows (a pod's uid). Empty where there is but one place.
    pub place: Arc<str>,
}

/// Makes connected sockets.
pub trait SocketSource: Send + Sync + 'static {
    /// What it makes.
    type Socket: Socket;

    /// A socket of this origin that is connected to `to`. Dropping the future gives up.
    fn connect(&self, origin: &Origin, to: SocketAddr) -> impl Future<Output = io::Result<Self::Socket>> + Send;
}

/// Dials from the network namespace of this process, whatever the origin.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dialer;

impl SocketSource for Dialer {
    type Socket = TcpStream;

    async fn connect(&self, _: &Origin, to: SocketAddr) -> io::Result<TcpStream> {
        let socket = TcpStream::connect(to).await?;
        socket.set_nodelay(true)?;
        Ok(socket)
    }
}

/// The certificates of today.
pub trait CredentialSource: Send + Sync + 'static {
    /// Those of an identity, if it has any now.
    fn credentials(&self, identity: &SpiffeId) -> Option<Arc<Credentials>>;
}

/// One identity's, that never change.
impl CredentialSource for Arc<Credentials> {
    fn credentials(&self, identity: &SpiffeId) -> Option<Arc<Credentials>> {
        (Credentials::identity(self) == identity).then(|| Arc::clone(self))
    }
}
