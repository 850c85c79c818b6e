//! A Service's rules for requests, port by port, for each waypoint that it is behind.

use std::sync::Arc;

use culvert_envoy::ROUTE_TYPE;
use culvert_objects::{Gateway, ObjectName};
use culvert_proto::workload::Service;
use prost::Message as _;

use super::super::reader::Reader;
use super::super::unit::Derived;
use super::attached;
use super::frontend::Frontend;
use super::{hashes, ports, proxy_config, scope, telemetry, traffic_policies};
use crate::routing::envoy::routes::{self, Told};
use crate::routing::model::{Backend, Routes};
use crate::routing::order;
use crate::routing::policy::Applied;
use crate::snapshot::Resource;

/// The route configurations of a Service.
pub(in crate::model) fn derive(reader: &Reader<'_>, name: &Arc<str>) -> Derived {
    let Some(service) = reader.own_service(name) else {
        return Derived::default();
    };
    let scopes = scope::of_service(reader, &service).into_iter();
    let scopes: Vec<Waypoint> = scopes.map(|scope| Waypoint::of(reader, scope, &service)).collect();
    if scopes.is_empty() {
        return Derived::default();
    }
    let object = ports::of_object(reader, &service);
    let mut resources = Vec::new();
    let rules = Rules::of(reader, &service);
    for port in ports::of_service(&service) {
        if !ports::protocol(&service, object.as_ref(), port).is_http() {
            continue;
        }
        let merged = rules.at(reader, name, &service, port);
        for waypoint in &scopes {
            let told = Told {
                named_by: waypoint.named_by.clone(),
                policies: rules.policies(reader, port),
                // As Istio calls it.
                operation: waypoint.is_traced.then(|| format!("{}:{port}/*", service.hostname)),
            };
            let made = routes::configuration(&waypoint.scope, name, port, &merged, &told);
            resources.push(Resource::scoped(
                ROUTE_TYPE,
                &waypoint.scope,
                &made.name,
                made.encode_to_vec(),
                &[],
            ));
        }
    }
    Derived {
        resources,
        ..Derived::default()
    }
}

/// What differs between the waypoints of a Service.
struct Waypoint {
    scope: Arc<str>,
    named_by: Option<String>,
    is_traced: bool,
}

impl Waypoint {
    fn of(reader: &Reader<'_>, scope: Arc<str>, service: &Service) -> Self {
        Self {
            named_by: named_by(reader, &scope),
            is_traced: telemetry::is_traced(reader, &scope, service),
            scope,
        }
    }
}

/// The rules of a port for requests, whether a waypoint asks them or not.
pub(super) fn merged(reader: &Reader<'_>, name: &Arc<str>, service: &Service, port: u16) -> Routes {
    Rules::of(reader, service).at(reader, name, service, port)
}

/// The routes of a Service, read once for all its ports.
struct Rules {
    frontend: Option<Frontend>,
    read: Vec<attached::Read>,
}

impl Rules {
    fn of(reader: &Reader<'_>, service: &Service) -> Self {
        let frontend = Frontend::of(reader, service);
        let read = frontend.as_ref().map(|frontend| attached::requests(reader, frontend));
        Self {
            read: read.unwrap_or_default(),
            frontend,
        }
    }

    /// What TrafficPolicies ask of a port.
    fn policies(&self, reader: &Reader<'_>, port: u16) -> Vec<Applied> {
        let at = |frontend: &Frontend| traffic_policies::at_port(reader, frontend, port);
        self.frontend.as_ref().map(at).unwrap_or_default()
    }

    fn at(&self, reader: &Reader<'_>, name: &Arc<str>, service: &Service, port: u16) -> Routes {
        let frontend = self.frontend.as_ref();
        let attached = frontend.map(|frontend| attached::of_port(&self.read, frontend, port));
        let own = Backend {
            service: Arc::clone(name),
            port,
            subset: None,
        };
        let virtual_rules = attached::virtual_at(reader, service, port).and_then(|found| found.rules);
        let mut merged = order::merge(attached.unwrap_or_default(), virtual_rules, own);
        hashes::add(reader, &mut merged);
        merged
    }
}

/// The identity of the waypoint, if applications are to get the client's from it.
fn named_by(reader: &Reader<'_>, scope: &str) -> Option<String> {
    let (namespace, name) = scope.split_once('/')?;
    let gateway = reader.get::<Gateway>(&ObjectName::new(namespace, name))?;
    let domain = &reader.settings().trust_domain;
    let identity = || format!("spiffe://{domain}/ns/{namespace}/sa/{name}");
    proxy_config::of(gateway).names_clients.then(identity)
}
