//! Why connections fail, whether another attempt is safe, and what the peer is told.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use culvert_hbone::{ErrorCode, HandshakeError, Http2Error, ProtocolError, TlsError};
use culvert_state::Denial;
use rustix::io::Errno;

/// Why a connection, or an attempt at one, failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    /// Policy, or resolution, says no.
    #[error("{0}")]
    Denied(Denial),
    /// The far side is there, and the application's socket no longer.
    #[error("the application gave up before the other end was there")]
    GaveUp,
    /// A connection that was to be answered when its far side is there can only be accepted first.
    #[error("cannot be held ({0}): the application's next packet is accepted at once")]
    Unheld(Errno),
    /// Nobody was captured: an application dialled the proxy's own port.
    #[error("not a captured connection: the proxy's own port was dialled")]
    NotCaptured,
    /// A peer wants to reach an address through this pod that is not the pod's, or a port of the proxy itself.
    #[error("{0} does not belong to this pod")]
    NotHere(SocketAddr),
    /// A peer's request makes no sense.
    #[error("bad request: {why}")]
    BadRequest {
        /// What is wrong with it.
        why: Arc<str>,
        /// The status of the answer.
        status: u16,
        /// Whether its stream is to be reset behind the answer.
        malformed: bool,
    },
    /// The connect timeout came first.
    #[error("not connected within {after:?}: {waiting}")]
    Timeout {
        /// The connect timeout.
        after: Duration,
        /// What was waited for, or the last attempt's failure.
        waiting: Arc<str>,
    },
    /// A plain TCP connection could not be made.
    #[error("cannot connect to {to}: {}", connect_error(.error))]
    Connect {
        /// Dialled.
        to: SocketAddr,
        /// The kernel's word.
        error: Errno,
    },
    /// The endpoint is known by its DNS name, and that leads to no address.
    #[error("cannot resolve {host}: {why}")]
    Unresolved {
        /// The name.
        host: Arc<str>,
        /// Why.
        why: Arc<str>,
    },
    /// The tunnel that was to carry the connection could not be opened, or ended before the connection was accepted.
    #[error("tunnel to {to}: {why}")]
    Tunnel {
        /// The peer's tunnel port.
        to: SocketAddr,
        /// What happened.
        why: Arc<str>,
        /// Whether identities or protocols disagree, which another attempt does not change.
        final_: bool,
    },
    /// Nobody serves the peer's tunnel port.
    #[error("tunnel to {to}: {}: nobody serves the tunnel there", Errno::CONNREFUSED)]
    NoTunnel {
        /// The peer's tunnel port.
        to: SocketAddr,
    },
    /// An attempt took so long that another endpoint is tried.
    #[error("no answer from {to} within {after:?}")]
    NoAnswer {
        /// Dialled.
        to: SocketAddr,
        /// The time that an attempt has.
        after: Duration,
    },
    /// The peer refused the connection.
    #[error("the peer answered {status}: {reason}")]
    Refused {
        /// Of the answer.
        status: u16,
        /// As the peer gave it.
        reason: Arc<str>,
    },
    /// The peer ended an open connection by a reset.
    #[error("reset by the peer ({0:?})")]
    ResetByPeer(ErrorCode),
    /// The tunnel below an open connection ended.
    #[error("tunnel lost: {0}")]
    TunnelLost(Arc<str>),
    /// The application, or a plaintext client, ended an open connection by a reset.
    #[error("connection reset: {0}")]
    Reset(Errno),
    /// The proxy holds too much for applications that do not read, and this connection most.
    #[error("reset: {0} bytes were held for who does not read, more than any other connection, and too much is held")]
    TooMuchHeld(usize),
    /// A descriptor could not be watched, or an option not be set.
    #[error("local failure: {0}")]
    Local(Errno),
}

/// The kernel's word says nothing of what ran out.
fn connect_error(error: &Errno) -> String {
    match error {
        &Errno::ADDRNOTAVAIL => {
            format!("no local port is free for it inside the pod (net.ipv4.ip_local_port_range): {error}")
        }
        error => error.to_string(),
    }
}

impl Failure {
    /// Whether a local port was wanting.
    pub fn is_for_want_of_a_port(&self) -> bool {
        matches!(
            self,
            Self::Connect {
                error: Errno::ADDRNOTAVAIL,
                ..
            }
        )
    }

    /// Whether another endpoint may do better: no byte of the application has left yet.
    pub fn is_of_endpoint(&self) -> bool {
        match self {
            Self::Tunnel { .. }
            | Self::NoTunnel { .. }
            | Self::TunnelLost(_)
            | Self::Connect { .. }
            | Self::Unresolved { .. }
            | Self::NoAnswer { .. } => true,
            Self::Refused { status, .. } => *status == 503,
            Self::ResetByPeer(code) => *code == ErrorCode::RefusedStream,
            _ => false,
        }
    }

    /// Whether the same endpoint may do better in a moment: the failure may be that of a namespace which is joining or
    /// leaving just now. What an application refused is refused.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Tunnel { final_, .. } => !final_,
            Self::ResetByPeer(code) => *code == ErrorCode::RefusedStream,
            Self::NoTunnel { .. } | Self::TunnelLost(_) | Self::NoAnswer { .. } => true,
            _ => false,
        }
    }

    /// What an HBONE peer is answered whose connection fails before it was accepted.
    pub fn status(&self) -> u16 {
        match self {
            Self::Denied(_) => 401,
            Self::NotHere(_) => 400,
            Self::BadRequest { status, .. } => *status,
            _ => 503,
        }
    }

    /// For a request that makes no sense for this reason.
    pub fn bad_request(why: &impl ToString) -> Self {
        Self::BadRequest {
            why: why.to_string().into(),
            status: 400,
            malformed: false,
        }
    }

    /// For a tunnel whose handshake failed.
    pub fn handshake(to: SocketAddr, error: &HandshakeError) -> Self {
        use rustls::Error as Tls;
        let final_ = matches!(
            error,
            HandshakeError::Tls(Tls::InvalidCertificate(_) | Tls::AlertReceived(_) | Tls::NoCertificatesPresented)
                | HandshakeError::Alpn
                | HandshakeError::Version
                | HandshakeError::CipherSuite
        );
        Self::Tunnel {
            to,
            why: error.to_string().into(),
            final_,
        }
    }

    /// For a tunnel that broke. In TLS 1.3 a client has finished when the server refuses its certificate: that
    /// arrives as an alert on the open connection.
    pub fn protocol(to: SocketAddr, error: &ProtocolError) -> Self {
        let final_ = match error {
            // bad_certificate to access_denied, certificate_required (RFC 8446 section 6)
            ProtocolError::Tls(TlsError::Alert(alert)) => matches!(alert, 42..=49 | 116),
            ProtocolError::Http2(Http2Error::Preface) => true,
            _ => false,
        };
        Self::Tunnel {
            to,
            why: error.to_string().into(),
            final_,
        }
    }

    /// For a tunnel whose TCP connection failed.
    pub fn tunnel(to: SocketAddr, error: &io::Error) -> Self {
        if Errno::from_io_error(error) == Some(Errno::CONNREFUSED) {
            return Self::NoTunnel { to };
        }
        Self::Tunnel {
            to,
            why: error.to_string().into(),
            final_: false,
        }
    }
}

/// The error number of an I/O error; all of ours come from the kernel.
pub fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
