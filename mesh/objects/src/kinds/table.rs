//! What follows from the table of kinds in this folder's `mod.rs`: enumerations, the sets of all objects, and what goes through
//! all kinds.

/// The table of kinds, whose second half has those of which nothing is served: each gets a type that stands for it.
macro_rules! kinds {
    (
        $($(#[$doc:meta])* $field:ident: $kind:ident {
            $group:literal, $version:literal $(or $older:literal)*, $plural:literal, $namespaced:literal, $presence:ident,
            $metadata_only:literal
        })*
        @unserved $($unserved_field:ident: $unserved:ident = $known:path;)*
    ) => {
        $(
            #[doc = concat!("Stands for the kind [`Kind::", stringify!($unserved), "`], of which nothing is served.")]
            #[derive(Clone, Debug, PartialEq)]
            pub enum $unserved {}

            impl Marker for $unserved {
                const KNOWN: &'static Known = &$known;
            }
        )*

        all_kinds! {
            $($(#[$doc])* $field: $kind = $kind {
                name: stringify!($kind),
                title: stringify!($kind),
                group: $group,
                versions: &[$version $(, $older)*],
                plural: $plural,
                namespaced: $namespaced,
                presence: Presence::$presence,
                metadata_only: $metadata_only,
                unserved: None,
            })*
            $(#[doc = "Nothing of it is served."] $unserved_field: $unserved = Unserved<$unserved> {
                name: $known.kind,
                title: $known.title,
                group: $known.group,
                versions: $known.versions,
                plural: $known.plural,
                namespaced: $known.namespaced,
                presence: Presence::Optional,
                metadata_only: $known.is_metadata_enough(),
                unserved: Some(&$known),
            })*
        }
    };
}

