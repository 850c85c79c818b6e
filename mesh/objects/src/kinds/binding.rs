//! What a policy binds: a namespace, pods by their labels, or objects by their names.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::labels::Labels;
use crate::name::ObjectName;

/// What an object binds that lives in a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// All pods of its namespace; in the root namespace, all of the mesh.
    Namespace,
    /// The pods of its namespace that have these labels; in the root namespace, those of all namespaces.
    Labels(Labels),
    /// What these objects stand for, and nothing else.
    Targets(Box<[Target]>),
}

/// An object that is referred to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// API group; empty for the core group.
    pub group: Box<str>,
    /// The kind, as `Service` or `Gateway`.
    pub kind: Box<str>,
    /// The namespace; none is that of the object that refers.
    pub namespace: Option<Box<str>>,
    /// The name.
    pub name: Box<str>,
}

impl Target {
    /// A reference as it is written; none if it has no name. One without a kind is to a Gateway.
    pub fn of(value: &Value) -> Option<Self> {
        let text = |field: &str| value.get(field).and_then(Value::as_str);
        // Those of routes mean gateways, unless they say otherwise.
        let kind = text("kind").unwrap_or("Gateway");
        let group = match kind {
            "Gateway" | "GatewayClass" => "gateway.networking.k8s.io",
            _ => "",
        };
        Some(Self {
            group: text("group").unwrap_or(group).into(),
            kind: kind.into(),
            namespace: text("namespace").map(Into::into),
            name: text("name")?.into(),
        })
    }

    /// The object, as one of this name refers to it.
    pub fn object(&self, from: &ObjectName) -> ObjectName {
        match self.kind.as_ref() {
            "GatewayClass" => ObjectName::cluster(&*self.name),
            _ => ObjectName::new(self.namespace.as_deref().unwrap_or(&from.namespace), &*self.name),
        }
    }
}

impl Binding {
    /// What an object binds, by its spec. In doubt, its whole namespace.
    pub(super) fn of(spec: &Value) -> Self {
        let labels = [&spec["selector"]["matchLabels"], &spec["workloadSelector"]["labels"]];
        let labels = labels.into_iter().find(|labels| !labels.is_null());
        let targets = targets(spec);
        match labels {
            None if !targets.is_empty() => Self::to(&targets).unwrap_or(Self::Namespace),
            Some(labels) if targets.is_empty() => {
                let labels: Option<BTreeMap<String, String>> = serde_json::from_value(labels.clone()).ok();
                labels.map_or(Self::Namespace, |labels| Self::labels(&labels))
            }
            _ => Self::Namespace,
        }
    }

    /// The same of an object that is served but for what it says of other objects: none if it says nothing of them. Where it selects pods
    /// as well, one cannot tell which it means.
    pub(super) fn of_targets(spec: &Value) -> Option<Self> {
        let targets = targets(spec);
        let selects = spec.get("selector").is_some_and(|selector| !selector.is_null());
        (!targets.is_empty()).then(|| match Self::to(&targets) {
            Some(binding) if !selects => binding,
            _ => Self::Namespace,
        })
    }

    /// Whether it binds a pod with these labels by its labels or its namespace. Which pods stand behind a target is for others
    /// to find out: see [`Binding::targets`].
    pub fn selects<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        match self {
            Self::Namespace => true,
            Self::Labels(labels) => labels.iter().all(|(key, value)| label(key) == Some(value)),
            Self::Targets(_) => false,
        }
    }

    /// The objects that it refers to.
    pub fn targets(&self) -> &[Target] {
        match self {
            Self::Targets(targets) => targets,
            Self::Namespace | Self::Labels(_) => &[],
        }
    }

    /// That of a selector, which selects everything if it is empty.
    pub(super) fn labels(labels: &BTreeMap<String, String>) -> Self {
        if labels.is_empty() {
            return Self::Namespace;
        }
        Self::Labels(Labels::of(Some(labels)))
    }

    /// That of references; none if one of them cannot be read.
    pub(super) fn to(targets: &[&Value]) -> Option<Self> {
        let targets: Option<Vec<Target>> = targets.iter().map(|target| Target::of(target)).collect();
        targets.map(|targets| Self::Targets(targets.into()))
    }

    /// About how many bytes it holds beside its own structure.
    pub(super) fn heap(&self) -> usize {
        let text = |target: &Target| {
            let namespace = target.namespace.as_ref().map_or(0, |namespace| namespace.len());
            size_of_val(target) + target.group.len() + target.kind.len() + target.name.len() + namespace
        };
        self.targets().iter().map(text).sum()
    }
}

/// The objects that a spec refers to as what it is about.
fn targets(spec: &Value) -> Vec<&Value> {
    let lists = [&spec["targetRefs"], &spec["parentRefs"]].map(Value::as_array);
    let one = (!spec["targetRef"].is_null()).then_some(&spec["targetRef"]);
    one.into_iter().chain(lists.into_iter().flatten().flatten()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn a_selector_binds_who_has_all_its_labels_and_an_empty_one_everybody() {
        let pod = |key: &str| match key {
            "app" => Some("db"),
            "tier" => Some("back"),
            _ => None,
        };
        let selects = |pairs: &[(&str, &str)]| Binding::labels(&labels(pairs)).selects(pod);
        assert!(selects(&[]) && selects(&[("app", "db")]) && selects(&[("app", "db"), ("tier", "back")]));
        assert!(!selects(&[("app", "web")]) && !selects(&[("app", "db"), ("zone", "a")]));
    }

    #[test]
    fn a_reference_without_kind_is_to_a_gateway_and_one_without_name_to_nobody_knows_what() {
        let binding = Binding::to(&[
            &json!({"name": "wp"}),
            &json!({"group": "", "kind": "Service", "name": "db"}),
        ]);
        let binding = binding.unwrap();
        let kinds: Vec<&str> = binding.targets().iter().map(|target| &*target.kind).collect();
        assert_eq!(kinds, ["Gateway", "Service"]);
        assert!(!binding.selects(|_| None));
        assert_eq!(Binding::to(&[&json!({"kind": "Service"})]), None);
    }
}
