//! The TLS handshake over bytes that the caller moves.
use std::ops::Deref;
use std::sync::Arc;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{ClientConfig, CommonState, ProtocolVersion, ServerConfig};

use crate::record::{self, Renewal};
use crate::{HandshakeError, TrafficKeys};

/// Most bytes that may wait to be understood: a certificate chain of the largest size that rustls takes (64 KiB) and a record.
const MAX_WAITING: usize = 96 << 10;

/// The same of a client that has proved nothing yet: its first message, or a chain of a dozen certificates.
const MAX_WAITING_OF_CLIENT: usize = 32 << 10;

/// How far a handshake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More bytes are needed from the peer.
    Waiting,
    /// Finished: call [`Handshake::finish`]. What is in `outgoing` must still be sent, before anything else.
    Done,
}

/// A TLS handshake in progress.
pub struct Handshake {
    side: Side,
    /// Bytes at the front of `incoming` that rustls has been shown.
    shown: usize,
    failed: bool,
}

enum Side {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// What a handshake ends in.
pub struct Established {
    /// To build a [`Connection`](crate::Connection) with.
    pub keys: TrafficKeys,
    /// The peer's certificates, its own first; checked. Empty only where the server's configuration asks for none.
    pub peer_certificates: Vec<CertificateDer<'static>>,
    /// How keys were exchanged, by IANA's name of the group: `X25519MLKEM768`.
    pub key_exchange: &'static str,
}

impl Handshake {
    /// Begins as the side that dialled. The first call of [`advance`](Self::advance) needs no input. `config` must have
    /// `enable_secret_extraction` and offer `h2` by ALPN.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, HandshakeError> {
        Ok(Self {
            side: Side::Client(UnbufferedClientConnection::new(config, name)?),
            shown: 0,
            failed: false,
        })
    }

