//! What becomes of a pod's connections while its node's proxy is gone, by an annotation of the pod or its namespace.

/// On a namespace or a pod, whose own wins: `direct` or `none`.
pub const FALLBACK_ANNOTATION: &str = "culvert.dev/fallback";

/// What new connections of a pod do while no proxy serves its node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fallback {
    /// They wait for a proxy, and fail when none comes.
    #[default]
    None,
    /// They go direct, in plaintext, in both directions; those of a strict pod never do.
    Direct,
}

/// An annotation that cannot be followed: nothing goes direct.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "annotation {FALLBACK_ANNOTATION}{}: {value:?} is neither \"direct\" nor \"none\": nothing goes direct",
    if *.on_namespace { " of the namespace" } else { "" },
)]
pub struct BadFallback {
    /// What it says.
    pub value: String,
    /// Whether it is the namespace's annotation; else the pod's.
    pub on_namespace: bool,
}

impl Fallback {
    /// What the annotation says of a namespace and of a pod in it.
    ///
    /// # Errors
    /// [`BadFallback`] when the annotation that decides has an unknown value.
    pub fn of(namespace: Option<&str>, pod: Option<&str>) -> Result<Self, BadFallback> {
        let (value, on_namespace) = match (pod, namespace) {
            (Some(value), _) => (value, false),
            (None, Some(value)) => (value, true),
            (None, None) => return Ok(Self::None),
        };
        match value {
            "direct" => Ok(Self::Direct),
            "none" => Ok(Self::None),
            _ => Err(BadFallback {
                value: value.to_owned(),
                on_namespace,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pods_own_annotation_wins() {
        assert_eq!(Fallback::of(None, None), Ok(Fallback::None));
        assert_eq!(Fallback::of(Some("direct"), None), Ok(Fallback::Direct));
        assert_eq!(Fallback::of(Some("direct"), Some("none")), Ok(Fallback::None));
        assert_eq!(Fallback::of(Some("none"), Some("direct")), Ok(Fallback::Direct));
    }

    #[test]
    fn anything_else_is_refused_with_its_place() {
        for value in ["", "Direct", "true", "direct ", "plaintext"] {
            let error = Fallback::of(Some("direct"), Some(value)).expect_err(value);
            assert!(!error.on_namespace);
            let error = Fallback::of(Some(value), None).expect_err(value);
            assert!(error.to_string().contains("of the namespace"), "{error}");
        }
    }
}
