//! TLS 1.3 record protection (RFC 8446 section 5), in place, on secrets taken over from rustls.
use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{ConnectionTrafficSecrets, ExtractedSecrets};

use culvert_h2core::{MAX_OVERHEAD, MAX_PLAINTEXT, Seal};

use crate::{HandshakeError, TlsError};

/// Bytes before the plaintext of a record: type, version, length.
pub(crate) const HEADER: usize = 5;
/// Bytes after it: the inner content type and the tag.
const TRAILER: usize = 1 + TAG;
/// Longest record body that may be received (section 5.2).
const MAX_CIPHERTEXT: usize = MAX_PLAINTEXT + 256;
const TAG: usize = 16;
/// Records that may be under way when the key is due to change: what one full output holds, with room to spare.
const REKEY_MARGIN: u64 = 1024;

/// Content types.
pub(crate) const ALERT: u8 = 21;
pub(crate) const HANDSHAKE: u8 = 22;
pub(crate) const APPLICATION_DATA: u8 = 23;

/// The alert that ends a direction in order (section 6.1).
pub(crate) const CLOSE_NOTIFY: u8 = 0;
/// The handshake message KeyUpdate (section 4.6.3): type 24, one byte, update_not_requested.
pub(crate) const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

/// The keys of an established TLS 1.3 connection, both directions, with what it takes to renew them.
pub struct TrafficKeys {
    pub(crate) tx: Cipher,
    pub(crate) rx: Cipher,
    pub(crate) renewal: Renewal,
    /// Records that may be sealed under one key.
    pub(crate) limit: u64,
}

impl TrafficKeys {
    /// Has the key changed after `records` of them at the latest, however many its cipher suite allows.
    pub fn limit_records(&mut self, records: u64) {
        self.limit = self.limit.min(records);
    }

    pub(crate) fn new(secrets: &ExtractedSecrets, renewal: Renewal) -> Result<Self, HandshakeError> {
        let cipher =
            |(sequence, secrets): &(u64, _)| Cipher::new(*sequence, secrets).ok_or(HandshakeError::CipherSuite);
        let suite = match &renewal {
            Renewal::Client(kernel) => kernel.negotiated_cipher_suite(),
            Renewal::Server(kernel) => kernel.negotiated_cipher_suite(),
        };
        let limit = suite
            .tls13()
            .ok_or(HandshakeError::Version)?
            .common
            .confidentiality_limit;
        Ok(Self {
            tx: cipher(&secrets.tx)?,
            rx: cipher(&secrets.rx)?,
            renewal,
            limit: limit.saturating_sub(REKEY_MARGIN),
        })
    }
}

/// Makes the next keys (section 7.2).
pub(crate) enum Renewal {
    Client(KernelConnection<ClientConnectionData>),
    Server(KernelConnection<ServerConnectionData>),
}

impl Renewal {
    pub(crate) fn tx(&mut self) -> Result<Cipher, TlsError> {
        renewed(match self {
            Self::Client(kernel) => kernel.update_tx_secret(),
            Self::Server(kernel) => kernel.update_tx_secret(),
        })
    }

    pub(crate) fn rx(&mut self) -> Result<Cipher, TlsError> {
        renewed(match self {
            Self::Client(kernel) => kernel.update_rx_secret(),
            Self::Server(kernel) => kernel.update_rx_secret(),
        })
    }

    /// Keeps a NewSessionTicket where the client's configuration wants it; a server gets none.
    pub(crate) fn ticket(&mut self, payload: &[u8]) -> Result<(), TlsError> {
        match self {
            Self::Client(kernel) => kernel
                .handle_new_session_ticket(payload)
                .map_err(|_| TlsError::Malformed),
            Self::Server(_) => Err(TlsError::HandshakeMessage(4)),
        }
    }
}

fn renewed(secrets: Result<(u64, ConnectionTrafficSecrets), rustls::Error>) -> Result<Cipher, TlsError> {
    let (sequence, secrets) = secrets.map_err(|error| TlsError::Keys(error.to_string()))?;
    Cipher::new(sequence, &secrets).ok_or_else(|| TlsError::Keys("cipher suite without support".into()))
}

/// One direction: key, nonce base and the number of the next record.
pub(crate) struct Cipher {
    key: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
}