    /// Begins as the side that accepted. `config` must have `enable_secret_extraction` and offer `h2` by ALPN.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub fn server(config: Arc<ServerConfig>) -> Result<Self, HandshakeError> {
        Ok(Self {
            side: Side::Server(UnbufferedServerConnection::new(config)?),
            shown: 0,
            failed: false,
        })
    }

    /// Goes as far as `incoming` allows. Bytes that were used are taken out of its front; append what is read next to its end. Bytes to
    /// send are appended to `outgoing`, also when it fails (an alert).
    ///
    /// What is left in `incoming` when this says [`Progress::Done`] belongs to [`Connection::receive`](crate::Connection::receive).
    ///
    /// # Errors
    /// The handshake failed: send `outgoing`, then close.
    pub fn advance(&mut self, incoming: &mut Vec<u8>, outgoing: &mut Vec<u8>) -> Result<Progress, HandshakeError> {
        if self.failed {
            return Err(HandshakeError::Closed);
        }
        loop {
            let window = &mut incoming[..self.shown];
            let (used, step) = match &mut self.side {
                Side::Client(connection) => step(connection.process_tls_records(window), outgoing),
                Side::Server(connection) => step(connection.process_tls_records(window), outgoing),
            };
            incoming.drain(..used);
            self.shown -= used;
            match step {
                Ok(Step::Again) => {}
                Ok(Step::Ready) if !self.common().is_handshaking() => return Ok(Progress::Done),
                Ok(Step::Ready | Step::Blocked) if self.show_more(incoming) => {}
                Ok(Step::Ready | Step::Blocked) if incoming.len() > self.max_waiting() => {
                    return Err(HandshakeError::TooLong);
                }
                Ok(Step::Ready | Step::Blocked) => return Ok(Progress::Waiting),
                Ok(Step::Closed) => return Err(HandshakeError::Closed),
                Err(error) => {
                    self.last_words(outgoing);
                    return Err(error.into());
                }
            }
        }
    }

    fn max_waiting(&self) -> usize {
        match self.side {
            Side::Client(_) => MAX_WAITING,
            Side::Server(_) => MAX_WAITING_OF_CLIENT,
        }
    }

    /// Shows rustls one more record. Never two at once: what follows the handshake must reach the connection still sealed.
    fn show_more(&mut self, incoming: &[u8]) -> bool {
        let rest = &incoming[self.shown..];
        let whole = match *rest {
            [] => return false,
            // What is no record at all is shown as it is, for rustls to refuse at once.
            [kind, ..] if !(20..=23).contains(&kind) => rest.len(),
            [_, _, _, high, low, ..] => record::HEADER + usize::from(u16::from_be_bytes([high, low])),
            _ => return false,
        };
        if whole > rest.len() {
            return false;
        }
        self.shown += whole;
        true
    }

    /// After an error rustls may have an alert to send. It is not asked for anything else: it would look for bytes that are gone, and
    /// panic.
    fn last_words(&mut self, outgoing: &mut Vec<u8>) {
        while self.common().wants_write() {
            let _ = match &mut self.side {
                Side::Client(connection) => step(connection.process_tls_records(&mut []), outgoing),
                Side::Server(connection) => step(connection.process_tls_records(&mut []), outgoing),
            };
        }
        self.failed = true;
    }

    fn common(&self) -> &CommonState {
        match &self.side {
            Side::Client(connection) => connection.deref(),
            Side::Server(connection) => connection.deref(),
        }
    }

    /// Takes the keys over.
    ///
    /// # Errors
    /// Before [`Progress::Done`], when ALPN did not agree on `h2`, or when the version is not TLS 1.3.
    pub fn finish(self) -> Result<Established, HandshakeError> {
        let common = self.common();
        if common.is_handshaking() {
            return Err(rustls::Error::HandshakeNotComplete.into());
        }
        if common.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
            return Err(HandshakeError::Version);
        }
        if common.alpn_protocol() != Some(b"h2") {
            return Err(HandshakeError::Alpn);
        }
        let peer_certificates = common
            .peer_certificates()
            .unwrap_or_default()
            .iter()
            .map(|der| der.clone().into_owned());
        let peer_certificates = peer_certificates.collect();
        let group = common.negotiated_key_exchange_group();
        let key_exchange = group.and_then(|group| group.name().as_str()).unwrap_or("unknown");
        let (secrets, renewal) = match self.side {
            Side::Client(connection) => {
                let (secrets, kernel) = connection.dangerous_into_kernel_connection()?;
                (secrets, Renewal::Client(kernel))
            }
            Side::Server(connection) => {
                let (secrets, kernel) = connection.dangerous_into_kernel_connection()?;
                (secrets, Renewal::Server(kernel))
            }
        };
        Ok(Established {
            keys: TrafficKeys::new(&secrets, renewal)?,
            peer_certificates,
            key_exchange,
        })
    }
}

/// What one look at the state of rustls led to.
enum Step {
    Again,
    Blocked,
    Ready,
    Closed,
}

/// The two sides' data, which differ in type only.
trait Data {}
impl Data for ClientConnectionData {}
impl Data for ServerConnectionData {}

/// Does what rustls asks for. Also returns how many bytes of its input are used up.
fn step<D: Data>(status: UnbufferedStatus<'_, '_, D>, outgoing: &mut Vec<u8>) -> (usize, Result<Step, rustls::Error>) {
    let UnbufferedStatus { discard, state } = status;
    let step = state.map(|state| match state {
        ConnectionState::EncodeTlsData(mut data) => {
            let start = outgoing.len();
            if let Err(EncodeError::InsufficientSize(needed)) = data.encode(&mut []) {
                outgoing.resize(start + needed.required_size, 0);
                let written = data.encode(&mut outgoing[start..]).unwrap_or(0);
                outgoing.truncate(start + written);
            }
            Step::Again
        }
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Step::Again
        }
        ConnectionState::BlockedHandshake => Step::Blocked,
        ConnectionState::WriteTraffic(_) => Step::Ready,
        // Early data is not enabled and application data is not shown to rustls, so what remains is a peer that closes.
        _ => Step::Closed,
    });
    (discard, step)
}
