//! What a Gateway asks of its proxy in Istio's words: the annotation `proxy.istio.io/config` in its `spec.infrastructure`.

use culvert_objects::Gateway;
use serde_json::Value;

const ANNOTATION: &str = "proxy.istio.io/config";

/// What of it is served, and what is wrong with the rest.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ProxyConfig {
    /// Whether applications get the client's identity as `x-forwarded-client-cert`.
    pub(super) names_clients: bool,
    /// Fields that are not in force, and why.
    pub(super) notes: Vec<(String, String)>,
}

/// The place of the annotation.
pub(super) fn at(field: &str) -> String {
    format!("spec.infrastructure.annotations[{ANNOTATION}]{field}")
}

/// What a Gateway asks for.
pub(super) fn of(gateway: &Gateway) -> ProxyConfig {
    let mut made = ProxyConfig::default();
    let Some(text) = gateway.spec["infrastructure"]["annotations"][ANNOTATION].as_str() else {
        return made;
    };
    let value: Value = match serde_yaml_ng::from_str(text) {
        Ok(value @ (Value::Object(_) | Value::Null)) => value,
        _ => {
            made.notes.push((
                String::new(),
                "it is not a map of fields in YAML: nothing of it holds".to_owned(),
            ));
            return made;
        }
    };
    for (name, value) in value.as_object().into_iter().flatten() {
        let fields = value.as_object().into_iter().flatten();
        match name.as_str() {
            "proxyHeaders" => fields.for_each(|(field, value)| made.field(name, field, "forwardedClientCert", value)),
            "gatewayTopology" => {
                fields.for_each(|(field, value)| made.field(name, field, "forwardClientCertDetails", value));
            }
            other => made
                .notes
                .push((format!(".{other}"), "waypoints do not read it".to_owned())),
        }
    }
    made
}

impl ProxyConfig {
    fn field(&mut self, parent: &str, field: &str, served: &str, value: &Value) {
        let mut note = |why: &str| self.notes.push((format!(".{parent}.{field}"), why.to_owned()));
        if field != served {
            return note("waypoints do not read it");
        }
        match value.as_str() {
            Some("UNDEFINED" | "SANITIZE") => {}
            Some("SANITIZE_SET") => self.names_clients = true,
            _ => note(
                "only SANITIZE and SANITIZE_SET are served, since nobody says by a header who they are: it is SANITIZE",
            ),
        }
    }
}
