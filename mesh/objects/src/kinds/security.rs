//! AuthorizationPolicy, PeerAuthentication and RequestAuthentication of Istio: whom they bind, and what they say, word for word. What that means is
//! `culvert_policy`'s to say: an object that is wrong in one place must not be left out as a whole, since it may deny.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::{Metadata, NamespaceResourceScope, Resource};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::binding::Binding;
use super::key::Key;
use super::prune;
use super::selector::Selector;
use super::spec::KindSpec;
use crate::defaults;
use crate::name::ObjectName;
use crate::yaml;

/// Says that a policy is only tried out.
const DRY_RUN: &str = "istio.io/dry-run";

macro_rules! security_kinds {
    ($($(#[$doc:meta])* $kind:ident, $wire:ident, $name:literal, $plural:literal, $binding:path;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $kind {
            /// Namespace and name.
            pub name: ObjectName,
            /// Tells it from others of the same name, before and after.
            pub uid: Box<str>,
            /// Since when it is there; none for one from a file.
            pub created: Option<Time>,
            /// The value of its annotation `istio.io/dry-run`.
            pub dry_run: Option<Box<str>>,
            /// Which pods it binds.
            pub selector: Selector,
            /// The objects that it binds instead, which is a waypoint's to enforce.
            binding: Option<Binding>,
            /// Its `spec`, as it is written.
            pub spec: Arc<Value>,
        }

        /// The same as an API server or a file has it.
        #[derive(Debug, Default, Deserialize)]
        pub struct $wire {
            #[serde(default)]
            metadata: ObjectMeta,
            #[serde(default, deserialize_with = "json")]
            spec: Value,
        }

        impl Resource for $wire {
            const API_VERSION: &'static str = "security.istio.io/v1";
            const GROUP: &'static str = "security.istio.io";
            const KIND: &'static str = $name;
            const VERSION: &'static str = "v1";
            const URL_PATH_SEGMENT: &'static str = $plural;
            type Scope = NamespaceResourceScope;
        }

        impl Metadata for $wire {
            type Ty = ObjectMeta;

            fn metadata(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn metadata_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }

        impl KindSpec for $kind {
            type Wire = $wire;

            fn with_defaults(mut wire: $wire) -> $wire {
                defaults::namespaced(&mut wire.metadata);
                wire
            }

            fn keep(wire: $wire) -> Self {
                let annotations = wire.metadata.annotations.as_ref();
                Self {
                    name: prune::namespaced(&wire.metadata),
                    dry_run: annotations.and_then(|all| all.get(DRY_RUN)).map(|value| value.as_str().into()),
                    uid: wire.metadata.uid.unwrap_or_default().into(),
                    created: wire.metadata.creation_timestamp,
                    selector: Selector::of(&wire.spec),
                    binding: $binding(&wire.spec),
                    spec: Arc::new(wire.spec),
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
                let targets = self.binding.iter().flat_map(Binding::targets);
                let targets = targets.map(|target| Key::target(&target.kind, &target.object(name)));
                let provider = self.spec["provider"]["name"].as_str().map(Key::provider);
                let keys = self.selector.keys($name, name).into_iter();
                keys.chain(key).chain(targets).chain(provider).collect()
            }

            fn binding(&self) -> Option<&Binding> {
                self.binding.as_ref()
            }

            fn heap(&self) -> usize {
                self.uid.len() + bytes(&self.spec) + self.binding.as_ref().map_or(0, Binding::heap)
            }
        }
    )*};
}

security_kinds! {
    /// Who may connect to the pods that it binds.
    AuthorizationPolicy, AuthorizationPolicyWire, "AuthorizationPolicy", "authorizationpolicies", targets;
    /// Whether peers of the pods that it binds need a certificate.
    PeerAuthentication, PeerAuthenticationWire, "PeerAuthentication", "peerauthentications", targets;
    /// Which tokens of people count, and what of them is handed on.
    RequestAuthentication, RequestAuthenticationWire, "RequestAuthentication", "requestauthentications", tokens;
}

/// The objects that it is for.
fn targets(spec: &Value) -> Option<Binding> {
    Binding::of_targets(spec)
}

impl AuthorizationPolicy {
    /// Whether it decides about anybody: it does not where it audits, or is tried out.
    pub fn decides(&self) -> bool {
        self.spec["action"] != "AUDIT" && self.dry_run.as_deref() != Some("true")
    }
}

/// What an object about tokens binds: only waypoints read tokens, so that it is enforced for nothing else.
#[expect(clippy::unnecessary_wraps, reason = "as the others have it")]
fn tokens(spec: &Value) -> Option<Binding> {
    Some(Binding::of(spec))
}

/// JSON of whatever it is.
fn json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    serde_yaml_ng::Value::deserialize(deserializer).map(yaml::to_json)
}

/// About how many bytes it takes beside its own structure.
pub(super) fn bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(|item| size_of_val(item) + bytes(item)).sum(),
        Value::Object(members) => {
            let member =
                |(key, value): (&String, &Value)| size_of_val(key) + key.len() + size_of_val(value) + bytes(value);
            members.iter().map(member).sum()
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::kinds::Object;

    #[test]
    fn a_policy_from_yaml_says_what_is_written_whatever_its_types() {
        let text = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: a}\n\
                    spec: {mtls: 7, portLevelMtls: {8080: {mode: STRICT}}, selector: {matchLabels: {app: web}}}\n";
        let parsed = crate::parse(text, false);
        assert!(parsed.faults.is_empty(), "{:?}", parsed.faults);
        let Object::PeerAuthentication(read) = &parsed.documents[0].object else {
            panic!("{:?}", parsed.documents)
        };
        assert_eq!(read.spec["portLevelMtls"]["8080"]["mode"], "STRICT");
        assert_eq!(read.spec["mtls"], 7);
        assert_eq!(read.name.to_string(), "default/a");
    }
}