impl Cipher {
    fn new(sequence: u64, secrets: &ConnectionTrafficSecrets) -> Option<Self> {
        let (algorithm, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&aead::AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&aead::AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&aead::CHACHA20_POLY1305, key, iv),
            _ => return None,
        };
        let key = LessSafeKey::new(UnboundKey::new(algorithm, key.as_ref()).ok()?);
        Some(Self {
            key,
            iv: iv.as_ref().try_into().ok()?,
            sequence,
        })
    }

    /// Section 5.3. A sequence number is used once: it moves on with every nonce.
    fn nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        for (byte, number) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= number;
        }
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce)
    }

    /// Seals a record in place: `record` is [`HEADER`] bytes of room, at most [`MAX_PLAINTEXT`] of plaintext, [`TRAILER`] of room.
    /// After an error the plaintext still lies there.
    pub(crate) fn seal(&mut self, content: u8, record: &mut [u8]) -> Result<(), TlsError> {
        let (header, body) = record.split_at_mut(HEADER);
        let length = (body.len() as u16).to_be_bytes();
        header.copy_from_slice(&[APPLICATION_DATA, 3, 3, length[0], length[1]]);
        debug_assert!(body.len() >= TRAILER && body.len() <= MAX_PLAINTEXT + TRAILER);
        let (inner, tag) = body.split_at_mut(body.len() - TAG);
        if let Some(last) = inner.last_mut() {
            *last = content;
        }
        let nonce = self.nonce();
        let sealed = self.key.seal_in_place_separate_tag(nonce, Aad::from(&*header), inner);
        tag.copy_from_slice(
            sealed
                .map_err(|_| TlsError::Keys("a record cannot be sealed".into()))?
                .as_ref(),
        );
        Ok(())
    }

    /// Opens a whole record in place. Returns content type and plaintext.
    pub(crate) fn open<'b>(&mut self, record: &'b mut [u8]) -> Result<(u8, &'b [u8]), TlsError> {
        let (header, body) = record.split_at_mut(HEADER);
        if body.len() < TRAILER {
            return Err(TlsError::RecordLength(body.len()));
        }
        let nonce = self.nonce();
        let inner = self
            .key
            .open_in_place(nonce, Aad::from(&*header), body)
            .map_err(|_| TlsError::Decrypt)?;
        if inner.len() > MAX_PLAINTEXT + 1 {
            return Err(TlsError::RecordLength(inner.len()));
        }
        // Section 5.4: the content type is the last byte that is not zero; zeros are padding.
        let mut end = inner.len();
        while end > 0 {
            end -= 1;
            if inner[end] != 0 {
                return Ok((inner[end], &inner[..end]));
            }
        }
        Err(TlsError::RecordType(0))
    }
}

/// The records of one connection's output, none where there is no TLS.
pub(crate) struct Records(Option<Sealer>);

struct Sealer {
    cipher: Cipher,
    /// Records under one key.
    limit: u64,
}

impl Records {
    pub(crate) fn new(cipher: Cipher, limit: u64) -> Self {
        Self(Some(Sealer { cipher, limit }))
    }

    pub(crate) fn none() -> Self {
        Self(None)
    }

    pub(crate) fn is_sealing(&self) -> bool {
        self.0.is_some()
    }

    /// Whether the key has been used for as many records as it may.
    pub(crate) fn wants_key_update(&self) -> bool {
        self.0
            .as_ref()
            .is_some_and(|sealer| sealer.cipher.sequence >= sealer.limit)
    }

    pub(crate) fn change_key(&mut self, cipher: Cipher) {
        if let Some(sealer) = &mut self.0 {
            sealer.cipher = cipher;
        }
    }
}

impl Seal for Records {
    type Error = TlsError;

    #[inline]
    fn lead(&self) -> usize {
        if self.is_sealing() { HEADER } else { 0 }
    }

    #[inline]
    fn trail(&self) -> usize {
        if self.is_sealing() { TRAILER } else { 0 }
    }

    fn seal(&mut self, content: Option<u8>, record: &mut [u8]) -> Result<(), TlsError> {
        match &mut self.0 {
            Some(sealer) => sealer.cipher.seal(content.unwrap_or(APPLICATION_DATA), record),
            None => Ok(()),
        }
    }
}

const _: () = assert!(HEADER + TRAILER <= MAX_OVERHEAD);

/// Takes the first record off `input`, header included; none while it is not whole.
pub(crate) fn split<'b>(input: &mut &'b mut [u8]) -> Result<Option<&'b mut [u8]>, TlsError> {
    let &[kind, _, _, high, low, ..] = &**input else {
        return Ok(None);
    };
    if kind != APPLICATION_DATA {
        return Err(TlsError::RecordType(kind));
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_CIPHERTEXT {
        return Err(TlsError::RecordLength(length));
    }
    if input.len() < HEADER + length {
        return Ok(None);
    }
    let (record, rest) = std::mem::take(input).split_at_mut(HEADER + length);
    *input = rest;
    Ok(Some(record))
}
