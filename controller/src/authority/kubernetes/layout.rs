//! How Secrets hold a signing certificate.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::authority::Material;

/// The Secret's keys, which are cert-manager's.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const ROOTS: &str = "ca.crt";

pub(super) fn rfc3339(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}

pub(super) fn material(secret: &Secret) -> Material {
    let text = |key: &str| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(key));
        bytes
            .map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned())
            .unwrap_or_default()
    };
    Material {
        certificate: text(CERTIFICATE),
        key: text(KEY),
        roots: text(ROOTS),
    }
}

pub(super) fn data(material: &Material) -> BTreeMap<String, ByteString> {
    let text = |text: &str| ByteString(text.as_bytes().to_vec());
    [
        (CERTIFICATE, text(&material.certificate)),
        (KEY, text(&material.key)),
        (ROOTS, text(&material.roots)),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}
