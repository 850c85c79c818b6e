//! What received records say beside application data: alerts, new keys, tickets (RFC 8446 sections 4.6 and 6).
use crate::TlsError;
use crate::record::{ALERT, APPLICATION_DATA, Cipher, HANDSHAKE, Renewal};

/// Longest handshake message that may come after the handshake: a ticket with room to spare.
const MAX_MESSAGE: usize = 18 << 10;
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

/// What a record held.
pub(crate) enum Message<'b> {
    /// Application data, maybe none.
    Data(&'b [u8]),
    /// Something that concerns nobody else.
    Handled,
    /// The peer's key has changed.
    KeyUpdated,
    /// The peer's key has changed, and ours must.
    KeyUpdateRequested,
    /// The peer sends no more.
    Close,
}

/// The receiving half of a TLS connection.
pub(crate) struct Protection {
    cipher: Cipher,
    pub(crate) renewal: Renewal,
    /// A handshake message that has not come to its end.
    partial: Vec<u8>,
}

impl Protection {
    pub(crate) fn new(cipher: Cipher, renewal: Renewal) -> Self {
        Self {
            cipher,
            renewal,
            partial: Vec::new(),
        }
    }

    /// Opens a whole record in place and takes care of what it says.
    pub(crate) fn open<'b>(&mut self, record: &'b mut [u8]) -> Result<Message<'b>, TlsError> {
        let (content, plaintext) = self.cipher.open(record)?;
        if !self.partial.is_empty() && content != HANDSHAKE {
            // Section 5.1: nothing may come between the parts of a handshake message.
            return Err(TlsError::RecordType(content));
        }
        match content {
            APPLICATION_DATA => Ok(Message::Data(plaintext)),
            HANDSHAKE => self.handshake(plaintext),
            ALERT => match plaintext {
                // Section 6.1: close_notify; user_canceled announces one.
                [_, 0] => Ok(Message::Close),
                [_, 90] => Ok(Message::Handled),
                &[_, alert] => Err(TlsError::Alert(alert)),
                _ => Err(TlsError::Malformed),
            },
            other => Err(TlsError::RecordType(other)),
        }
    }

    fn handshake<'b>(&mut self, plaintext: &[u8]) -> Result<Message<'b>, TlsError> {
        if plaintext.is_empty() {
            return Err(TlsError::Malformed);
        }
        self.partial.extend_from_slice(plaintext);
        let messages = std::mem::take(&mut self.partial);
        let mut rest = &messages[..];
        while let &[kind, a, b, c, ref tail @ ..] = rest {
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            if length > MAX_MESSAGE {
                return Err(TlsError::Malformed);
            }
            let Some((body, after)) = tail.split_at_checked(length) else {
                break;
            };
            rest = after;
            match kind {
                NEW_SESSION_TICKET => self.renewal.ticket(body)?,
                KEY_UPDATE => {
                    let message = match body {
                        [0] => Message::KeyUpdated,
                        [1] => Message::KeyUpdateRequested,
                        _ => return Err(TlsError::Malformed),
                    };
                    // Section 5.1: a message before a change of keys ends its record.
                    if !rest.is_empty() {
                        return Err(TlsError::HandshakeMessage(kind));
                    }
                    self.cipher = self.renewal.rx()?;
                    return Ok(message);
                }
                other => return Err(TlsError::HandshakeMessage(other)),
            }
        }
        self.partial = rest.to_vec();
        Ok(Message::Handled)
    }
}
