//! The objects that a resource was made of, by the resource's name: to tell them that a proxy does not take it.

use std::sync::Arc;

use culvert_envoy::{CLUSTER_TYPE, ENDPOINT_TYPE, LISTENER_TYPE, ROUTE_TYPE, names};
use culvert_objects::{Kind, ObjectName, TCPRoute, TLSRoute};
use culvert_proto::workload::Service;

use super::super::reader::Reader;
use super::super::{refused, wire};
use super::backend_tls::Policies;
use super::frontend::{Frontend, Sort};
use super::{access, attached, explain, hosts, ports, traffic_policies};

/// What holds at a port, and which objects say it.
#[derive(Debug, Default)]
pub(in crate::model) struct Made {
    /// The Service or ServiceEntry and its port, where it is one's.
    pub(in crate::model) place: Option<(ObjectName, u16)>,
    pub(in crate::model) objects: Vec<(Kind, ObjectName)>,
}

/// The objects that a resource of a waypoint was made of. Where the `message` names a part of it, those of that part; of a listener, which
/// is made of all that is behind a waypoint, those alone.
pub(in crate::model) fn objects(
    reader: &Reader<'_>,
    gateway: &ObjectName,
    type_url: &str,
    name: &str,
    message: &str,
) -> Vec<Made> {
    let Some(rest) = name
        .strip_prefix(&*gateway.to_string())
        .and_then(|rest| rest.strip_prefix('/'))
    else {
        return Vec::new();
    };
    let made = match type_url {
        ROUTE_TYPE => At::of(reader, rest).map(|at| at.requests(reader, message)),
        CLUSTER_TYPE | ENDPOINT_TYPE => At::of(reader, rest).map(|at| at.towards(reader)),
        LISTENER_TYPE => return of_chains(reader, gateway, message),
        _ => None,
    };
    made.into_iter().collect()
}

/// The object that a Workload or a Service was made of, by its resource's name.
pub(in crate::model) fn address(reader: &Reader<'_>, name: &str) -> Option<(Kind, ObjectName)> {
    let own = name.strip_prefix(&*reader.settings().cluster_id);
    let parts: Vec<&str> = own.into_iter().flat_map(|own| own.split('/')).collect();
    match parts.as_slice() {
        ["", "", "Pod", namespace, name] => return Some((Kind::Pod, ObjectName::new(*namespace, *name))),
        ["", _, kind @ ("WorkloadEntry" | "ServiceEntry"), namespace, name, ..] => {
            return Some((Kind::named(kind)?, ObjectName::new(*namespace, *name)));
        }
        _ => {}
    }
    let frontend = Frontend::of(reader, &reader.derived_service(name)?)?;
    Some((of_sort(frontend.sort()), frontend.object))
}

fn of_sort(sort: Sort) -> Kind {
    match sort {
        Sort::Service => Kind::Service,
        Sort::ServiceEntry => Kind::ServiceEntry,
    }
}

/// A port of a Service.
struct At {
    resource: Arc<str>,
    service: Service,
    frontend: Option<Frontend>,
    port: u16,
}

impl At {
    /// That of `SERVICE:PORT`, with a subset behind it or not.
    fn of(reader: &Reader<'_>, name: &str) -> Option<Self> {
        let (resource, rest) = name.split_once(':')?;
        // Envoy's plumbing for endpoints that speak TLS as a port asks for it.
        let resource = resource.rsplit(' ').next().unwrap_or(resource);
        let port = rest.split('/').next().unwrap_or(rest).parse().ok()?;
        let service = reader.derived_service(resource)?;
        Some(Self {
            frontend: Frontend::of(reader, &service),
            resource: resource.into(),
            service,
            port,
        })
    }

    fn made(&self, objects: Vec<(Kind, ObjectName)>) -> Made {
        let frontend = self.frontend.as_ref();
        let mut objects = objects;
        // What a ServiceEntry comes to is part of all of it.
        objects.extend(frontend.and_then(|frontend| {
            let is_entry = frontend.sort() == Sort::ServiceEntry;
            is_entry.then(|| (Kind::ServiceEntry, frontend.object.clone()))
        }));
        objects.sort();
        objects.dedup();
        Made {
            place: frontend.map(|frontend| (frontend.object.clone(), self.port)),
            objects,
        }
    }

