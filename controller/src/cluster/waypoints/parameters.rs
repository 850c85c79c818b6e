//! The ConfigMaps that Gateways name as their parameters.

use culvert_deploy::waypoint::Overlays;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};

use super::gateway::Asked;
use super::refusal::{Refusal, refusal};

/// The reason of a condition.
pub(super) const INVALID: &str = "InvalidParameters";

/// What a Gateway's parameters change; nothing if it has none.
///
/// # Errors
/// Why nothing can be made by them: with the reason [`INVALID`] where the Gateway or its ConfigMap has to change.
pub(super) async fn read(client: &Client, asked: &Asked) -> Result<Overlays, Refusal> {
    let Some(name) = &asked.parameters else {
        return Ok(Overlays::default());
    };
    let at = format!("ConfigMap {}/{name}", asked.name.namespace);
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &asked.name.namespace);
    let found = api.get_opt(name).await;
    let found =
        found.map_err(|error| refusal("Pending", format!("{at} with the parameters cannot be read: {error}")))?;
    let Some(found) = found else {
        let message = format!("spec.infrastructure.parametersRef: there is no {at}");
        return Err(refusal(INVALID, message));
    };
    if found.binary_data.is_some_and(|data| !data.is_empty()) {
        return Err(refusal(
            INVALID,
            format!("{at}: binaryData says nothing about waypoints"),
        ));
    }
    let read = Overlays::read(&found.data.unwrap_or_default());
    read.map_err(|error| refusal(INVALID, format!("{at}: {error}")))
}
