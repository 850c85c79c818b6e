//! Culvert's own metadata of an endpoint ([`CULVERT`](crate::CULVERT)): texts by these names. What is empty is left out.

use std::collections::BTreeMap;

use crate::pb::google::protobuf::{Struct, Value, value::Kind};

/// What the metadata says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// The workload's resource name. Tells an endpoint from another that has its address later.
    pub uid: String,
    /// The SPIFFE ID that must answer in the tunnel. Empty for what is reached in clear; an endpoint in the tunnel without one is not used.
    pub identity: String,
    /// The pod's name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// What it belongs to: a Deployment's name, for example.
    pub workload: String,
    /// Its canonical service.
    pub canonical_name: String,
    /// Its canonical revision.
    pub canonical_revision: String,
    /// The cluster that it is in.
    pub cluster: String,
    /// The node that it is on.
    pub node: String,
}

impl About {
    /// As metadata.
    pub fn to_metadata(&self) -> Struct {
        let fields = self.fields().into_iter().filter(|(_, value)| !value.is_empty());
        let text = |value: &str| Value {
            kind: Some(Kind::StringValue(value.to_owned())),
        };
        Struct {
            fields: fields.map(|(name, value)| (name.to_owned(), text(value))).collect(),
        }
    }

    /// From metadata. What is not there or no text is empty; names that are not known are passed over.
    pub fn of(metadata: &Struct) -> Self {
        let mut texts: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, value) in &metadata.fields {
            if let Some(Kind::StringValue(text)) = &value.kind {
                texts.insert(name, text);
            }
        }
        let text = |name: &str| texts.get(name).copied().unwrap_or_default().to_owned();
        Self {
            uid: text("uid"),
            identity: text("identity"),
            name: text("name"),
            namespace: text("namespace"),
            workload: text("workload"),
            canonical_name: text("canonical_name"),
            canonical_revision: text("canonical_revision"),
            cluster: text("cluster"),
            node: text("node"),
        }
    }

    fn fields(&self) -> [(&'static str, &str); 9] {
        [
            ("uid", &self.uid),
            ("identity", &self.identity),
            ("name", &self.name),
            ("namespace", &self.namespace),
            ("workload", &self.workload),
            ("canonical_name", &self.canonical_name),
            ("canonical_revision", &self.canonical_revision),
            ("cluster", &self.cluster),
            ("node", &self.node),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_comes_back_as_it_was_and_says_nothing_of_what_is_empty() {
        let about = About {
            uid: "Kubernetes//Pod/shop/web".to_owned(),
            identity: "spiffe://cluster.local/ns/shop/sa/web".to_owned(),
            name: "web".to_owned(),
            namespace: "shop".to_owned(),
            ..About::default()
        };
        let metadata = about.to_metadata();
        assert_eq!(metadata.fields.len(), 4);
        assert_eq!(About::of(&metadata), about);
    }
}