    /// Of what becomes of requests. Where the message names rules, their objects are meant alone.
    fn requests(&self, reader: &Reader<'_>, message: &str) -> Made {
        let rules = explain::of_port(reader, &self.resource, &self.service, self.port);
        let of_rules = rules.hosts.iter().flat_map(|host| &host.rules);
        let of_rules = of_rules.filter_map(|rule| rule.object.as_deref());
        let of_policies = rules.policies.iter().map(|policy| &*policy.object);
        let of_policies = of_policies.filter(|object| object.starts_with(Kind::TrafficPolicy.name()));
        let all: Vec<&str> = of_rules.chain(of_policies).collect();
        let named: Vec<&str> = all
            .iter()
            .copied()
            .filter(|title| refused::is_named(message, title))
            .collect();
        let meant = if named.is_empty() { all } else { named };
        self.made(meant.into_iter().filter_map(titled).collect())
    }

    /// Of how endpoints are found and spoken to.
    fn towards(&self, reader: &Reader<'_>) -> Made {
        let rules = hosts::destination_rules(reader, &self.service).into_iter();
        let mut found: Vec<_> = rules.map(|(name, _)| (Kind::DestinationRule, name.clone())).collect();
        let tls = Policies::of(reader, &self.service);
        found.extend(
            tls.holding(self.port)
                .map(|(name, _)| (Kind::BackendTLSPolicy, name.clone())),
        );
        let policy = self.frontend.as_ref();
        let policy = policy.and_then(|frontend| traffic_policies::of_port(reader, frontend, self.port));
        found.extend(policy.and_then(|applied| named(Kind::TrafficPolicy, &applied.name)));
        self.made(found)
    }

    /// Of who may, and of where connections go.
    fn connections(&self, reader: &Reader<'_>, gateway: &ObjectName) -> Made {
        let mut found = access::objects(reader, gateway, &self.service);
        if let Some(frontend) = &self.frontend {
            let applied = traffic_policies::at_port(reader, frontend, self.port).into_iter();
            found.extend(applied.filter_map(|applied| named(Kind::TrafficPolicy, &applied.name)));
            let here = |name: &&ObjectName| name.namespace == frontend.object.namespace;
            let tcp = reader
                .find::<TCPRoute>(frontend.key())
                .map(|(name, _)| name)
                .filter(here);
            found.extend(tcp.map(|name| (Kind::TCPRoute, name.clone())));
            let tls = reader
                .find::<TLSRoute>(frontend.key())
                .map(|(name, _)| name)
                .filter(here);
            found.extend(tls.map(|name| (Kind::TLSRoute, name.clone())));
        }
        let rule = attached::virtual_name(reader, &self.service);
        found.extend(rule.map(|name| (Kind::VirtualService, name.clone())));
        self.made(found)
    }
}

/// Of the chains of a waypoint's listener that are named.
fn of_chains(reader: &Reader<'_>, gateway: &ObjectName, message: &str) -> Vec<Made> {
    let mut found = Vec::new();
    for resource in reader.behind(&wire::hostname(reader.settings(), gateway)) {
        let Some(service) = reader.derived_service(&resource) else {
            continue;
        };
        for port in ports::of_service(&service) {
            if !refused::is_named(message, &names::chain(&resource, port)) {
                continue;
            }
            let at = At {
                frontend: Frontend::of(reader, &service),
                resource: Arc::clone(&resource),
                service: service.clone(),
                port,
            };
            found.push(at.connections(reader, gateway));
        }
    }
    found
}

/// `Kind namespace/name`.
fn titled(title: &str) -> Option<(Kind, ObjectName)> {
    let (kind, name) = title.split_once(' ')?;
    named(Kind::named(kind)?, name)
}

fn named(kind: Kind, name: &str) -> Option<(Kind, ObjectName)> {
    let (namespace, name) = name.split_once('/')?;
    Some((kind, ObjectName::new(namespace, name)))
}
