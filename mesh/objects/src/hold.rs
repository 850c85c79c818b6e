//! Which connections of a pod are held until their far side is there, by an annotation of the pod or its namespace.

/// On a namespace or a pod, whose own wins: `"true"`, `"false"`, or destination ports with commas between them.
pub const HOLD_ANNOTATION: &str = "culvert.dev/hold-connections";

/// Which of the connections that a pod opens are held: `connect` ends when the far side is there, or with its refusal.
/// Others are accepted at once, and a refusal is a reset after that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Hold {
    /// None.
    #[default]
    None,
    /// All.
    All,
    /// Those to these destination ports: one to [`Hold::PORTS`], none of them 0.
    Ports(Vec<u16>),
}

/// An annotation that cannot be followed: nothing is held.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "annotation {HOLD_ANNOTATION}{}: {value:?} is neither \"true\" nor \"false\" nor a list of up to {} ports (1 to 65535, with commas \
     between them): no connection is held",
    if *.on_namespace { " of the namespace" } else { "" },
    Hold::PORTS
)]
pub struct BadHold {
    /// What it says.
    pub value: String,
    /// Whether it is the namespace's annotation; else the pod's.
    pub on_namespace: bool,
}

impl Hold {
    /// How many ports can be named.
    pub const PORTS: usize = 8;

    /// What the annotation says of a namespace and of a pod in it.
    ///
    /// # Errors
    /// [`BadHold`] when the annotation that decides has an unknown value.
    pub fn of(namespace: Option<&str>, pod: Option<&str>) -> Result<Self, BadHold> {
        let (value, on_namespace) = match (pod, namespace) {
            (Some(value), _) => (value, false),
            (None, Some(value)) => (value, true),
            (None, None) => return Ok(Self::None),
        };
        Self::parse(value).ok_or_else(|| BadHold {
            value: value.to_owned(),
            on_namespace,
        })
    }

    fn parse(value: &str) -> Option<Self> {
        match value {
            "true" => return Some(Self::All),
            "false" => return Some(Self::None),
            _ => {}
        }
        let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port != 0);
        let mut ports = value.split(',').map(port).collect::<Option<Vec<u16>>>()?;
        ports.sort_unstable();
        ports.dedup();
        (ports.len() <= Self::PORTS).then_some(Self::Ports(ports))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pods_own_annotation_wins() {
        assert_eq!(Hold::of(None, None), Ok(Hold::None));
        assert_eq!(Hold::of(Some("true"), None), Ok(Hold::All));
        assert_eq!(Hold::of(Some("true"), Some("false")), Ok(Hold::None));
        assert_eq!(
            Hold::of(Some("false"), Some("443, 80,443")),
            Ok(Hold::Ports(vec![80, 443]))
        );
    }

    #[test]
    fn what_is_no_list_of_ports_is_refused_with_its_place() {
        for value in ["", "yes", "0", "80,", "65536", "-1", "1,2,3,4,5,6,7,8,9", "80 443"] {
            let error = Hold::of(None, Some(value)).expect_err(value);
            assert!(!error.on_namespace);
            let error = Hold::of(Some(value), None).expect_err(value);
            assert!(error.to_string().contains("of the namespace"), "{error}");
        }
    }
}
