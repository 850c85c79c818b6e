//! Which VirtualService and DestinationRule hold for a Service of the first round, and what the hosts of a VirtualService lead to.

use std::collections::BTreeSet;
use std::sync::Arc;

use culvert_objects::{
    DestinationRule, GRPCRoute, HTTPRoute, Held, Key, ObjectName, ServiceEntry, VirtualService, Written,
};
use culvert_proto::workload::Service;

use super::super::reader::Reader;
use super::super::wire;
use super::discovery;
use super::frontend::Frontend;
use super::{ports, scope};
use crate::routing::model::Backend;
use crate::routing::read::istio::destination::{Delegate, Destinations};
use crate::routing::read::istio::destination_rule::{self, DestinationPolicy};
use crate::routing::read::notes::{Notes, Unresolved};

/// The objects that name a Service, the one that holds first: that of its own namespace before the mesh's, the exact name before the end
/// of one, the oldest first.
fn candidates<'a, M>(
    reader: &Reader<'a>,
    service: &Service,
    may_be_of_mesh: bool,
) -> Vec<(&'a ObjectName, &'a Arc<Written<M>>)>
where
    Written<M>: Held,
{
    let object = wire::object_of_host(reader.settings(), &service.hostname);
    let root = reader.settings().system_namespace.as_str();
    let keys = [Key::routed_host(&service.hostname), Key::routed_wildcards()];
    let short = object
        .as_ref()
        .map(|name| Key::routed_name(&name.namespace, &name.name));
    let mut found: Vec<_> = keys
        .into_iter()
        .chain(short)
        .flat_map(|key| reader.find::<Written<M>>(key).collect::<Vec<_>>())
        .filter(|(name, _)| *name.namespace == *service.namespace || may_be_of_mesh && *name.namespace == *root)
        .filter(|(name, object)| is_exported(&object.spec["exportTo"], &name.namespace, &service.namespace))
        .filter_map(|(name, written)| {
            let fits = written.hosts().filter_map(|host| fit(reader, host, name, service));
            Some((fits.max()?, name, written))
        })
        .collect();
    found.sort_by(|a, b| {
        let key = |(fit, name, written): &(usize, &ObjectName, &Arc<Written<M>>)| {
            let is_foreign = *name.namespace != *service.namespace;
            (
                is_foreign,
                std::cmp::Reverse(*fit),
                written.created.as_ref().map(|time| time.0),
            )
        };
        (key(a), a.1).cmp(&(key(b), b.1))
    });
    found.dedup_by(|a, b| a.1 == b.1);
    found.into_iter().map(|(_, name, written)| (name, written)).collect()
}

/// How exactly a host of an object says a Service, if it does.
fn fit(reader: &Reader<'_>, host: &str, object: &ObjectName, service: &Service) -> Option<usize> {
    if let Some(end) = host.strip_prefix('*') {
        return service.hostname.ends_with(end).then_some(end.len());
    }
    (full_name(reader, host, &object.namespace) == service.hostname).then_some(usize::MAX)
}

/// The whole name of a host, which is a Service of `namespace` if it has no dot.
fn full_name(reader: &Reader<'_>, host: &str, namespace: &str) -> String {
    if host.contains('.') {
        return host.to_owned();
    }
    wire::hostname(reader.settings(), &ObjectName::new(namespace, host))
}

/// Whether `exportTo` of an object of `own` names a namespace.
fn is_exported(export: &serde_json::Value, own: &str, namespace: &str) -> bool {
    let Some(list) = export.as_array().filter(|list| !list.is_empty()) else {
        return true;
    };
    list.iter().any(|name| match name.as_str() {
        Some("*") => true,
        Some(".") => own == namespace,
        name => name == Some(namespace),
    })
}

/// The VirtualService that holds for a Service.
pub(super) fn virtual_service<'a>(
    reader: &Reader<'a>,
    service: &Service,
) -> Option<(&'a ObjectName, &'a Arc<VirtualService>)> {
    candidates(reader, service, false).into_iter().next()
}

