//! By what two messages are known to say the same.

use std::hash::{DefaultHasher, Hash, Hasher};

use culvert_envoy::pb::envoy::config::cluster::v3::Cluster;
use prost::Message;

/// Equal for equal messages, if they have no maps, or these come in the same order.
pub(super) fn of(message: &impl Message) -> u64 {
    digest(&message.encode_to_vec())
}

/// The same of a cluster, in whatever order its maps come: on the wire they have none.
pub(super) fn of_cluster(message: &Cluster) -> u64 {
    let mut rest = message.clone();
    let mut entries: Vec<(String, String, Vec<u8>)> = Vec::new();
    for (name, options) in std::mem::take(&mut rest.typed_extension_protocol_options) {
        entries.push((name, "options".to_owned(), options.encode_to_vec()));
    }
    let metadata = rest.metadata.take().unwrap_or_default();
    for (name, value) in metadata.typed_filter_metadata {
        entries.push((name, "typed".to_owned(), value.encode_to_vec()));
    }
    for (name, fields) in metadata.filter_metadata {
        for (field, value) in fields.fields {
            entries.push((name.clone(), format!("field {field}"), value.encode_to_vec()));
        }
    }
    entries.sort_unstable();
    digest(&(entries, rest.encode_to_vec()))
}

fn digest(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use culvert_envoy::pb::google::protobuf::Any;

    use super::*;

    #[test]
    fn the_order_of_a_map_says_nothing_and_its_content_does() {
        let options = |type_url: &str| Any {
            type_url: type_url.to_owned(),
            value: Vec::new(),
        };
        let with = |names: &[&str]| Cluster {
            typed_extension_protocol_options: names.iter().map(|name| ((*name).to_owned(), options(name))).collect(),
            ..Cluster::default()
        };
        let names = ["a", "b", "c", "d", "e", "f"];
        for _ in 0..10 {
            assert_eq!(of_cluster(&with(&names)), of_cluster(&with(&names)));
        }
        assert_ne!(of_cluster(&with(&names)), of_cluster(&with(&names[1..])));
    }
}
