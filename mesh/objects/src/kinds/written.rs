//! Kinds of the Gateway API and of Istio's routing that are served: their spec is kept as it is written. What it means is the controller's to read, rule by
//! rule, since an object that is wrong in one place must not be left out as a whole.

use std::marker::PhantomData;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use super::binding::{Binding, Target};
use super::hosts;
use super::key::Key;
use super::loose::Loose;
use super::prune;
use super::security;
use super::spec::KindSpec;
use super::unserved::Marker;
use crate::defaults;
use crate::known::{Known, culvert, gateway_api, istio};
use crate::name::ObjectName;
use crate::waypoint::WAYPOINT_FOR;

/// An object whose spec is kept as it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Written<M> {
    /// Namespace and name.
    pub name: ObjectName,
    /// Tells it from others of the same name, before and after.
    pub uid: Box<str>,
    /// Since when it is there; none for one from a file.
    pub created: Option<Time>,
    /// Which version of its spec this is; none for one from a file. Conditions name it.
    pub generation: Option<i64>,
    /// Its `spec`, as it is written.
    pub spec: Arc<Value>,
    /// On a Gateway or its class: what waypoints of it are for, as it is written.
    waypoint_for: Option<Box<str>>,
    /// What it binds, if it would restrict who reaches that in a way that is not served.
    binding: Option<Binding>,
    kind: PhantomData<M>,
}

/// An object that a spec refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference<'a> {
    /// API group; empty for the core group.
    pub group: &'a str,
    /// The kind.
    pub kind: &'a str,
    /// The namespace, if it is said.
    pub namespace: Option<&'a str>,
    /// The name.
    pub name: &'a str,
}

impl<M> Written<M> {
    /// What routes of it are for (`parentRefs`).
    pub fn parents(&self) -> impl Iterator<Item = Reference<'_>> {
        let parents = self.spec["parentRefs"].as_array().into_iter().flatten();
        parents.filter_map(|value| Reference::of(value, "gateway.networking.k8s.io", "Gateway"))
    }

    /// What a policy of it is for (`targetRefs`).
    pub fn targets(&self) -> impl Iterator<Item = Target> {
        let targets = self.spec["targetRefs"].as_array().into_iter().flatten();
        targets.filter_map(Target::of)
    }

    /// The hosts that it is for, as Istio's kinds write them.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        hosts::of(&self.spec)
    }

    /// The hosts that its routes send traffic to, as Istio's kinds write them.
    pub fn destinations(&self) -> Vec<&str> {
        hosts::destinations(&self.spec)
    }

    /// The VirtualServices to which rules of one of `namespace` leave the rest.
    pub fn delegates(&self, namespace: &Arc<str>) -> Vec<ObjectName> {
        hosts::delegates(&self.spec, namespace)
    }

    /// Where its routes send requests, and copies of them.
    pub fn backends(&self) -> Vec<Reference<'_>> {
        let mut found = Vec::new();
        for rule in list(&self.spec["rules"]) {
            let backends = list(&rule["backendRefs"]);
            let filters = list(&rule["filters"]).chain(backends.clone().flat_map(|backend| list(&backend["filters"])));
            let of_filters = ["requestMirror", "externalAuth"]
                .map(|kind| filters.clone().map(move |filter| &filter[kind]["backendRef"]));
            found.extend(
                backends
                    .chain(of_filters.into_iter().flatten())
                    .filter_map(|value| Reference::of(value, "", "Service")),
            );
        }
        found
    }
}

impl<'a> Reference<'a> {
    /// A reference as it is written; none if it has no name.
    fn of(value: &'a Value, group: &'a str, kind: &'a str) -> Option<Self> {
        let text = |field: &str| value.get(field).and_then(Value::as_str);
        Some(Self {
            group: text("group").unwrap_or(group),
            kind: text("kind").unwrap_or(kind),
            namespace: text("namespace"),
            name: text("name")?,
        })
    }

    /// The object, as one of `namespace` refers to it.
    pub fn object(&self, namespace: &Arc<str>) -> ObjectName {
        let namespace = self.namespace.map_or_else(|| Arc::clone(namespace), Arc::from);
        ObjectName::new(namespace, self.name)
    }
}

fn list(value: &Value) -> std::iter::Flatten<std::option::IntoIter<&Vec<Value>>> {
    value.as_array().into_iter().flatten()
}

impl<M: Marker> KindSpec for Written<M> {
    type Wire = Loose;

    fn with_defaults(mut wire: Loose) -> Loose {
        if M::KNOWN.namespaced {
            defaults::namespaced(&mut wire.metadata);
        } else {
            wire.metadata.namespace = None;
        }
        wire
    }

    fn keep(wire: Loose) -> Self {
        let restricts = M::KNOWN.restricts.applies(&wire.spec);
        Self {
            name: if M::KNOWN.namespaced {
                prune::namespaced(&wire.metadata)
            } else {
                prune::cluster(&wire.metadata)
            },
            uid: wire.metadata.uid.unwrap_or_default().into(),
            created: wire.metadata.creation_timestamp,
            generation: wire.metadata.generation,
            waypoint_for: wire
                .metadata
                .labels
                .as_ref()
                .and_then(|labels| labels.get(WAYPOINT_FOR))
                .map(|value| value.as_str().into()),
            binding: restricts.then(|| Binding::of(&wire.spec)),
            spec: Arc::new(wire.spec),
            kind: PhantomData,
        }
    }

    fn name(&self) -> ObjectName {
        self.name.clone()
    }

