//! Kinds of which nothing is served: that their objects are there, and what those bind that would restrict somebody.

use std::fmt::Debug;
use std::marker::PhantomData;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{ClusterResourceScope, Metadata, Resource};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::binding::Binding;
use super::key::Key;
use super::prune;
use super::spec::KindSpec;
use crate::defaults;
use crate::known::Known;
use crate::name::ObjectName;
use crate::yaml;

/// A kind by a type that stands for it.
pub trait Marker: Debug + Clone + PartialEq + Send + Sync + 'static {
    /// What is known of the kind.
    const KNOWN: &'static Known;
}

/// An object of a kind of which nothing is served.
#[derive(Clone, Debug, PartialEq)]
pub struct Unserved<M> {
    name: ObjectName,
    uid: Box<str>,
    /// What it binds, if it would restrict who reaches that.
    binding: Option<Binding>,
    kind: PhantomData<M>,
}

/// An object of whatever kind.
#[derive(Debug, Deserialize)]
pub struct Wire {
    metadata: ObjectMeta,
    #[serde(default, deserialize_with = "plain")]
    spec: Value,
}

/// A map of YAML may have numbers for keys, which are texts in JSON.
fn plain<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    serde_yaml_ng::Value::deserialize(deserializer).map(yaml::to_json)
}

/// No kind in particular: only the metadata is asked for.
impl Resource for Wire {
    const API_VERSION: &'static str = "";
    const GROUP: &'static str = "";
    const KIND: &'static str = "";
    const VERSION: &'static str = "";
    const URL_PATH_SEGMENT: &'static str = "";
    type Scope = ClusterResourceScope;
}

impl Metadata for Wire {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl<M: Marker> KindSpec for Unserved<M> {
    type Wire = Wire;

    fn with_defaults(mut wire: Wire) -> Wire {
        if M::KNOWN.namespaced {
            defaults::namespaced(&mut wire.metadata);
        } else {
            wire.metadata.namespace = None;
        }
        wire
    }

    fn keep(wire: Wire) -> Self {
        let restricts = M::KNOWN.restricts.applies(&wire.spec);
        Self {
            name: if M::KNOWN.namespaced {
                prune::namespaced(&wire.metadata)
            } else {
                prune::cluster(&wire.metadata)
            },
            uid: wire.metadata.uid.unwrap_or_default().into(),
            binding: restricts.then(|| Binding::of(&wire.spec)),
            kind: PhantomData,
        }
    }

    fn name(&self) -> ObjectName {
        self.name.clone()
    }

    fn uid(&self) -> Option<&str> {
        Some(&self.uid)
    }

    fn label(&self, _key: &str) -> Option<&str> {
        None
    }

    fn keys(&self, name: &ObjectName) -> Vec<Key> {
        let key = self.binding.is_some().then(|| Key::restricting(&name.namespace));
        key.into_iter().collect()
    }

    fn binding(&self) -> Option<&Binding> {
        self.binding.as_ref()
    }

    fn heap(&self) -> usize {
        self.name.name.len() + self.uid.len() + self.binding.as_ref().map_or(0, Binding::heap)
    }
}
