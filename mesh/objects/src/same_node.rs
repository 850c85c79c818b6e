//! How connections between two pods of one node go, by an annotation of the pod that is reached, or of its namespace.

/// On a namespace or a pod, whose own wins: `kernel` or `proxy`.
pub const SAME_NODE_ANNOTATION: &str = "culvert.dev/same-node";

/// Where the bytes go that other pods of its node and a pod send to each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SameNode {
    /// Through the node's proxy, as to any other node.
    #[default]
    Proxy,
    /// From socket to socket, once the proxy has decided that they may.
    Kernel,
}

/// An annotation that cannot be followed: everything goes through the proxy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "annotation {SAME_NODE_ANNOTATION}{}: {value:?} is neither \"kernel\" nor \"proxy\": everything goes through the proxy",
    if *.on_namespace { " of the namespace" } else { "" },
)]
pub struct BadSameNode {
    /// What it says.
    pub value: String,
    /// Whether it is the namespace's annotation; else the pod's.
    pub on_namespace: bool,
}

impl SameNode {
    /// What the annotation says of a namespace and of a pod in it.
    ///
    /// # Errors
    /// [`BadSameNode`] when the annotation that decides has an unknown value.
    pub fn of(namespace: Option<&str>, pod: Option<&str>) -> Result<Self, BadSameNode> {
        let (value, on_namespace) = match (pod, namespace) {
            (Some(value), _) => (value, false),
            (None, Some(value)) => (value, true),
            (None, None) => return Ok(Self::Proxy),
        };
        match value {
            "kernel" => Ok(Self::Kernel),
            "proxy" => Ok(Self::Proxy),
            _ => Err(BadSameNode {
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
    fn the_pods_own_annotation_wins_and_anything_unknown_is_refused_with_its_place() {
        assert_eq!(SameNode::of(None, None), Ok(SameNode::Proxy));
        assert_eq!(SameNode::of(Some("kernel"), None), Ok(SameNode::Kernel));
        assert_eq!(SameNode::of(Some("kernel"), Some("proxy")), Ok(SameNode::Proxy));
        for value in ["", "Kernel", "direct"] {
            let error = SameNode::of(Some("kernel"), Some(value)).expect_err(value);
            assert!(!error.on_namespace);
            let error = SameNode::of(Some(value), None).expect_err(value);
            assert!(error.to_string().contains("of the namespace"), "{error}");
        }
    }
}
