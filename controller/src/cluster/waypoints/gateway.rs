//! What a Gateway of one of our classes asks for, and what of it cannot be had.

use std::collections::BTreeMap;

use culvert_objects::{Gateway, ObjectName};
use serde::Deserialize;

use super::classes::Class;
use super::refusal::{Refusal, refusal};

/// The protocol and port that a waypoint listens with: the tunnel.
const PROTOCOL: &str = "HBONE";
const PORT: u16 = 15008;
/// The longest name that a Service may have, bytes.
const LONGEST_NAME: usize = 63;
/// The kinds of routes that a waypoint serves.
pub(super) const ROUTES: [&str; 4] = ["HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute"];
const GROUP: &str = "gateway.networking.k8s.io";

/// A Gateway that is to be a waypoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) name: ObjectName,
    pub(super) class: Class,
    pub(super) uid: String,
    /// Which version of the object this is about.
    pub(super) generation: i64,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) listeners: Vec<Listener>,
    /// The ConfigMap with its parameters, in its namespace.
    pub(super) parameters: Option<String>,
    /// Why nothing is made of it, if so.
    pub(super) refusal: Option<Refusal>,
}

/// A listener of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listener {
    pub(super) name: String,
    /// Why it is not served, if so.
    pub(super) refusal: Option<Refusal>,
    /// The kinds of routes that may attach.
    pub(super) kinds: Vec<&'static str>,
    /// Kinds that were asked for and that a waypoint does not serve.
    pub(super) unknown: Vec<String>,
}

/// The parts of `spec` that decide about placement. Its routing is read elsewhere.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    gateway_class_name: String,
    listeners: Vec<ListenerSpec>,
    addresses: Vec<serde_json::Value>,
    infrastructure: Infrastructure,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Infrastructure {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    parameters_ref: Option<ParametersRef>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ParametersRef {
    group: String,
    kind: String,
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ListenerSpec {
    name: String,
    port: u32,
    protocol: String,
    allowed_routes: AllowedRoutes,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct AllowedRoutes {
    kinds: Vec<RouteKind>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RouteKind {
    group: Option<String>,
    kind: String,
}

impl Asked {
    /// Reads a Gateway; nothing if it is of another's class.
    pub(super) fn of(gateway: &Gateway) -> Option<Self> {
        let (spec, unreadable) = match Spec::deserialize(&*gateway.spec) {
            Ok(spec) => (spec, None),
            Err(error) => {
                let class = gateway.spec.get("gatewayClassName").and_then(|class| class.as_str());
                let spec = Spec {
                    gateway_class_name: class.unwrap_or_default().to_owned(),
                    ..Spec::default()
                };
                (spec, Some(refusal("Invalid", format!("spec: {error}"))))
            }
        };
        let class = Class::named(&spec.gateway_class_name)?;
        let listeners: Vec<Listener> = spec.listeners.iter().map(Listener::of).collect();
        let name = gateway.name.clone();
        let refused = unreadable
            .or_else(|| bad_name(&name.name))
            .or_else(|| spec.refusal())
            .or_else(|| none_valid(&listeners));
        Some(Self {
            name,
            class,
            uid: gateway.uid.to_string(),
            generation: gateway.generation.unwrap_or_default(),
            labels: spec.infrastructure.labels,
            annotations: spec.infrastructure.annotations,
            listeners,
            parameters: spec.infrastructure.parameters_ref.map(|parameters| parameters.name),
            refusal: refused,
        })
    }
}

impl Spec {
    fn refusal(&self) -> Option<Refusal> {
        if !self.addresses.is_empty() {
            let message = "spec.addresses: a waypoint is reached by its Service; no address can be asked for";
            return Some(refusal("UnsupportedAddress", message));
        }
        let parameters = self.infrastructure.parameters_ref.as_ref()?;
        if parameters.group.is_empty() && parameters.kind == "ConfigMap" {
            return None;
        }
        let message = format!(
            "spec.infrastructure.parametersRef: parameters are in a ConfigMap; {}/{} {} is not served",
            parameters.group, parameters.kind, parameters.name
        );
        Some(refusal("InvalidParameters", message))
    }
}

impl Listener {
    fn of(spec: &ListenerSpec) -> Self {
        let refused = if spec.protocol != PROTOCOL {
            let message = format!("protocol {}: a waypoint listens with {PROTOCOL} alone", spec.protocol);
            Some(refusal("UnsupportedProtocol", message))
        } else if spec.port != u32::from(PORT) {
            let message = format!("port {}: a waypoint listens on {PORT} alone", spec.port);
            Some(refusal("PortUnavailable", message))
        } else {
            None
        };
        let asked = &spec.allowed_routes.kinds;
        let is = |asked: &RouteKind, kind: &str| {
            asked.kind == kind && asked.group.as_deref().is_none_or(|group| group == GROUP)
        };
        let allowed = |kind: &&str| asked.is_empty() || asked.iter().any(|one| is(one, kind));
        let unknown = asked.iter().filter(|one| !ROUTES.iter().any(|kind| is(one, kind)));
        Self {
            name: spec.name.clone(),
            refusal: refused,
            kinds: ROUTES.into_iter().filter(|kind| allowed(kind)).collect(),
            unknown: unknown.map(|one| one.kind.clone()).collect(),
        }
    }
}

/// Services have stricter names than Gateways, and a waypoint's Service has the Gateway's.
fn bad_name(name: &str) -> Option<Refusal> {
    let fine = name.len() <= LONGEST_NAME
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    let message = || {
        format!(
            "metadata.name: its Service would be called {name}, which no Service may be: at most {LONGEST_NAME} of a-z, 0-9 and -, a letter first"
        )
    };
    (!fine).then(|| refusal("Invalid", message()))
}

fn none_valid(listeners: &[Listener]) -> Option<Refusal> {
    if listeners.iter().any(|listener| listener.refusal.is_none()) {
        return None;
    }
    let message =
        format!("spec.listeners: none has protocol {PROTOCOL} and port {PORT}, with which a waypoint is reached");
    Some(refusal("ListenersNotValid", message))
}