/// The DestinationRules that hold for a Service, the oldest first. Those of one namespace that name it in the same way, and are exported to
/// the same namespaces, hold together, as with Istio.
pub(super) fn destination_rules<'a>(
    reader: &Reader<'a>,
    service: &Service,
) -> Vec<(&'a ObjectName, &'a Arc<DestinationRule>)> {
    let all = candidates::<_>(reader, service, true).into_iter();
    let mut all =
        all.filter(|(_, rule): &(&ObjectName, &Arc<DestinationRule>)| rule.spec["workloadSelector"].is_null());
    let Some(first) = all.next() else {
        return Vec::new();
    };
    let host = |(name, rule): (&ObjectName, &Arc<DestinationRule>)| {
        let host = rule.spec["host"].as_str().unwrap_or_default();
        match host.starts_with('*') {
            true => host.to_owned(),
            false => full_name(reader, host, &name.namespace),
        }
    };
    let exported = |rule: &DestinationRule| {
        let names = rule.spec["exportTo"].as_array().into_iter().flatten();
        names.map(ToString::to_string).collect::<BTreeSet<_>>()
    };
    let together = all.filter(|(name, rule)| {
        name.namespace == first.0.namespace && host((name, rule)) == host(first) && exported(rule) == exported(first.1)
    });
    std::iter::once(first).chain(together).collect()
}

/// What holds for connections to a Service.
pub(super) fn policy(reader: &Reader<'_>, service: &Service) -> DestinationPolicy {
    let rules = destination_rules(reader, service).into_iter();
    // What is wrong with the objects is said where they are looked at by themselves.
    let read = rules.filter_map(|(_, rule)| destination_rule::read(&rule.spec, &mut Notes::default()));
    let merged = read.reduce(|mut merged, younger| {
        merged.merge(younger);
        merged
    });
    merged.unwrap_or_default()
}

/// The resource name of the Service that a host of an object in `namespace` leads to: a Service of Kubernetes, else an entry of the same
/// namespace, else one that is exported to it. Of several of these the one that owns the host, then the oldest.
pub(super) fn resource_name(reader: &Reader<'_>, host: &str, namespace: &str) -> String {
    let full = full_name(reader, host, namespace);
    let own = wire::host_name(namespace, &full);
    if let Some(name) = wire::object_of_host(reader.settings(), &full) {
        let service = wire::service_name(reader.settings(), &name);
        if service == own || reader.get::<culvert_objects::Service>(&name).is_some() {
            return service;
        }
    }
    if reader.derived_service(&own).is_some() {
        return own;
    }
    let entries = reader.find::<ServiceEntry>(Key::host(&full));
    let seen = entries
        .filter(|(_, entry)| entry.export.includes(namespace) && entry.hosts.iter().any(|(_, known)| **known == *full));
    let served = seen.filter_map(|(name, entry)| {
        let resource = wire::host_name(&name.namespace, &full);
        let service = reader.derived_service(&resource)?;
        let age = entry.created.as_ref().map(|created| created.0);
        Some(((!service.canonical, age, name), resource))
    });
    served.min().map_or(own, |(_, resource)| resource)
}

/// Looks up hosts for one VirtualService, at a port of the Service that it is for.
pub(super) struct Hosts<'a, 'b> {
    pub(super) reader: &'b Reader<'a>,
    pub(super) object: &'b ObjectName,
    pub(super) service: &'b Service,
    pub(super) port: u16,
}

impl Destinations for Hosts<'_, '_> {
    fn destination(&self, host: &str, subset: Option<&str>, port: Option<u16>) -> Result<Backend, Unresolved> {
        let unresolved = |reason, message: String| Err(Unresolved { reason, message });
        let service = resource_name(self.reader, host, &self.object.namespace);
        let Some(found) = self.reader.derived_service(&service) else {
            return unresolved("BackendNotFound", format!("there is no host {host:?}"));
        };
        if discovery::is_dialled(&found) && found != *self.service {
            let message = format!("host {host:?} has resolution NONE: only who dials it gets there");
            return unresolved("BackendNotFound", message);
        }
        let known: Vec<u16> = ports::of_service(&found).collect();
        let port = match (port, known.as_slice()) {
            (Some(port), _) => port,
            (None, [only]) => *only,
            (None, _) => self.port,
        };
        if !known.contains(&port) {
            return unresolved("BackendNotFound", format!("host {host:?} has no port {port}"));
        }
        let policy = policy(self.reader, &found);
        if let Some(subset) = subset
            && !policy.subsets().any(|(name, _)| name == subset)
        {
            let message = format!("no DestinationRule in force gives host {host:?} a subset {subset:?}");
            return unresolved("BackendNotFound", message);
        }
        Ok(Backend {
            service: service.into(),
            port,
            subset: subset.map(Into::into),
        })
    }