    fn uid(&self) -> Option<&str> {
        Some(&self.uid)
    }

    /// That which says what a waypoint is for; no other is kept.
    fn label(&self, key: &str) -> Option<&str> {
        self.waypoint_for.as_deref().filter(|_| key == WAYPOINT_FOR)
    }

    /// Routes by their parents and backends, policies by their targets, Istio's by their hosts and destinations, ours by their providers, and whatever it is by its namespace.
    fn keys(&self, name: &ObjectName) -> Vec<Key> {
        let parents = self
            .parents()
            .map(|parent| Key::parent(parent.kind, &parent.object(&name.namespace)));
        let backends = self.backends().into_iter();
        // A host name is the same from every namespace.
        let backends = backends.map(|backend| match backend.kind {
            "Hostname" => Key::backend(backend.kind, &ObjectName::cluster(backend.name.to_ascii_lowercase())),
            kind => Key::backend(kind, &backend.object(&name.namespace)),
        });
        let restricting = self.binding.is_some().then(|| Key::restricting(&name.namespace));
        let mut keys: Vec<Key> = parents.chain(backends).chain(restricting).collect();
        keys.extend(
            self.targets()
                .map(|target| Key::target(&target.kind, &target.object(name))),
        );
        if M::KNOWN.group == istio::NETWORKING {
            keys.extend(hosts::keys(&self.spec, &name.namespace));
            keys.extend(self.delegates(&name.namespace).iter().map(Key::delegate));
        }
        if M::KNOWN.group == culvert::GROUP {
            keys.extend(self.targets().map(|target| Key::any_target(&target.kind)));
            keys.extend(self.spec["rateLimit"]["global"]["provider"].as_str().map(Key::provider));
        }
        keys.push(Key::all_in(M::KNOWN.title, &name.namespace));
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    fn binding(&self) -> Option<&Binding> {
        self.binding.as_ref()
    }

    fn written(&self) -> Option<(&'static Known, &Value)> {
        Some((M::KNOWN, &self.spec))
    }

    fn heap(&self) -> usize {
        self.uid.len() + security::bytes(&self.spec) + self.binding.as_ref().map_or(0, Binding::heap)
    }
}

macro_rules! written {
    ($($(#[$doc:meta])* $kind:ident, $marker:ident = $known:path;)*) => {$(
        #[doc = concat!("Stands for the kind [`", stringify!($kind), "`].")]
        #[derive(Clone, Debug, PartialEq)]
        pub enum $marker {}

        impl Marker for $marker {
            const KNOWN: &'static Known = &$known;
        }

        $(#[$doc])*
        pub type $kind = Written<$marker>;
    )*};
}

written! {
    /// TLS of their own that endpoints speak.
    BackendTLSPolicy, BackendTLSPolicyMarker = gateway_api::BACKEND_TLS_POLICY;
    /// What holds for connections to a host.
    DestinationRule, DestinationRuleMarker = istio::DESTINATION_RULE;
    /// A gateway, or a waypoint.
    Gateway, GatewayMarker = gateway_api::GATEWAY;
    /// Whose the gateways of a class are.
    GatewayClass, GatewayClassMarker = gateway_api::GATEWAY_CLASS;
    /// Routes of gRPC calls.
    GRPCRoute, GRPCRouteMarker = gateway_api::GRPC_ROUTE;
    /// Routes of HTTP requests.
    HTTPRoute, HTTPRouteMarker = gateway_api::HTTP_ROUTE;
    /// Who may refer to objects of another namespace.
    ReferenceGrant, ReferenceGrantMarker = gateway_api::REFERENCE_GRANT;
    /// Routes of TCP connections.
    TCPRoute, TCPRouteMarker = gateway_api::TCP_ROUTE;
    /// Routes of TLS connections.
    TLSRoute, TLSRouteMarker = gateway_api::TLS_ROUTE;
    /// What is logged and traced of requests.
    Telemetry, TelemetryMarker = istio::TELEMETRY;
    /// Limits, compression and health checks at a waypoint.
    TrafficPolicy, TrafficPolicyMarker = culvert::TRAFFIC_POLICY;
    /// Routes of hosts, in Istio's words.
    VirtualService, VirtualServiceMarker = istio::VIRTUAL_SERVICE;
}

#[cfg(test)]
mod tests {
    use crate::kinds::{Key, Object};
    use crate::name::ObjectName;

    #[test]
    fn a_route_is_found_by_its_parents_and_by_all_that_it_sends_requests_to() {
        let text = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r, namespace: shop}\n\
                    spec:\n  parentRefs: [{group: '', kind: Service, name: web}, {name: edge, namespace: infra}]\n  rules:\n  \
                    - backendRefs: [{name: v1, port: 80}, {name: v2, namespace: bank, port: 80}]\n    \
                    filters: [{type: RequestMirror, requestMirror: {backendRef: {name: copy, port: 80}}}]\n";
        let parsed = crate::parse(text, false);
        assert!(parsed.faults.is_empty(), "{:?}", parsed.faults);
        let object = &parsed.documents[0].object;
        let keys = object.keys(&object.name());
        let name = ObjectName::new;
        for key in [
            Key::parent("Service", &name("shop", "web")),
            Key::parent("Gateway", &name("infra", "edge")),
            Key::backend("Service", &name("shop", "v1")),
            Key::backend("Service", &name("bank", "v2")),
            Key::backend("Service", &name("shop", "copy")),
        ] {
            assert!(keys.contains(&key));
        }
        assert!(matches!(object, Object::HTTPRoute(_)));
    }
}
