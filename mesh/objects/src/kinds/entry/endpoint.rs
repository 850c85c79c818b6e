//! Where an endpoint of a ServiceEntry, or a WorkloadEntry, is.

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value;

use super::reading::{Reading, dns_name};
use crate::labels::shared;
use crate::network::{self, NETWORK_LABEL};
use crate::values::{host_address, is_subdomain};

/// An endpoint of a ServiceEntry, or what a WorkloadEntry says of its workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryEndpoint {
    /// Which of `spec.endpoints`, from 0; none for a WorkloadEntry.
    pub place: Option<usize>,
    /// By what it is reached.
    pub host: EntryHost,
    /// Where it serves ports of these names.
    pub ports: Box<[(Arc<str>, u16)]>,
    /// The network in which its address means something; empty for the mesh's own.
    pub network: Arc<str>,
    /// Where it runs.
    pub locality: EntryLocality,
    /// Its share of connections, if it says one.
    pub weight: Option<u32>,
    /// As whom it runs; empty where it does not say.
    pub service_account: Arc<str>,
}

/// By what an endpoint is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryHost {
    /// An address.
    Address(IpAddr),
    /// A DNS name, in lower case.
    Name(Arc<str>),
}

/// Where an endpoint runs. Empty parts are not said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryLocality {
    /// Region.
    pub region: Arc<str>,
    /// Zone.
    pub zone: Arc<str>,
    /// Subzone.
    pub subzone: Arc<str>,
}

impl EntryEndpoint {
    /// One that is known by its DNS name alone.
    pub fn of_name(name: &str) -> Self {
        Self {
            place: None,
            host: EntryHost::Name(name.into()),
            ports: Box::default(),
            network: Arc::default(),
            locality: EntryLocality::default(),
            weight: None,
            service_account: Arc::default(),
        }
    }

    /// The path of one of its fields.
    pub fn field(&self, name: &str) -> String {
        format!("{}.{name}", parent(self.place))
    }

    /// Its address in the mesh's own network, if it has one.
    pub fn address(&self) -> Option<IpAddr> {
        match self.host {
            EntryHost::Address(address) if self.network.is_empty() => Some(address),
            EntryHost::Address(_) | EntryHost::Name(_) => None,
        }
    }

    /// Where it serves a port of this name, if it says so.
    pub fn port(&self, name: &str) -> Option<u16> {
        let found = self.ports.iter().find(|(known, _)| **known == *name)?;
        Some(found.1)
    }

    /// Reads an endpoint; none if one cannot tell where or as whom it is.
    pub(super) fn read(reading: &mut Reading, value: &Value, place: Option<usize>) -> Option<Self> {
        let at = |name: &str| format!("{}.{name}", parent(place));
        let host = host(reading, &value["address"], &at("address"))?;
        let account = reading
            .text(&value["serviceAccount"], &at("serviceAccount"))
            .unwrap_or_default();
        if !account.is_empty() && !is_subdomain(account) {
            let message = format!("{account:?} is not the name of a service account: it is left out with its endpoint");
            reading.note(&at("serviceAccount"), message);
            return None;
        }
        let mut ports = Vec::new();
        for (field, name, value) in reading.members(&value["ports"], &at("ports")) {
            // Without it, the port that the Service names would be taken for the endpoint's.
            let port = reading.port(value, &field)?;
            ports.push((shared(name), port));
        }
        let network = reading.text(&value["network"], &at("network")).unwrap_or_default();
        let label = reading.text(
            &value["labels"][NETWORK_LABEL],
            &at(&format!("labels[{NETWORK_LABEL}]")),
        );
        let label = label.filter(|label| !label.is_empty());
        if let Some(label) = label.filter(|_| network.is_empty()) {
            reading.note(&at(&format!("labels[{NETWORK_LABEL}]")), network::of_endpoint(label));
        }
        let network = label.filter(|_| network.is_empty()).unwrap_or(network);
        Some(Self {
            place,
            host,
            ports: ports.into(),
            network: shared(network),
            locality: locality(reading, &value["locality"], &at("locality")),
            weight: weight(reading, &value["weight"], &at("weight")),
            service_account: shared(account),
        })
    }

    /// About how many bytes it holds beside its own structure.
    pub(super) fn heap(&self) -> usize {
        size_of_val(&*self.ports)
    }
}

fn parent(place: Option<usize>) -> String {
    match place {
        Some(place) => format!("spec.endpoints[{place}]"),
        None => "spec".to_owned(),
    }
}

fn host(reading: &mut Reading, value: &Value, field: &str) -> Option<EntryHost> {
    let Some(text) = reading.text(value, field).filter(|text| !text.is_empty()) else {
        reading.note(field, "there is no address: nothing leads there");
        return None;
    };
    if text.starts_with("unix:") {
        reading.note(field, format!("{text} is a socket of a host: nothing leads there"));
        return None;
    }
    if text.parse::<IpAddr>().is_ok() {
        return match host_address(field, text) {
            Ok(address) => Some(EntryHost::Address(address)),
            Err(problem) => {
                reading.note(field, format!("{}: nothing leads there", problem.message));
                None
            }
        };
    }
    let name = dns_name(text);
    if name.is_none() {
        reading.note(
            field,
            format!("{text:?} is neither an address nor a DNS name: nothing leads there"),
        );
    }
    name.map(|name| EntryHost::Name(shared(&name)))
}

fn locality(reading: &mut Reading, value: &Value, field: &str) -> EntryLocality {
    let text = reading.text(value, field).unwrap_or_default();
    let mut parts = text.splitn(4, '/').map(shared);
    let mut next = || parts.next().unwrap_or_default();
    let locality = EntryLocality {
        region: next(),
        zone: next(),
        subzone: next(),
    };
    if parts.next().is_some() {
        reading.note(
            field,
            format!("{text:?} has more than region/zone/subzone: the rest is left out"),
        );
    }
    locality
}

fn weight(reading: &mut Reading, value: &Value, field: &str) -> Option<u32> {
    if value.is_null() {
        return None;
    }
    let weight = value.as_u64().and_then(|weight| u32::try_from(weight).ok());
    if weight.is_none() {
        reading.note(field, format!("{value} is no weight: it is left out"));
    }
    // As Istio has it, 0 says nothing.
    weight.filter(|weight| *weight != 0)
}
