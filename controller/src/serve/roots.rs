//! The trusted roots as a resource beside those of the mesh.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::digest;
use culvert_proto::ROOTS_TYPE;
use culvert_xds::server::{Entry, Resources};
use prost::Message as _;

use crate::snapshot::Snapshot;

/// The resource's name.
const NAME: &str = "roots";

/// The roots of a moment, as they go over the wire.
pub(super) struct Roots {
    entries: BTreeMap<&'static str, Entry>,
}

/// The mesh's resources and the roots.
pub(super) struct View<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) roots: &'a Roots,
}

impl Roots {
    /// Roots in PEM; no resource when there are none.
    pub(super) fn new(pem: &str) -> Self {
        let hash = digest::digest(&digest::SHA256, pem.as_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&hash.as_ref()[..8]);
        let entry = Entry {
            version: format!("{:016x}", u64::from_be_bytes(first)).into(),
            digest: u64::from_be_bytes(first),
            // For prost, a text is the well-known type of it.
            body: pem.to_owned().encode_to_vec().into(),
            aliases: Arc::from([]),
        };
        let entries = (!pem.is_empty()).then_some((NAME, entry));
        Self {
            entries: entries.into_iter().collect(),
        }
    }
}

impl Resources for View<'_> {
    fn all<'a>(&'a self, type_url: &str) -> Option<Box<dyn Iterator<Item = (&'a str, &'a Entry)> + 'a>> {
        if type_url == ROOTS_TYPE {
            return Some(Box::new(self.roots.entries.iter().map(|(name, entry)| (*name, entry))));
        }
        self.snapshot.all(type_url)
    }

    fn get(&self, type_url: &str, name: &str) -> Option<&Entry> {
        if type_url == ROOTS_TYPE {
            return self.roots.entries.get(name);
        }
        self.snapshot.get(type_url, name)
    }

    fn expand(&self, type_url: &str, name: &str) -> Vec<String> {
        if type_url == ROOTS_TYPE {
            return self
                .roots
                .entries
                .contains_key(name)
                .then(|| name.to_owned())
                .into_iter()
                .collect();
        }
        self.snapshot.expand(type_url, name)
    }

    fn initial(&self, type_url: &str, node: &str) -> Vec<String> {
        if type_url == ROOTS_TYPE {
            return self.roots.entries.keys().map(|name| (*name).to_owned()).collect();
        }
        self.snapshot.initial(type_url, node)
    }
}
