//! What the certificates say that are signed here.

use std::time::Duration;

use culvert_identity::SpiffeId;
use rcgen::{CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, KeyUsagePurpose, SanType};
use time::OffsetDateTime;

/// Nodes whose clocks are behind must accept what was just made.
pub(super) const BACKDATE: time::Duration = time::Duration::minutes(10);

/// The shortest leaf: below, renewal at half life would be a flood.
pub(super) const SHORTEST: Duration = Duration::from_secs(60);

/// A workload's, for `validity` from `now`, but not beyond `end`, which is when what signs it ends.
pub(super) fn workload(
    identity: &SpiffeId,
    now: OffsetDateTime,
    validity: Duration,
    end: OffsetDateTime,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = leaf(now, validity, end);
    params.subject_alt_names = vec![SanType::URI(identity.as_str().try_into()?)];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

/// A server's, for DNS names and addresses.
pub(super) fn server(
    names: &[String],
    now: OffsetDateTime,
    validity: Duration,
    end: OffsetDateTime,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = leaf(now, validity, end);
    params.subject_alt_names = CertificateParams::new(names.to_vec())?.subject_alt_names;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

fn leaf(now: OffsetDateTime, validity: Duration, end: OffsetDateTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params.not_before = now - BACKDATE;
    params.not_after = (now + validity).min(end);
    params
}
