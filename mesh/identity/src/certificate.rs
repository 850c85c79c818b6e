//! Reading X.509 certificates.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::{IdentityError, SpiffeId};

/// The identity in a certificate: the one URI of its subject alternative names.
///
/// # Errors
/// When the certificate does not parse, names no URI or several (X509-SVID, section 2), or the URI is no workload's.
pub fn peer_identity(certificate: &CertificateDer<'_>) -> Result<SpiffeId, IdentityError> {
    identity_of(&parse(certificate)?)
}

/// The end of a certificate's validity.
///
/// # Errors
/// When the certificate does not parse.
pub fn peer_expiry(certificate: &CertificateDer<'_>) -> Result<SystemTime, IdentityError> {
    let seconds = parse(certificate)?.validity().not_after.timestamp();
    Ok(UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

pub(crate) fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, IdentityError> {
    match X509Certificate::from_der(certificate) {
        Ok((_, parsed)) => Ok(parsed),
        Err(error) => Err(IdentityError::Parse(error.to_string())),
    }
}

pub(crate) fn identity_of(certificate: &X509Certificate<'_>) -> Result<SpiffeId, IdentityError> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| IdentityError::Parse(error.to_string()))?
        .map(|extension| extension.value.general_names.as_slice())
        .unwrap_or_default();
    let uris: Vec<&str> = names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    match uris.as_slice() {
        [uri] => Ok(SpiffeId::parse(uri)?),
        _ => Err(IdentityError::Uris(uris.len())),
    }
}

/// All certificates of a PEM text.
pub(crate) fn from_pem(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| IdentityError::Pem { what })?;
    if certificates.is_empty() {
        return Err(IdentityError::Pem { what });
    }
    Ok(certificates)
}
