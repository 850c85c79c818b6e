//! Keys of token issuers: from where they come, and what is known of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use culvert_objects::Key;

/// From where the keys of an issuer come.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A document of RFC 7517 at this URI.
    Uri(Arc<str>),
    /// The document that the issuer's OpenID configuration names.
    Issuer(Arc<str>),
}

impl Source {
    /// By which those find it that depend on its keys.
    pub fn key(&self) -> Key {
        match self {
            Self::Uri(uri) => Key::derived(&format!("keys of {uri}")),
            Self::Issuer(issuer) => Key::derived(&format!("keys of issuer {issuer}")),
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Uri(uri) => f.write_str(uri),
            Self::Issuer(issuer) => write!(f, "the OpenID configuration of {issuer}"),
        }
    }
}

/// What is known of the keys of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The last good ones.
    pub keys: Option<Arc<str>>,
    /// Why they are not the newest, and, where there are some, since when they have been the last.
    pub problem: Option<Arc<str>>,
}

/// All that was fetched. A copy shares it.
#[derive(Clone, Debug, Default)]
pub struct Fetched(Arc<BTreeMap<Source, Known>>);

impl Fetched {
    /// What is known of a source.
    pub fn get(&self, source: &Source) -> Option<&Known> {
        self.0.get(source)
    }

    /// The same with something else known of a source.
    pub fn set(&mut self, source: Source, known: Known) {
        Arc::make_mut(&mut self.0).insert(source, known);
    }

    /// Forgets a source.
    pub fn remove(&mut self, source: &Source) {
        Arc::make_mut(&mut self.0).remove(source);
    }

    /// The sources of which something else is known in `other`.
    pub fn changed<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a Source> {
        let sources = self.0.keys().chain(other.0.keys());
        sources.filter(|source| self.get(source) != other.get(source))
    }
}