macro_rules! all_kinds {
    ($($(#[$doc:meta])* $field:ident: $kind:ident = $type:ty { $($property:ident: $value:expr,)* })*) => {
        /// A kind that the mesh reads.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        /// All objects at one moment. A copy shares them; an object that did not change keeps its `Arc` from one moment to
        /// the next, so that comparing pointers tells what changed.
        #[derive(Clone, Debug, Default)]
        pub struct Objects {
            $($(#[$doc])* pub $field: PersistentMap<ObjectName, Arc<$type>>,)*
        }

        /// One object of a kind that the mesh reads.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Object {
            $($(#[$doc])* $kind(Arc<$type>),)*
        }

        static DESCRIPTORS: &[Descriptor] = &[$(Descriptor {
            kind: Kind::$kind,
            $($property: $value,)*
            read: |value| read(value).map(Object::$kind),
        }),*];

        impl Kind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$kind),*];
        }

        impl Objects {
            /// The object of a kind and a name.
            pub fn get(&self, kind: Kind, name: &ObjectName) -> Option<Object> {
                match kind {
                    $(Kind::$kind => self.$field.get(name).cloned().map(Object::$kind),)*
                }
            }

            /// Puts an object in the place of its predecessor and returns that.
            pub fn insert(&mut self, name: ObjectName, object: Object) -> Option<Object> {
                match object {
                    $(Object::$kind(object) => self.$field.insert(name, object).map(Object::$kind),)*
                }
            }

            /// Takes an object out.
            pub fn remove(&mut self, kind: Kind, name: &ObjectName) -> Option<Object> {
                match kind {
                    $(Kind::$kind => self.$field.remove(name).map(Object::$kind),)*
                }
            }

            /// How many objects there are of a kind.
            pub fn count(&self, kind: Kind) -> usize {
                match kind {
                    $(Kind::$kind => self.$field.len(),)*
                }
            }

            /// The names of a kind's objects, in order.
            pub fn names(&self, kind: Kind) -> Box<dyn Iterator<Item = &ObjectName> + '_> {
                match kind {
                    $(Kind::$kind => Box::new(self.$field.keys()),)*
                }
            }

            /// The names of a kind's objects in a namespace, in order.
            pub fn names_in(&self, kind: Kind, namespace: &str) -> Vec<ObjectName> {
                match kind {
                    $(Kind::$kind => in_namespace(&self.$field, namespace).map(|(name, _)| name.clone()).collect(),)*
                }
            }

            /// The names of a kind's objects that are others, new or gone in `now`.
            pub fn changed(&self, kind: Kind, now: &Self) -> Vec<ObjectName> {
                match kind {
                    $(Kind::$kind => self.$field.changed(&now.$field),)*
                }
            }

            /// Whether both are copies of one moment.
            pub fn is_same(&self, other: &Self) -> bool {
                $(self.$field.is_same(&other.$field))&&*
            }
        }

        impl Object {
            /// The kind.
            pub fn kind(&self) -> Kind {
                match self {
                    $(Self::$kind(_) => Kind::$kind,)*
                }
            }

            /// Namespace and name.
            pub fn name(&self) -> ObjectName {
                match self {
                    $(Self::$kind(object) => KindSpec::name(&**object),)*
                }
            }

            /// What tells it from others of the same name, before and after, if that is kept.
            pub fn uid(&self) -> Option<&str> {
                match self {
                    $(Self::$kind(object) => KindSpec::uid(&**object),)*
                }
            }

            /// What it binds, if it would restrict who reaches that and is not enforced.
            pub fn binding(&self) -> Option<&Binding> {
                match self {
                    $(Self::$kind(object) => KindSpec::binding(&**object),)*
                }
            }

            /// What it names as its parents, of a kind of which nothing else is read: see [`KindSpec::unserved_parents`].
            pub fn unserved_parents(&self) -> Option<(&serde_json::Value, Option<i64>)> {
                match self {
                    $(Self::$kind(object) => KindSpec::unserved_parents(&**object),)*
                }
            }

            /// What is known of its kind, and its spec, if that is kept as written.
            pub(crate) fn written(&self) -> Option<(&'static Known, &serde_json::Value)> {
                match self {
                    $(Self::$kind(object) => KindSpec::written(&**object),)*
                }
            }

            /// The value of a label, or of one that is read at least.
            pub fn label(&self, key: &str) -> Option<&str> {
                match self {
                    $(Self::$kind(object) => KindSpec::label(&**object, key),)*
                }
            }

            /// Whether both are the very same object, by pointer.
            pub fn is_same(&self, other: &Self) -> bool {
                match (self, other) {
                    $((Self::$kind(a), Self::$kind(b)) => Arc::ptr_eq(a, b),)*
                    _ => false,
                }
            }

            /// By what others find it, beside its name.
            pub fn keys(&self, name: &ObjectName) -> Vec<Key> {
                match self {
                    $(Self::$kind(object) => KindSpec::keys(&**object, name),)*
                }
            }

            /// About how many bytes it takes: the structure itself, and what it alone holds.
            pub fn bytes(&self) -> usize {
                match self {
                    $(Self::$kind(object) => size_of_val(&**object) + object.heap(),)*
                }
            }
        }

        $(impl Held for $type {
            const KIND: Kind = Kind::$kind;

            fn map(objects: &Objects) -> &PersistentMap<ObjectName, Arc<Self>> {
                &objects.$field
            }
        })*

        /// Reads a document of files, if the mesh reads its kind.
        pub(crate) fn typed(
            api_version: &str,
            kind: &str,
            value: &serde_yaml_ng::Value,
            source: Option<&str>,
        ) -> Option<Result<Object, Problem>> {
            $(if Kind::$kind.descriptor().reads(api_version, kind) {
                let wire = crate::yaml::read::<<$type as KindSpec>::Wire>(value, source);
                let object = wire.and_then(|wire| made::<$type>(<$type as KindSpec>::with_defaults(wire)));
                return Some(object.map(Object::$kind));
            })*
            None
        }
    };
}
