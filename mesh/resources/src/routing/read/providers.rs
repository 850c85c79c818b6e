//! Providers that an entry of a Telemetry object names.

use serde_json::Value;

/// Their names, in order.
pub(crate) fn providers(entry: &Value) -> Vec<String> {
    let providers = entry["providers"].as_array().into_iter().flatten();
    providers
        .filter_map(|provider| provider["name"].as_str().map(str::to_owned))
        .collect()
}
