//! Kinds of which nothing is served: that their objects are there, and what those bind that would restrict somebody.

use std::fmt::Debug;
use std::marker::PhantomData;

use serde_json::Value;

use super::binding::Binding;
use super::key::Key;
use super::loose::Loose;
use super::prune;
use super::security;
use super::spec::KindSpec;
use crate::defaults;
use crate::known::Known;
use crate::name::ObjectName;

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
    /// What it names as its parents, and the version of its spec, if they are to hear that it is not served.
    parents: Option<(Value, Option<i64>)>,
    kind: PhantomData<M>,
}

impl<M: Marker> KindSpec for Unserved<M> {
    type Wire = Loose;

    fn with_defaults(mut wire: Loose) -> Loose {
        if M::KNOWN.namespaced {
            defaults::namespaced(&mut wire.metadata);
        } else {
            wire.metadata.namespace = None;
        }
        wire
    }

    fn keep(wire: Loose) -> Self {
        let restricts = M::KNOWN.restricts.applies(&wire.spec);
        Self {
            name: if M::KNOWN.namespaced {
                prune::namespaced(&wire.metadata)
            } else {
                prune::cluster(&wire.metadata)
            },
            uid: wire.metadata.uid.unwrap_or_default().into(),
            parents: M::KNOWN
                .parents
                .map(|field| (wire.spec[field].clone(), wire.metadata.generation)),
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

    fn unserved_parents(&self) -> Option<(&Value, Option<i64>)> {
        let (parents, generation) = self.parents.as_ref()?;
        Some((parents, *generation))
    }

    fn heap(&self) -> usize {
        let parents = self.parents.as_ref().map_or(0, |(parents, _)| security::bytes(parents));
        self.name.name.len() + self.uid.len() + parents + self.binding.as_ref().map_or(0, Binding::heap)
    }
}
