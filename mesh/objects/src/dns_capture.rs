//! Whether the proxy sees a pod's DNS queries, by an annotation of the pod or its namespace.

/// On a namespace or a pod, whose own wins: `enabled` or `disabled`.
pub const DNS_CAPTURE_ANNOTATION: &str = "culvert.dev/dns-capture";

/// The same in Istio's words: `"true"` or `"false"`. Culvert's own wins where both are on one object.
pub const ISTIO_DNS_CAPTURE_ANNOTATION: &str = "ambient.istio.io/dns-capture";

/// Whether what a pod asks its resolvers goes to the proxy, which answers for the mesh and passes on everything else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DnsCapture {
    /// It does.
    #[default]
    Enabled,
    /// It goes to the resolvers.
    Disabled,
}

/// An annotation that cannot be followed: the agent's own setting decides.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "annotation {annotation}{}: {value:?} is neither {}: the agent's --dns-capture decides",
    if *.on_namespace { " of the namespace" } else { "" },
    if *.annotation == DNS_CAPTURE_ANNOTATION { "\"enabled\" nor \"disabled\"" } else { "\"true\" nor \"false\"" },
)]
pub struct BadDnsCapture {
    /// Which.
    pub annotation: &'static str,
    /// What it says.
    pub value: String,
    /// Whether it is the namespace's annotation; else the pod's.
    pub on_namespace: bool,
}

impl DnsCapture {
    /// What the annotations say of a namespace and of a pod in it, by their names; none where they say nothing.
    ///
    /// # Errors
    /// [`BadDnsCapture`] when the annotation that decides has an unknown value.
    pub fn of<'a>(
        namespace: impl Fn(&str) -> Option<&'a str>,
        pod: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<Option<Self>, BadDnsCapture> {
        let said = |of: &dyn Fn(&str) -> Option<&'a str>, on_namespace| {
            let named = [DNS_CAPTURE_ANNOTATION, ISTIO_DNS_CAPTURE_ANNOTATION];
            named
                .into_iter()
                .find_map(|annotation| Some((annotation, of(annotation)?, on_namespace)))
        };
        let Some((annotation, value, on_namespace)) = said(&pod, false).or_else(|| said(&namespace, true)) else {
            return Ok(None);
        };
        match (annotation, value) {
            (DNS_CAPTURE_ANNOTATION, "enabled") | (ISTIO_DNS_CAPTURE_ANNOTATION, "true") => Ok(Some(Self::Enabled)),
            (DNS_CAPTURE_ANNOTATION, "disabled") | (ISTIO_DNS_CAPTURE_ANNOTATION, "false") => Ok(Some(Self::Disabled)),
            _ => Err(BadDnsCapture {
                annotation,
                value: value.to_owned(),
                on_namespace,
            }),
        }
    }
}

impl std::str::FromStr for DnsCapture {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "enabled" => Ok(Self::Enabled),
            "disabled" => Ok(Self::Disabled),
            _ => Err("neither enabled nor disabled".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(namespace: &[(&str, &str)], pod: &[(&str, &str)]) -> Result<Option<DnsCapture>, BadDnsCapture> {
        let look = |all: &[(&str, &str)], key: &str| {
            let found = all.iter().find(|(known, _)| *known == key);
            found.map(|(_, value)| (*value).to_owned().leak() as &'static str)
        };
        DnsCapture::of(|key| look(namespace, key), |key| look(pod, key))
    }

    #[test]
    fn the_pods_own_annotation_wins_and_on_one_object_culverts() {
        let (ours, istios) = (DNS_CAPTURE_ANNOTATION, ISTIO_DNS_CAPTURE_ANNOTATION);
        assert_eq!(of(&[], &[]), Ok(None));
        assert_eq!(of(&[(istios, "false")], &[]), Ok(Some(DnsCapture::Disabled)));
        assert_eq!(
            of(&[(ours, "disabled")], &[(istios, "true")]),
            Ok(Some(DnsCapture::Enabled))
        );
        assert_eq!(
            of(&[], &[(istios, "true"), (ours, "disabled")]),
            Ok(Some(DnsCapture::Disabled))
        );
    }

    #[test]
    fn anything_else_is_refused_with_its_name_and_place() {
        for (annotation, values) in [
            (DNS_CAPTURE_ANNOTATION, ["", "true", "Enabled"]),
            (ISTIO_DNS_CAPTURE_ANNOTATION, ["", "enabled", "True"]),
        ] {
            for value in values {
                let error = of(&[(annotation, value)], &[]).expect_err(value).to_string();
                assert!(
                    error.contains(annotation) && error.contains("of the namespace"),
                    "{error}"
                );
            }
        }
    }
}
