//! From a host name to what the mesh has for it.

use std::{net::IpAddr, sync::Arc};

use culvert_state::{Mesh, Service};

use crate::{
    candidates::{Candidate, candidates},
    decision::Client,
    host::before,
    question::Family,
};

/// What the mesh knows of a name.
#[derive(Debug)]
pub(crate) enum Known<'a, 'm> {
    /// The name is this service's.
    Service(Found<'a, 'm>),
    /// Nothing: it is not in the mesh.
    Nothing,
    /// The controller has not been asked about these hosts.
    Unasked(Vec<Box<str>>),
}

/// A service that a name leads to, or an endpoint of it.
#[derive(Debug)]
pub(crate) struct Found<'a, 'm> {
    pub(crate) service: &'m Arc<Service>,
    /// Of the family that was asked for.
    pub(crate) addresses: Vec<IpAddr>,
    /// What the name is without a search domain, where it was found so.
    pub(crate) alias: Option<&'a str>,
}

/// Looks a host name up. What is not known yet comes before what is: it may be what is meant.
pub(crate) fn look_up<'a, 'm>(host: &'a str, family: Family, client: &Client<'_>, mesh: &'m Mesh) -> Known<'a, 'm> {
    let mut unasked: Vec<Box<str>> = Vec::new();
    for candidate in candidates(host, client) {
        if candidate.is_asked && mesh.is_host_unasked(&candidate.host) {
            let name: Box<str> = candidate.host.into();
            if !unasked.contains(&name) {
                unasked.push(name);
            }
        } else if unasked.is_empty()
            && let Some(found) = found(&candidate, family, client, mesh)
        {
            return Known::Service(found);
        }
    }
    match unasked.is_empty() {
        true => Known::Nothing,
        false => Known::Unasked(unasked),
    }
}

fn found<'a, 'm>(
    candidate: &Candidate<'a>,
    family: Family,
    client: &Client<'_>,
    mesh: &'m Mesh,
) -> Option<Found<'a, 'm>> {
    let answerable = |service: &Service| match candidate.endpoint {
        // Only of a headless service have endpoints names.
        Some(name) => is_headless(service, client) && mesh.endpoint_named(service, name).is_some(),
        None => mesh.virtual_addresses(service).next().is_some() || is_headless(service, client),
    };
    let service = mesh.service_of_host(client.namespace, &candidate.host, answerable)?;
    let asked = |address: &IpAddr| family.includes(*address) && service.families.include(*address);
    let mut addresses: Vec<IpAddr> = match candidate.endpoint {
        Some(name) => {
            let workload = mesh.endpoint_named(service, name)?;
            workload.addresses.iter().copied().filter(asked).collect()
        }
        None if is_headless(service, client) => mesh.endpoint_addresses(service).filter(asked).collect(),
        None => mesh.virtual_addresses(service).filter(asked).collect(),
    };
    // Several workloads may name one address.
    addresses.sort_unstable();
    addresses.dedup();
    let alias = candidate.stripped.filter(|_| !candidate.host.starts_with('*'));
    Some(Found {
        service,
        addresses,
        alias,
    })
}

/// Whether its name leads to its endpoints: a Service of the cluster without virtual addresses.
fn is_headless(service: &Service, client: &Client<'_>) -> bool {
    let of_kubernetes = || before(&service.hostname, client.cluster_domain)?.strip_suffix(".svc");
    service.addresses.is_empty() && of_kubernetes().is_some()
}
