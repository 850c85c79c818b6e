//! A response as the server holds it until it is written: it shares names and contents with the state that it is made of, so that
//! one that waits for a slow client costs little, however long it is on the wire.

use std::sync::Arc;

use culvert_proto::discovery::{DeltaDiscoveryResponse, Resource};
use prost::length_delimiter_len;

use crate::resources::Entry;

/// A response to one client.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// The type of all its resources.
    pub type_url: &'static str,
    /// By which the client acknowledges it.
    pub nonce: String,
    /// New or changed resources, sorted by name.
    pub resources: Vec<Sent>,
    /// Names that no longer exist, or were asked for and never existed, sorted.
    pub removed: Vec<Arc<str>>,
}

/// A resource of a response.
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    /// Its name.
    pub name: Arc<str>,
    /// What it is.
    pub entry: Entry,
    /// Whether the client is told of its aliases.
    pub has_aliases: bool,
}

impl Response {
    /// The message, all at once.
    pub fn into_message(mut self) -> DeltaDiscoveryResponse {
        let resources = std::mem::take(&mut self.resources);
        DeltaDiscoveryResponse {
            resources: resources.iter().map(|sent| sent.message(self.type_url)).collect(),
            ..self.head()
        }
    }

    /// The message without its resources.
    pub fn head(&self) -> DeltaDiscoveryResponse {
        DeltaDiscoveryResponse {
            removed_resources: self.removed.iter().map(|name| name.to_string()).collect(),
            type_url: self.type_url.to_owned(),
            nonce: self.nonce.clone(),
            ..DeltaDiscoveryResponse::default()
        }
    }
}

impl Sent {
    /// The message; `type_url` is the response's.
    pub fn message(&self, type_url: &str) -> Resource {
        Resource {
            name: self.name.to_string(),
            version: self.entry.version(),
            aliases: self.aliases().map(|alias| alias.to_string()).collect(),
            resource: Some(prost_types::Any {
                type_url: type_url.to_owned(),
                value: self.entry.body.to_vec(),
            }),
            ..Resource::default()
        }
    }

    /// How many bytes that message has, without making it.
    pub fn encoded_len(&self, type_url: &str) -> usize {
        let any = present(type_url.len()) + present(self.entry.body.len());
        let aliases: usize = self.aliases().map(|alias| field(alias.len())).sum();
        present(Entry::VERSION_LEN) + field(any) + present(self.name.len()) + aliases
    }

    fn aliases(&self) -> impl Iterator<Item = &Arc<str>> {
        self.entry.aliases.iter().filter(|_| self.has_aliases)
    }
}

/// A field of so many bytes, with its length and its tag, which is below 16.
fn field(length: usize) -> usize {
    1 + length_delimiter_len(length) + length
}

/// The same, which is left out where it is empty.
fn present(length: usize) -> usize {
    match length {
        0 => 0,
        length => field(length),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    proptest! {
        #[test]
        fn the_length_of_a_resource_is_that_of_its_message(
            name in ".{0,200}",
            type_url in ".{0,60}",
            body in proptest::collection::vec(any::<u8>(), 0..40_000),
            aliases in proptest::collection::vec(".{0,20}", 0..4),
            digest: u64,
            has_aliases: bool,
        ) {
            let sent = Sent {
                name: name.into(),
                entry: Entry { digest, body: body.into(), aliases: aliases.into_iter().map(Arc::from).collect() },
                has_aliases,
            };
            prop_assert_eq!(sent.encoded_len(&type_url), sent.message(&type_url).encoded_len());
        }
    }
}
