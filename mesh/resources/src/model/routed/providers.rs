//! What providers of the mesh's configuration lead to, and which waypoints ask them.

use std::sync::Arc;

use culvert_objects::mesh_config::{Provider, ProviderKind, RateLimit};
use culvert_objects::{AuthorizationPolicy, Gateway, Key, KindSpec as _, ObjectName, ServiceEntry, Target};
use culvert_proto::workload::Service;

use super::super::mesh_config;
use super::super::reader::Reader;
use super::super::wire;
use super::{ports, scope};
use crate::routing::model::Backend;

/// The provider of a name that can be asked about requests, and where it is.
///
/// # Errors
/// Why nobody can be asked.
pub(super) fn authorizer<'a>(reader: &Reader<'a>, name: &str) -> Result<(&'a Provider, Backend), String> {
    let config = mesh_config::of(reader);
    let provider = config.and_then(|config| config.provider(name));
    let provider = provider.ok_or_else(|| format!("the mesh's configuration has no provider {name:?}"))?;
    let (host, port) = match &provider.kind {
        ProviderKind::AuthzHttp(http) => (&http.common.service, http.common.port),
        ProviderKind::AuthzGrpc(grpc) => (&grpc.service, grpc.port),
        _ => return Err(format!("provider {name:?} is none that can be asked about requests")),
    };
    Ok((provider, backend(reader, host, port)?))
}

/// The provider of a name that counts requests, and where it is.
///
/// # Errors
/// Why nobody counts.
pub(super) fn counter<'a>(reader: &Reader<'a>, name: &str) -> Result<(&'a RateLimit, Backend), String> {
    let config = mesh_config::of(reader);
    let provider = config.and_then(|config| config.provider(name));
    let provider = provider.ok_or_else(|| format!("the mesh's configuration has no provider {name:?}"))?;
    let ProviderKind::RateLimit(limit) = &provider.kind else {
        return Err(format!("provider {name:?} is no envoyRateLimit"));
    };
    Ok((limit, backend(reader, &limit.service, limit.port)?))
}

/// A port of the service that a provider names, as `[NAMESPACE/]HOST`.
fn backend(reader: &Reader<'_>, host: &str, port: u16) -> Result<Backend, String> {
    let resource = resource(reader, host);
    let found = resource.and_then(|resource| Some((reader.derived_service(&resource)?, resource)));
    let (service, resource) = found.ok_or_else(|| format!("there is no service {host:?}"))?;
    if !ports::of_service(&service).any(|known| known == port) {
        return Err(format!("service {host:?} has no port {port}"));
    }
    Ok(Backend {
        service: resource.into(),
        port,
        subset: None,
    })
}

/// The resource name of a host, which is a Service's name or that of a ServiceEntry.
pub(super) fn resource(reader: &Reader<'_>, host: &str) -> Option<String> {
    let (namespace, host) = match host.split_once('/') {
        Some((namespace, host)) => (Some(namespace), host),
        None => (None, host),
    };
    if let Some(name) = wire::object_of_host(reader.settings(), host) {
        return Some(wire::service_name(reader.settings(), &name));
    }
    if let Some(namespace) = namespace.filter(|_| !host.contains('.')) {
        return Some(wire::service_name(reader.settings(), &ObjectName::new(namespace, host)));
    }
    let entries = reader.find::<ServiceEntry>(Key::host(host));
    let entries = entries.filter(|(name, entry)| {
        let is_here = namespace.is_none_or(|namespace| *name.namespace == *namespace);
        is_here && entry.hosts.iter().any(|(_, known)| **known == *host)
    });
    let first = entries.map(|(name, _)| name).min()?;
    Some(wire::host_name(&first.namespace, host))
}

/// The waypoints that ask a service about requests.
pub(super) fn scopes(reader: &Reader<'_>, service: &Service) -> Vec<Arc<str>> {
    let own = wire::host_name(&service.namespace, &service.hostname);
    let providers = mesh_config::of(reader).into_iter().flat_map(|config| &config.providers);
    let mut found = Vec::new();
    for provider in providers {
        let host = match &provider.kind {
            ProviderKind::AuthzHttp(http) => &http.common.service,
            ProviderKind::AuthzGrpc(grpc) => &grpc.service,
            _ => continue,
        };
        if resource(reader, host).as_deref() != Some(&own) {
            continue;
        }
        for (name, policy) in reader.find::<AuthorizationPolicy>(Key::provider(&provider.name)) {
            let targets = policy.binding().into_iter().flat_map(|binding| binding.targets());
            found.extend(targets.flat_map(|target| of_target(reader, name, target)));
        }
    }
    found
}

/// The waypoints that enforce a policy for a target.
fn of_target(reader: &Reader<'_>, policy: &ObjectName, target: &Target) -> Vec<Arc<str>> {
    let object = target.object(policy);
    let of_resource = |resource: String| {
        let service = reader.derived_service(&resource);
        service.map_or_else(Vec::new, |service| scope::of_service(reader, &service))
    };
    match &*target.kind {
        "Service" => of_resource(wire::service_name(reader.settings(), &object)),
        "ServiceEntry" => {
            let entry = reader.get::<ServiceEntry>(&object);
            let hosts = entry.into_iter().flat_map(|entry| entry.hosts.iter());
            hosts
                .flat_map(|(_, host)| of_resource(wire::host_name(&object.namespace, host)))
                .collect()
        }
        "Gateway" => scope::gateway(reader, &object)
            .map(|_| scope::of_gateway(&object))
            .into_iter()
            .collect(),
        "GatewayClass" => {
            let all = reader.all::<Gateway>();
            let of_class = all.filter(|(_, gateway)| gateway.spec["gatewayClassName"] == *target.name);
            of_class.map(|(name, _)| scope::of_gateway(name)).collect()
        }
        _ => Vec::new(),
    }
}
