//! Which of the things that proxies know are shown.

use clap::Args;
use serde_json::Value;

/// Chooses a node or a namespace.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Filter {
    /// Ask this node alone [default: all nodes]
    #[arg(long, env = "CULVERT_NODE", value_name = "NAME")]
    pub(crate) node: Option<String>,
    /// Show what belongs to this namespace alone; a connection belongs to those of both its ends [default: all namespaces]
    #[arg(long, short, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
}

impl Filter {
    /// Whether an item of a proxy's page is to be shown.
    pub(crate) fn shows(&self, item: &Value) -> bool {
        let Some(namespace) = self.namespace.as_deref() else {
            return true;
        };
        let of_end = |end: &str| {
            item[end]
                .as_str()
                .and_then(|name| name.split_once('/'))
                .map(|(namespace, _)| namespace)
        };
        [
            item["namespace"].as_str(),
            of_end("source_workload"),
            of_end("destination_workload"),
        ]
        .contains(&Some(namespace))
    }
}

#[cfg(test)]
mod tests {
    use super::Filter;
    use serde_json::json;

    #[test]
    fn a_namespace_chooses_its_workloads_and_the_connections_of_either_end() {
        let shop = Filter {
            namespace: Some("shop".to_owned()),
            node: None,
        };
        assert!(shop.shows(&json!({ "namespace": "shop" })));
        assert!(!shop.shows(&json!({ "namespace": "plain" })));
        assert!(shop.shows(&json!({ "source_workload": "plain/a", "destination_workload": "shop/b" })));
        assert!(!shop.shows(&json!({ "source_workload": "shopping/a", "destination_workload": null })));
        assert!(Filter::default().shows(&json!({ "namespace": "plain" })));
    }
}
