//! A Service's rules for requests, port by port, for the waypoint that it is behind.

use std::sync::Arc;

use culvert_envoy::ROUTE_TYPE;
use culvert_objects::{Gateway, ObjectName};
use culvert_proto::workload::Service;
use k8s_openapi::api::core::v1::ServicePort;
use prost::Message as _;

use super::super::reader::Reader;
use super::super::unit::Derived;
use super::attached::{self, Frontend};
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
    let Some(scope) = scope::of_service(reader, &service) else {
        return Derived::default();
    };
    let object = ports::of_object(reader, &service);
    let named_by = named_by(reader, &scope);
    let is_traced = telemetry::is_traced(reader, &scope, &service);
    let mut resources = Vec::new();
    let rules = Rules::of(reader, &service);
    for port in ports::of_service(&service) {
        if !ports::protocol(&service, object.as_ref(), port).is_http() {
            continue;
        }
        let merged = rules.at(reader, name, &service, port);
        let told = Told {
            named_by: named_by.clone(),
            // As Istio calls it.
            policies: rules.policies(reader, port),
            operation: is_traced.then(|| format!("{}:{port}/*", service.hostname)),
        };
        let made = routes::configuration(&scope, name, port, &merged, &told);
        resources.push(Resource::scoped(
            ROUTE_TYPE,
            &scope,
            &made.name,
            made.encode_to_vec(),
            &[],
        ));
    }
    Derived {
        resources,
        ..Derived::default()
    }
}

/// The rules of a port for requests, whether a waypoint asks them or not.
pub(super) fn merged(reader: &Reader<'_>, name: &Arc<str>, service: &Service, port: u16) -> Routes {
    Rules::of(reader, service).at(reader, name, service, port)
}

/// The routes of a Service, read once for all its ports.
struct Rules {
    object: Option<(ObjectName, Vec<ServicePort>)>,
    read: Vec<attached::Read>,
}

impl Rules {
    fn of(reader: &Reader<'_>, service: &Service) -> Self {
        let object = ports::of_object(reader, service);
        let read = object.as_ref().map(|(object, _)| attached::requests(reader, object));
        Self {
            read: read.unwrap_or_default(),
            object,
        }
    }

    /// What TrafficPolicies ask of a port.
    fn policies(&self, reader: &Reader<'_>, port: u16) -> Vec<Applied> {
        let at =
            |(object, ports): &(ObjectName, Vec<ServicePort>)| traffic_policies::at_port(reader, object, ports, port);
        self.object.as_ref().map(at).unwrap_or_default()
    }

    fn at(&self, reader: &Reader<'_>, name: &Arc<str>, service: &Service, port: u16) -> Routes {
        let attached = self.object.as_ref().map(|(object, known)| {
            let frontend = Frontend { object, ports: known };
            attached::of_port(&self.read, &frontend, port)
        });
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
