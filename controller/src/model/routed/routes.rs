//! A Service's rules for requests, port by port, for the waypoint that it is behind.

use std::sync::Arc;

use culvert_envoy::ROUTE_TYPE;
use prost::Message as _;

use super::super::reader::Reader;
use super::super::unit::Derived;
use super::attached::{self, Frontend};
use super::{hashes, ports, scope, telemetry};
use crate::routing::envoy::routes;
use crate::routing::model::Backend;
use crate::routing::order;
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
    let read = object
        .as_ref()
        .map(|(object, _)| attached::requests(reader, object))
        .unwrap_or_default();
    let is_traced = telemetry::is_traced(reader, &scope, &service);
    let mut resources = Vec::new();
    for port in ports::of_service(&service) {
        if !ports::protocol(&service, object.as_ref(), port).is_http() {
            continue;
        }
        let attached = object.as_ref().map(|(object, known)| {
            let frontend = Frontend { object, ports: known };
            attached::of_port(&read, &frontend, port)
        });
        let own = Backend {
            service: Arc::clone(name),
            port,
            subset: None,
        };
        let virtual_rules = attached::virtual_at(reader, &service, port).and_then(|found| found.rules);
        let mut merged = order::merge(attached.unwrap_or_default(), virtual_rules, own);
        hashes::add(reader, &mut merged);
        // As Istio calls it.
        let operation = is_traced.then(|| format!("{}:{port}/*", service.hostname));
        let made = routes::configuration(&scope, name, port, &merged, operation.as_deref());
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
