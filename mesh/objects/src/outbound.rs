//! What the pods of a namespace may reach beside what the mesh knows, by an annotation of the namespace.

use crate::kinds::Namespace;

/// On a namespace: `allow-any`, as without it, or `registry-only`.
pub const OUTBOUND_ANNOTATION: &str = "culvert.dev/outbound-traffic-policy";

/// What pods may reach beside what the mesh knows: its Services, workloads and ServiceEntries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutboundPolicy {
    /// Anything.
    #[default]
    AllowAny,
    /// Nothing.
    RegistryOnly,
}

/// A word that nobody defined: nothing may be reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is unknown (known: \"allow-any\", \"registry-only\"): pods of the namespace reach nothing but what the mesh knows"
)]
pub struct UnknownOutboundPolicy(String);

impl OutboundPolicy {
    /// That of a namespace.
    ///
    /// # Errors
    /// Where its annotation has a value that nobody defined, which is to be taken for [`Self::RegistryOnly`].
    pub fn of(namespace: &Namespace) -> Result<Self, UnknownOutboundPolicy> {
        let annotations = namespace.metadata.annotations.as_ref();
        match annotations
            .and_then(|all| all.get(OUTBOUND_ANNOTATION))
            .map(String::as_str)
        {
            None | Some("allow-any") => Ok(Self::AllowAny),
            Some("registry-only") => Ok(Self::RegistryOnly),
            Some(other) => Err(UnknownOutboundPolicy(other.to_owned())),
        }
    }

    /// Whether the pods of a namespace reach nothing but what the mesh knows.
    pub fn is_registry_only(namespace: &Namespace) -> bool {
        Self::of(namespace) != Ok(Self::AllowAny)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_nobody_defined_lets_nothing_out_and_is_named() {
        let of = |value: Option<&str>| {
            let mut namespace = Namespace::default();
            let entry = |value: &str| [(OUTBOUND_ANNOTATION.to_owned(), value.to_owned())].into();
            namespace.metadata.annotations = value.map(entry);
            (
                OutboundPolicy::of(&namespace).is_ok(),
                OutboundPolicy::is_registry_only(&namespace),
            )
        };
        assert_eq!(of(None), (true, false));
        assert_eq!(of(Some("allow-any")), (true, false));
        assert_eq!(of(Some("registry-only")), (true, true));
        for odd in ["", "REGISTRY_ONLY", "none", "allow-any "] {
            assert_eq!(of(Some(odd)), (false, true), "{odd:?}");
        }
    }
}
