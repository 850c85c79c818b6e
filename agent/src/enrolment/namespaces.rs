//! The network namespaces of pods, for who shows what is in them.

use std::{collections::BTreeMap, sync::Arc};

use culvert_net::Netns;

/// By cookie, which tells two of them apart for good.
#[derive(Clone, Debug, Default)]
pub struct Namespaces(BTreeMap<u64, Arc<Netns>>);

impl Namespaces {
    /// The one with this cookie.
    pub fn get(&self, cookie: u64) -> Option<&Netns> {
        self.0.get(&cookie).map(Arc::as_ref)
    }
}

impl FromIterator<(u64, Arc<Netns>)> for Namespaces {
    fn from_iter<I: IntoIterator<Item = (u64, Arc<Netns>)>>(all: I) -> Self {
        Self(all.into_iter().collect())
    }
}

impl PartialEq for Namespaces {
    fn eq(&self, other: &Self) -> bool {
        self.0.keys().eq(other.0.keys())
    }
}

impl Eq for Namespaces {}
