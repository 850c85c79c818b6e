//! What the pods of a namespace may reach beside what the mesh knows, by an annotation of the namespace.

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
    /// What the annotation of a namespace says, if it has one.
    ///
    /// # Errors
    /// Where its annotation has a value that nobody defined, which is to be taken for [`Self::RegistryOnly`].
    pub fn of(annotation: Option<&str>) -> Result<Self, UnknownOutboundPolicy> {
        match annotation {
            None | Some("allow-any") => Ok(Self::AllowAny),
            Some("registry-only") => Ok(Self::RegistryOnly),
            Some(other) => Err(UnknownOutboundPolicy(other.to_owned())),
        }
    }

    /// Whether the pods of a namespace with this annotation reach nothing but what the mesh knows.
    pub fn is_registry_only(annotation: Option<&str>) -> bool {
        Self::of(annotation) != Ok(Self::AllowAny)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_nobody_defined_lets_nothing_out_and_is_named() {
        let of = |value| {
            (
                OutboundPolicy::of(value).is_ok(),
                OutboundPolicy::is_registry_only(value),
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
