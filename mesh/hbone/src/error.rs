//! What goes wrong, and whose fault it is.
use culvert_h2core::{ErrorCode, Limit, ProtocolError as Http2Error};

/// Who caused an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The other end broke a rule or gave up.
    Peer,
    /// We did.
    Local,
}

/// Why a connection cannot go on. What is queued in the output says so to the peer: flush it, then close.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The TLS record layer failed.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// HTTP/2 did.
    #[error(transparent)]
    Http2(#[from] Http2Error),
}

impl ProtocolError {
    /// What a GOAWAY says about it.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Tls(_) => ErrorCode::InadequateSecurity,
            Self::Http2(error) => error.code(),
        }
    }

    /// A word for it that stays as it is, for metrics: the name of the limit that the peer exceeded, or `http2`, or `tls`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Http2(Http2Error::Limit(limit)) => limit.name(),
            Self::Http2(_) => "http2",
            Self::Tls(_) => "tls",
        }
    }

    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Tls(TlsError::Keys(_)) => Fault::Local,
            _ => Fault::Peer,
        }
    }
}

impl From<Limit> for ProtocolError {
    fn from(limit: Limit) -> Self {
        Self::Http2(limit.into())
    }
}

/// Why TLS records cannot be followed further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A record longer than RFC 8446 section 5.2 allows, or shorter than its tag.
    #[error("TLS record of impossible length {0}")]
    RecordLength(usize),
    /// A record that may not come after the handshake.
    #[error("TLS record of unexpected type {0}")]
    RecordType(u8),
    /// A record was altered, or is not what comes next.
    #[error("TLS record does not decrypt")]
    Decrypt,
    /// The peer gave up, with this alert (RFC 8446 section 6).
    #[error("TLS alert {0}")]
    Alert(u8),
    /// A handshake message that may not come now.
    #[error("unexpected TLS handshake message of type {0}")]
    HandshakeMessage(u8),
    /// A message that does not parse.
    #[error("malformed TLS message")]
    Malformed,
    /// New keys cannot be made.
    #[error("TLS key update: {0}")]
    Keys(String),
}

impl TlsError {
    /// The alert to send (RFC 8446 section 6.2), if one is due.
    pub(crate) fn alert(&self) -> Option<u8> {
        match self {
            Self::RecordLength(_) => Some(22),                           // record_overflow
            Self::RecordType(_) | Self::HandshakeMessage(_) => Some(10), // unexpected_message
            Self::Decrypt => Some(20),                                   // bad_record_mac
            Self::Alert(_) => None,
            Self::Malformed => Some(50), // decode_error
            Self::Keys(_) => Some(80),   // internal_error
        }
    }
}

/// Why a TLS handshake failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// TLS failed; certificates that are refused are here.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    /// The peer did not agree on `h2` by ALPN.
    #[error("the peer does not offer h2 by ALPN")]
    Alpn,
    /// The peer chose a protocol before TLS 1.3.
    #[error("the peer does not speak TLS 1.3")]
    Version,
    /// The peer hung up in the middle of the handshake.
    #[error("the peer closed the connection during the TLS handshake")]
    Closed,
    /// The peer sent more than a handshake can take.
    #[error("the peer sent more than a handshake can take")]
    TooLong,
    /// The keys are of a cipher suite that we do not have.
    #[error("cipher suite without support")]
    CipherSuite,
}
