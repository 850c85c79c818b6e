//! Which BackendTLSPolicy holds at a port of a Service.

use std::sync::Arc;

use culvert_identity::authorities;
use culvert_objects::{BackendTLSPolicy, ConfigMap, Key, ObjectName};
use culvert_proto::workload::Service;
use k8s_openapi::api::core::v1::ServicePort;

use super::super::reader::Reader;
use super::ports;
use crate::routing::backend_tls::{BackendTls, Said};
use crate::routing::read::backend_tls::{self, Reading, Target};
use crate::routing::read::notes::Notes;
use crate::routing::traffic::Traffic;

/// The policies for ports of a Service.
pub(super) struct Policies<'a> {
    reader: &'a Reader<'a>,
    ports: Vec<ServicePort>,
    /// Those that name all ports or one of them, and that one; the one that holds first.
    found: Vec<(Option<String>, &'a ObjectName, &'a Arc<BackendTLSPolicy>)>,
}

impl<'a> Policies<'a> {
    /// Those for a Service of Kubernetes; for others there are none.
    pub(super) fn of(reader: &'a Reader<'a>, service: &Service) -> Self {
        let (object, ports) = ports::of_object(reader, service).unzip();
        Self {
            reader,
            ports: ports.unwrap_or_default(),
            found: object.map(|object| found(reader, &object)).unwrap_or_default(),
        }
    }

    /// The policy that holds at a port.
    pub(super) fn holding(&self, port: u16) -> Option<(&'a ObjectName, &'a Arc<BackendTLSPolicy>)> {
        let is_here = |section: &Option<String>| match section {
            None => true,
            Some(name) => self
                .ports
                .iter()
                .any(|known| is_port(known, name) && known.port == i32::from(port)),
        };
        let found = self.found.iter().find(|(section, ..)| is_here(section));
        found.map(|(_, name, policy)| (*name, *policy))
    }

    /// TLS at a port, if a policy holds there.
    ///
    /// # Errors
    /// Where one does, and no TLS can be made of it.
    pub(super) fn tls(&self, port: u16) -> Result<Option<BackendTls>, NoTls> {
        let Some((name, policy)) = self.holding(port) else {
            return Ok(None);
        };
        // What is wrong with the object is said where it is looked at by itself.
        let reading = read(self.reader, name, policy, &mut Notes::default());
        reading.tls.map(Some).ok_or(NoTls)
    }

    /// Settles which TLS endpoints of `service` are spoken to in at a port: what a DestinationRule says, which is in `traffic`, comes before a
    /// BackendTLSPolicy, as with Istio. Where it cannot be had, connections are refused.
    pub(super) fn settle(&self, traffic: &mut Traffic, service: &Service, port: u16) {
        if traffic.tls == Said::Nothing {
            match self.tls(port) {
                Ok(tls) => traffic.tls = tls.map(Said::Tls).unwrap_or_default(),
                Err(NoTls) => traffic.is_refused = true,
            }
        }
        if let Said::Tls(tls) = std::mem::take(&mut traffic.tls) {
            match tls.at_host(&service.hostname) {
                Some(tls) => traffic.tls = Said::Tls(tls),
                None => traffic.is_refused = true,
            }
        }
    }
}

/// A policy of which no TLS can be made.
#[derive(Debug)]
pub(super) struct NoTls;

/// What a policy says.
pub(super) fn read(reader: &Reader<'_>, name: &ObjectName, policy: &BackendTLSPolicy, notes: &mut Notes) -> Reading {
    let lookup = |map: &str| {
        let object = ObjectName::new(Arc::clone(&name.namespace), map);
        let found = reader.get::<ConfigMap>(&object);
        let found = found.ok_or_else(|| format!("there is no ConfigMap {object}, or it may not be read"))?;
        let pem = found.authorities.as_deref();
        let pem = pem.ok_or_else(|| format!("ConfigMap {object} has no key ca.crt"))?;
        // What is cut out of a text is what proxies read.
        let cut = authorities(pem).and_then(|pem| authorities(&pem));
        cut.map_err(|error| format!("ca.crt of ConfigMap {object}: {error}"))
    };
    backend_tls::read(&policy.spec, &lookup, notes)
}

/// Whether a policy is for endpoints of a Service at all.
pub(super) fn is_service(target: &Target) -> bool {
    target.kind == "Service" && ["", "core"].contains(&target.group.as_str())
}

/// Whether a port has this name, and is one of connections.
pub(super) fn is_port(port: &ServicePort, name: &str) -> bool {
    port.name.as_deref() == Some(name) && port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP")
}

/// The policies for a Service, each with the name of a port, if it is for one alone: these hold before others, and the older before the
/// younger.
pub(super) fn found<'a>(
    reader: &Reader<'a>,
    service: &ObjectName,
) -> Vec<(Option<String>, &'a ObjectName, &'a Arc<BackendTLSPolicy>)> {
    let policies = reader.find::<BackendTLSPolicy>(Key::target("Service", service));
    let here = policies.filter(|(name, _)| name.namespace == service.namespace);
    let mut found: Vec<_> = here
        .flat_map(|(name, policy)| {
            let targets = backend_tls::targets(&policy.spec).into_iter();
            let targets = targets.filter(|(_, target)| is_service(target) && *target.name == *service.name);
            targets.map(move |(_, target)| (target.section, name, policy))
        })
        .collect();
    found.sort_by(|a, b| {
        let age = |policy: &BackendTLSPolicy| policy.created.as_ref().map(|time| time.0);
        (a.0.is_none(), age(a.2), a.1).cmp(&(b.0.is_none(), age(b.2), b.1))
    });
    found
}
