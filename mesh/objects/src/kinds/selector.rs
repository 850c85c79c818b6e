//! Which pods of a namespace an object of Istio's binds.

use std::collections::BTreeMap;

use serde_json::Value;

use super::key::Key;
use crate::labels::Labels;
use crate::name::ObjectName;

/// `spec.selector` of an object of Istio's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Selector {
    /// There is none, or it asks for nothing: all pods in reach.
    #[default]
    All,
    /// Pods with all of these labels.
    Labels(BTreeMap<String, String>),
    /// It asks for something that is not understood: perhaps all pods in reach. Here is the field.
    Unknown(String),
}

impl Selector {
    /// Reads `spec.selector` of a `spec`.
    pub(super) fn of(spec: &Value) -> Self {
        let selector = match spec.get("selector") {
            None | Some(Value::Null) => return Self::All,
            Some(Value::Object(selector)) => selector,
            Some(_) => return Self::Unknown("spec.selector".to_owned()),
        };
        if let Some(name) = selector.keys().find(|name| *name != "matchLabels") {
            return Self::Unknown(format!("spec.selector.{name}"));
        }
        let labels = match selector.get("matchLabels") {
            None | Some(Value::Null) => return Self::All,
            Some(Value::Object(labels)) => labels,
            Some(_) => return Self::Unknown("spec.selector.matchLabels".to_owned()),
        };
        let mut wanted = BTreeMap::new();
        for (key, value) in labels {
            let Some(value) = value.as_str().filter(|value| !value.contains('*')) else {
                return Self::Unknown(format!("spec.selector.matchLabels[{key}]"));
            };
            wanted.insert(key.clone(), value.to_owned());
        }
        if wanted.is_empty() {
            return Self::All;
        }
        Self::Labels(wanted)
    }

    /// Whether a pod in reach with these labels is bound.
    pub fn selects(&self, labels: &Labels) -> bool {
        match self {
            Self::All | Self::Unknown(_) => true,
            Self::Labels(wanted) => wanted.iter().all(|(key, value)| labels.get(key) == Some(value)),
        }
    }

    /// By what the pods find the object: a pod that it selects has all its labels, so that one of them is enough.
    pub(super) fn keys(&self, kind: &'static str, name: &ObjectName) -> Vec<Key> {
        match self {
            Self::All | Self::Unknown(_) => vec![Key::all_in(kind, &name.namespace)],
            Self::Labels(wanted) => {
                let first = wanted.iter().next();
                let first = first.map(|(label, value)| Key::selector(&name.namespace, label, value));
                first.into_iter().chain([Key::some_in(kind, &name.namespace)]).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_without_labels_is_bound_by_no_selector_that_asks_for_some() {
        let selector = Selector::of(&json!({"selector": {"matchLabels": {"app": "web"}}}));
        assert!(!selector.selects(&Labels::default()));
        let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        assert!(selector.selects(&Labels::of(Some(&labels))));
    }

    #[test]
    fn what_is_not_understood_binds_everybody_and_says_where() {
        for (spec, field) in [
            (
                json!({"selector": {"matchExpressions": []}}),
                "spec.selector.matchExpressions",
            ),
            (
                json!({"selector": {"matchLabels": {"app": 1}}}),
                "spec.selector.matchLabels[app]",
            ),
            (
                json!({"selector": {"matchLabels": {"app": "w*"}}}),
                "spec.selector.matchLabels[app]",
            ),
            (json!({"selector": "app=web"}), "spec.selector"),
        ] {
            let selector = Selector::of(&spec);
            assert_eq!(selector, Selector::Unknown(field.to_owned()));
            assert!(selector.selects(&Labels::default()));
        }
        for spec in [
            json!({}),
            json!({"selector": null}),
            json!({"selector": {"matchLabels": {}}}),
        ] {
            assert_eq!(Selector::of(&spec), Selector::All);
        }
    }
}