    fn delegate(&self, name: &str, namespace: Option<&str>) -> Result<Delegate<'_>, Unresolved> {
        let namespace = namespace.filter(|namespace| !namespace.is_empty());
        let object = ObjectName::new(namespace.unwrap_or(&self.object.namespace), name);
        let unresolved = |message: String| Unresolved {
            reason: "BackendNotFound",
            message,
        };
        let found = self.reader.get::<VirtualService>(&object);
        let seen = |found: &&Arc<VirtualService>| {
            let own = &self.object.namespace;
            is_exported(&found.spec["exportTo"], &object.namespace, own)
        };
        let found = found.filter(seen).ok_or_else(|| {
            let own = &self.object.namespace;
            unresolved(format!("there is no VirtualService {object} that namespace {own} sees"))
        })?;
        if found.hosts().next().is_some() {
            let message = format!("VirtualService {object} has hosts of its own, and is nobody's delegate");
            return Err(unresolved(message));
        }
        Ok(Delegate {
            name: object.to_string(),
            spec: Arc::clone(&found.spec),
            destinations: Box::new(Self {
                object: &found.name,
                ..*self
            }),
        })
    }
}

/// The waypoints of the Services whose VirtualServices lead to a Service.
pub(super) fn scopes(reader: &Reader<'_>, service: &Service) -> Vec<Arc<str>> {
    let object = wire::object_of_host(reader.settings(), &service.hostname);
    let short = object.map(|name| Key::destination_name(&name.namespace, &name.name));
    let mut scopes = Vec::new();
    for key in short.into_iter().chain([Key::destination_host(&service.hostname)]) {
        for (name, written) in reader.find::<VirtualService>(key) {
            let is_here = |host: &str| full_name(reader, host, &name.namespace) == service.hostname;
            if written.destinations().into_iter().any(is_here) {
                let mut services = services(reader, name, written);
                for (root, written) in delegating(reader, name) {
                    services.extend(self::services(reader, root, written));
                }
                scopes.extend(services.iter().flat_map(|found| scope::of_service(reader, found)));
            }
        }
    }
    scopes
}

/// The VirtualServices that leave something to this one.
pub(super) fn delegating<'a>(
    reader: &Reader<'a>,
    delegate: &ObjectName,
) -> Vec<(&'a ObjectName, &'a Arc<VirtualService>)> {
    let found = reader.find::<VirtualService>(Key::delegate(delegate));
    let means = |name: &ObjectName, root: &VirtualService| root.delegates(&name.namespace).contains(delegate);
    found.filter(|(name, root)| means(name, root)).collect()
}

/// The Services that an object is for.
fn services<M>(reader: &Reader<'_>, name: &ObjectName, written: &Written<M>) -> Vec<Service> {
    let hosts = written.hosts();
    hosts.flat_map(|host| services_of(reader, name, host)).collect()
}

/// The Services that a host of an object means. One with a star means those of the object's own namespace.
pub(super) fn services_of(reader: &Reader<'_>, name: &ObjectName, host: &str) -> Vec<Service> {
    if !host.starts_with('*') {
        let found = reader.derived_service(&resource_name(reader, host, &name.namespace));
        return found.into_iter().collect();
    }
    let all = reader.all::<culvert_objects::Service>();
    let here = all.filter(|(service, _)| service.namespace == name.namespace);
    let of_kubernetes = here.map(|(service, _)| wire::service_name(reader.settings(), service));
    let all = reader.all::<ServiceEntry>();
    let here = all.filter(|(entry, _)| entry.namespace == name.namespace);
    let hosts = here.flat_map(|(_, entry)| &entry.hosts);
    let of_entries = hosts.map(|(_, host)| wire::host_name(&name.namespace, host));
    let names: BTreeSet<String> = of_kubernetes.chain(of_entries).collect();
    let services = names.iter().filter_map(|service| reader.derived_service(service));
    services
        .filter(|service| fit(reader, host, name, service).is_some())
        .collect()
}

/// The route of the Gateway API that comes before the VirtualService of a Service, at some port at least.
pub(super) fn overruling(reader: &Reader<'_>, service: &Service) -> Option<String> {
    let frontend = Frontend::of(reader, service)?;
    let key = frontend.key();
    let of_same = |name: &&ObjectName| name.namespace == frontend.object.namespace;
    let http = reader.find::<HTTPRoute>(key).map(|(name, _)| name).find(of_same);
    let grpc = || reader.find::<GRPCRoute>(key).map(|(name, _)| name).find(of_same);
    http.map(|name| format!("HTTPRoute {name}"))
        .or_else(|| grpc().map(|name| format!("GRPCRoute {name}")))
}
