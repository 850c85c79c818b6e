//! Why there is no TLS with an endpoint.

use std::{error::Error as _, io, time::Duration};

use rustls::{CertificateError, Error};

use super::verify::is_other_name;

/// Why there is no TLS with an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("TLS with the endpoint: {why}")]
pub struct Failure {
    /// In a word.
    pub reason: Reason,
    /// For people.
    pub why: String,
}

/// The same in a word, as metrics have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Nobody who is trusted has signed the server's certificate.
    Issuer,
    /// It is for somebody else.
    Name,
    /// Its time is over, or has not come.
    Time,
    /// Something else is wrong with it.
    Certificate,
    /// The server does not want us, or nothing that we offer.
    Refused,
    /// What came is no TLS.
    Protocol,
    /// The connection ended.
    Ended,
    /// It took too long.
    Timeout,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Issuer,
        Self::Name,
        Self::Time,
        Self::Certificate,
        Self::Refused,
        Self::Protocol,
        Self::Ended,
        Self::Timeout,
    ];

    /// As labels have it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Issuer => "issuer",
            Self::Name => "name",
            Self::Time => "time",
            Self::Certificate => "certificate",
            Self::Refused => "refused",
            Self::Protocol => "protocol",
            Self::Ended => "ended",
            Self::Timeout => "timeout",
        }
    }
}

impl Failure {
    pub(crate) fn timeout(within: Duration) -> Self {
        Self {
            reason: Reason::Timeout,
            why: format!("not within {within:?}"),
        }
    }

    pub(super) fn of(error: &io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        let reason = match inner {
            None => Reason::Ended,
            Some(Error::InvalidCertificate(certificate)) => match certificate {
                CertificateError::UnknownIssuer | CertificateError::BadSignature => Reason::Issuer,
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Reason::Time,
                other if is_other_name(other) => Reason::Name,
                _ => Reason::Certificate,
            },
            Some(Error::AlertReceived(_) | Error::NoApplicationProtocol | Error::PeerIncompatible(_)) => {
                Reason::Refused
            }
            Some(_) => Reason::Protocol,
        };
        // What is inside says its own name again.
        let why = match inner {
            Some(inner) => inner
                .source()
                .map_or_else(|| inner.to_string(), |_| crate::causes(inner)),
            None => error.to_string(),
        };
        Self { reason, why }
    }
}
