//! The trusted roots as a resource beside those of the mesh.

use aws_lc_rs::digest;
use culvert_xds::server::Entry;
use prost::Message as _;
use std::sync::{Arc, LazyLock};

/// The resource's name.
static NAME: LazyLock<Arc<str>> = LazyLock::new(|| "roots".into());

/// The roots of a moment, as they go over the wire.
pub(super) struct Roots {
    pem: Arc<str>,
    /// None when there are none.
    entry: Option<Entry>,
}

impl Roots {
    /// Roots in PEM; no resource when there are none.
    pub(super) fn new(pem: &Arc<str>) -> Self {
        let hash = digest::digest(&digest::SHA256, pem.as_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&hash.as_ref()[..8]);
        let entry = Entry {
            digest: u64::from_be_bytes(first),
            // For prost, a text is the well-known type of it.
            body: pem.to_string().encode_to_vec().into(),
            aliases: Arc::from([]),
        };
        Self {
            pem: Arc::clone(pem),
            entry: (!pem.is_empty()).then_some(entry),
        }
    }

    /// In PEM; empty when there are none.
    pub(super) fn pem(&self) -> &str {
        &self.pem
    }

    /// The one resource, if there is one.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Arc<str>, &Entry)> {
        self.entry.iter().map(|entry| (&*NAME, entry))
    }
}
