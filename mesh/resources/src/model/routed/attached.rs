//! Which routes a port of a Service has.

use std::cmp::Ordering;
use std::sync::Arc;

use culvert_objects::{GRPCRoute, HTTPRoute, Held, Key, ObjectName, TCPRoute, TLSRoute, Written};
use culvert_proto::workload::Service;
use k8s_openapi::api::core::v1::ServicePort;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use super::super::reader::Reader;
use super::hosts::{self, Hosts};
use super::resolver::Resolver;
use super::traffic_policies;
use crate::routing::model::{Named, Parent, Route, Split};
use crate::routing::order::Attached;
use crate::routing::read::istio::virtual_service::{self, Virtual};
use crate::routing::read::notes::{Notes, Resolve};
use crate::routing::read::{grpc, http, tcp, tls};

/// A Service that has routes: what it was made of, if that is a Service of Kubernetes.
pub(super) struct Frontend<'a> {
    pub(super) object: &'a ObjectName,
    pub(super) ports: &'a [ServicePort],
}

/// A route of HTTP or gRPC, read, and who it was made of.
pub(super) struct Read {
    age: Option<Time>,
    name: ObjectName,
    kind: &'static str,
    parents: Vec<Parent>,
    route: Route,
}

/// All routes of HTTP and gRPC of a Service, the oldest first.
pub(super) fn requests(reader: &Reader<'_>, service: &ObjectName) -> Vec<Read> {
    let key = Key::parent("Service", service);
    let mut found = Vec::new();
    for (name, object) in reader.find::<HTTPRoute>(key) {
        found.extend(read(reader, "HTTPRoute", name, object, http::route));
    }
    for (name, object) in reader.find::<GRPCRoute>(key) {
        found.extend(read(reader, "GRPCRoute", name, object, grpc::route));
    }
    found.sort_by(older);
    found
}

type Reading = fn(&str, &Value, &dyn Resolve, &mut Notes) -> Option<(Vec<Parent>, Route)>;

fn read<M>(
    reader: &Reader<'_>,
    kind: &'static str,
    name: &ObjectName,
    object: &Written<M>,
    route: Reading,
) -> Option<Read> {
    let resolver = Resolver::new(reader, kind, name, object);
    // What is wrong with the object is said where it is looked at by itself.
    let label = format!("{kind} {name}");
    let (parents, mut route) = route(&label, &object.spec, &resolver, &mut Notes::default())?;
    for rule in &mut route.rules {
        let own = rule.name.strip_prefix(&label).and_then(|rest| rest.strip_prefix('/'));
        rule.policy = traffic_policies::of_rule(reader, kind, name, own);
    }
    Some(Read {
        age: object.created.clone(),
        name: name.clone(),
        kind,
        parents,
        route,
    })
}

fn older(a: &Read, b: &Read) -> Ordering {
    let age = |read: &Read| read.age.as_ref().map(|time| time.0);
    (age(a), &a.name, a.kind).cmp(&(age(b), &b.name, b.kind))
}

/// Those of one port.
pub(super) fn of_port(read: &[Read], frontend: &Frontend<'_>, port: u16) -> Vec<Attached> {
    let here = read.iter().filter(|read| {
        read.parents
            .iter()
            .any(|parent| is_for(parent, &read.name, frontend, port))
    });
    here.map(|read| Attached {
        consumer: (read.name.namespace != frontend.object.namespace).then(|| Arc::clone(&read.name.namespace)),
        route: read.route.clone(),
    })
    .collect()
}

/// Where the connections to a TCP port go; none where no route says.
pub(super) fn split(reader: &Reader<'_>, frontend: &Frontend<'_>, port: u16) -> Option<Split> {
    split_of(reader, frontend, port).map(|(_, split)| split)
}

/// The same, and the route that says it.
pub(super) fn split_of<'a>(reader: &Reader<'a>, frontend: &Frontend<'_>, port: u16) -> Option<(&'a ObjectName, Split)> {
    let found = of_connections(reader, frontend, port, |name, object: &TCPRoute| {
        let resolver = Resolver::new(reader, "TCPRoute", name, object);
        tcp::route(&object.spec, &resolver, &mut Notes::default())
    });
    found.into_iter().next()
}

/// Where the connections of TLS to a port go, by name: those of the oldest route first.
pub(super) fn named(reader: &Reader<'_>, frontend: &Frontend<'_>, port: u16) -> Vec<Named> {
    let found = of_connections(reader, frontend, port, |name, object: &TLSRoute| {
        let resolver = Resolver::new(reader, "TLSRoute", name, object);
        tls::route(&object.spec, &resolver, &mut Notes::default())
    });
    found.into_iter().map(|(_, named)| named).collect()
}

/// What the routes of a kind say of the connections to a port, the oldest first, each with its route. They count in the namespace
/// of the Service alone.
fn of_connections<'a, M, R>(
    reader: &Reader<'a>,
    frontend: &Frontend<'_>,
    port: u16,
    read: impl Fn(&ObjectName, &Written<M>) -> Option<(Vec<Parent>, R)>,
) -> Vec<(&'a ObjectName, R)>
where
    Written<M>: Held,
{
    let routes = reader.find::<Written<M>>(Key::parent("Service", frontend.object));
    let mut found: Vec<_> = routes
        .filter(|(name, _)| name.namespace == frontend.object.namespace)
        .filter_map(|(name, object)| {
            let (parents, said) = read(name, object)?;
            let is_here = parents.iter().any(|parent| is_for(parent, name, frontend, port));
            is_here.then(|| (object.created.as_ref().map(|time| time.0), name, said))
        })
        .collect();
    found.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    found.into_iter().map(|(_, name, said)| (name, said)).collect()
}

/// The VirtualService that holds for a Service.
pub(super) fn virtual_name<'a>(reader: &Reader<'a>, service: &Service) -> Option<&'a ObjectName> {
    hosts::virtual_service(reader, service).map(|(name, _)| name)
}

/// What the VirtualService that holds for a Service says of a port of it.
pub(super) fn virtual_at(reader: &Reader<'_>, service: &Service, port: u16) -> Option<Virtual> {
    let (name, object) = hosts::virtual_service(reader, service)?;
    let destinations = Hosts {
        reader,
        object: name,
        port,
    };
    let label = format!("VirtualService {name}");
    virtual_service::at_port(&label, &object.spec, port, &destinations, &mut Notes::default())
}

/// Whether a route of `route` is for a port.
pub(super) fn is_for(parent: &Parent, route: &ObjectName, frontend: &Frontend<'_>, port: u16) -> bool {
    let namespace = parent.namespace.as_deref().unwrap_or(&route.namespace);
    let is_named = |section: &String| {
        let mut ports = frontend.ports.iter();
        ports.any(|known| known.name.as_ref() == Some(section) && known.port == i32::from(port))
    };
    parent.group.is_empty()
        && parent.kind == "Service"
        && *namespace == *frontend.object.namespace
        && *parent.name == *frontend.object.name
        && parent.port.is_none_or(|asked| asked == port)
        && parent.section.as_ref().is_none_or(is_named)
}
