//! ServiceEntry: hosts beside the cluster's Services, with their addresses, ports and endpoints.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::super::key::Key;
use super::super::loose::Loose;
use super::super::prune;
use super::super::spec::KindSpec;
use super::endpoint::{EntryEndpoint, EntryHost};
use super::export::Export;
use super::port::{EntryPort, ports};
use super::reading::{Reading, dns_name};
use crate::defaults;
use crate::known;
use crate::labels::Labels;
use crate::name::ObjectName;
use crate::problem::Problem;
use crate::values::host_address;

/// Hosts beside the cluster's Services.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceEntry {
    /// Namespace and name.
    pub name: ObjectName,
    /// Tells it from others of the same name, before and after.
    uid: Box<str>,
    /// Since when it is there; none for one from a file.
    pub created: Option<Time>,
    /// All its labels.
    pub labels: Labels,
    /// Those annotations that are read.
    pub annotations: Labels,
    /// DNS names in lower case, each with its field. The first label may be `*`.
    pub hosts: Box<[(String, Box<str>)]>,
    /// Virtual addresses and ranges, each with its field. A range has no bit set after its prefix.
    pub addresses: Box<[(String, IpNet)]>,
    /// Addresses that a controller has chosen for its hosts, by host, as its status has them.
    pub allocated: Box<[(Box<str>, IpAddr)]>,
    /// What it serves.
    pub ports: Box<[EntryPort]>,
    /// How its endpoints are found.
    pub resolution: Resolution,
    /// Its endpoints, where it lists them.
    pub endpoints: Box<[EntryEndpoint]>,
    selection: Selection,
    /// Who sees its hosts.
    pub export: Export,
    /// Identities that may answer for it, as they are written, each with its field.
    pub subject_alt_names: Box<[(String, Box<str>)]>,
    /// What is wrong with it by itself.
    problems: Box<[Problem]>,
}

/// How endpoints are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Not at all: connections go where they were going.
    None,
    /// They are listed, or selected.
    Static,
    /// Those that are names, or else the host, by DNS: each address is an endpoint.
    Dns,
    /// The same, but of the addresses of a name one at a time counts.
    DnsRoundRobin,
    /// In a way that is not served: there are none.
    Unserved,
}

impl Resolution {
    /// Whether endpoints may be names.
    pub fn is_dns(self) -> bool {
        matches!(self, Self::Dns | Self::DnsRoundRobin)
    }

    /// Whether there are endpoints.
    pub fn has_endpoints(self) -> bool {
        self == Self::Static || self.is_dns()
    }
}

/// Which pods and WorkloadEntries of its namespace are its endpoints.
#[derive(Clone, Debug, PartialEq)]
enum Selection {
    /// It does not select its endpoints.
    NotAsked,
    /// Those with all these labels, of which there is one at least.
    Of(Labels),
    /// It cannot be told.
    Nobody,
}

impl ServiceEntry {
    /// What is wrong with it by itself, and what holds instead.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Whether it selects its endpoints rather than listing them.
    pub fn has_selector(&self) -> bool {
        self.selection != Selection::NotAsked
    }

    /// Whether it selects a workload of its namespace with these labels.
    pub fn selects(&self, labels: &Labels) -> bool {
        matches!(&self.selection, Selection::Of(asked) if asked.iter().all(|(key, value)| labels.get(key) == Some(value)))
    }
}

impl KindSpec for ServiceEntry {
    type Wire = Loose;

    fn with_defaults(mut wire: Loose) -> Loose {
        defaults::namespaced(&mut wire.metadata);
        wire
    }

    fn keep(wire: Loose) -> Self {
        let (name, spec) = (prune::namespaced(&wire.metadata), &wire.spec);
        let mut reading = Reading::default();
        for (field, instead) in known::unserved_fields(&known::istio::SERVICE_ENTRY, &json!({"spec": spec})) {
            reading.note(&field, instead);
        }
        let resolution = resolution(&mut reading, &spec["resolution"]);
        let ports = ports(&mut reading, &spec["ports"]);
        let selection = selection(&mut reading, &spec["workloadSelector"]);
        let sans = reading.texts(&spec["subjectAltNames"], "spec.subjectAltNames");
        Self {
            uid: wire.metadata.uid.clone().unwrap_or_default().into(),
            created: wire.metadata.creation_timestamp.clone(),
            labels: Labels::of(wire.metadata.labels.as_ref()),
            hosts: hosts(&mut reading, &spec["hosts"]),
            addresses: addresses(&mut reading, &spec["addresses"]),
            allocated: allocated(&wire.status["addresses"]),
            endpoints: endpoints(&mut reading, spec, resolution, &ports),
            ports,
            resolution,
            selection,
            export: Export::read(&mut reading, &spec["exportTo"], &name.namespace),
            subject_alt_names: sans.into_iter().map(|(field, text)| (field, text.into())).collect(),
            problems: reading.into_problems(),
            annotations: prune::kept_annotations(wire.metadata.annotations),
            name,
        }
    }

    fn name(&self) -> ObjectName {
        self.name.clone()
    }

    fn uid(&self) -> Option<&str> {
        Some(&self.uid)
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key)
    }

    fn keys(&self, name: &ObjectName) -> Vec<Key> {
        let hosts = self.hosts.iter().map(|(_, host)| Key::host(host));
        let addresses = self.addresses.iter().map(|(_, range)| Key::virtual_range(*range));
        let endpoints = self.endpoints.iter().filter_map(EntryEndpoint::address);
        // Who has all the labels has the first.
        let first = match &self.selection {
            Selection::Of(labels) => labels.iter().next(),
            Selection::NotAsked | Selection::Nobody => None,
        };
        let selector = first.map(|(label, value)| Key::selector(&name.namespace, label, value));
        let keys = hosts.chain(addresses).chain(endpoints.map(Key::endpoint_at));
        let mut keys: Vec<Key> = keys.chain(selector).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    fn heap(&self) -> usize {
        let hosts: usize = self
            .hosts
            .iter()
            .map(|host| size_of_val(host) + host.0.len() + host.1.len())
            .sum();
        let endpoints: usize = self.endpoints.iter().map(|one| size_of_val(one) + one.heap()).sum();
        self.name.name.len()
            + hosts
            + size_of_val(&*self.addresses)
            + size_of_val(&*self.allocated)
            + size_of_val(&*self.ports)
            + endpoints
    }
}

fn resolution(reading: &mut Reading, value: &Value) -> Resolution {
    match value {
        Value::Null => Resolution::None,
        Value::String(word) => match word.as_str() {
            "NONE" => Resolution::None,
            "STATIC" => Resolution::Static,
            "DNS" => Resolution::Dns,
            "DNS_ROUND_ROBIN" => Resolution::DnsRoundRobin,
            // What holds for other words is in the table of fields.
            _ => Resolution::Unserved,
        },
        _ => {
            reading.note(
                "spec.resolution",
                "it is no text: connections to its addresses are refused",
            );
            Resolution::Unserved
        }
    }
}

fn hosts(reading: &mut Reading, value: &Value) -> Box<[(String, Box<str>)]> {
    let mut hosts: Vec<(String, Box<str>)> = Vec::new();
    for (field, text) in reading.texts(value, "spec.hosts") {
        let (wildcard, rest) = match text.strip_prefix("*.") {
            Some(rest) => ("*.", rest),
            None => ("", text),
        };
        let Some(name) = dns_name(rest) else {
            reading.note(&field, format!("{text:?} is no DNS name: it is left out"));
            continue;
        };
        let host: Box<str> = format!("{wildcard}{name}").into();
        if hosts.iter().any(|(_, known)| *known == host) {
            reading.note(&field, format!("{host} is there twice: this one is left out"));
            continue;
        }
        hosts.push((field, host));
    }
    if hosts.is_empty() {
        reading.note("spec.hosts", "there is none: nothing follows from the object");
    }
    hosts.into()
}

fn addresses(reading: &mut Reading, value: &Value) -> Box<[(String, IpNet)]> {
    let mut ranges: Vec<(String, IpNet)> = Vec::new();
    for (field, text) in reading.texts(value, "spec.addresses") {
        let range = match range(&field, text) {
            Ok(range) => range,
            Err(problem) => {
                reading.note(&field, format!("{}: it is left out", problem.message));
                continue;
            }
        };
        if let Some((before, _)) = ranges.iter().find(|(_, known)| *known == range) {
            reading.note(&field, format!("{range} is {before} already: this one is left out"));
            continue;
        }
        ranges.push((field, range));
    }
    ranges.into()
}

/// What is not understood was not written by a controller: it is as if nothing had been chosen.
fn allocated(value: &Value) -> Box<[(Box<str>, IpAddr)]> {
    let items = value.as_array().into_iter().flatten();
    let read = |item: &Value| Some((item["host"].as_str()?.into(), item["value"].as_str()?.parse().ok()?));
    items.filter_map(read).collect()
}

fn range(field: &str, text: &str) -> Result<IpNet, Problem> {
    let Some((address, _)) = text.split_once('/') else {
        return host_address(field, text).map(IpNet::from);
    };
    let range: Result<IpNet, _> = text.parse();
    let mapped = address
        .parse()
        .is_ok_and(|v6: std::net::Ipv6Addr| v6.to_ipv4_mapped().is_some());
    match range.map(|range| range.trunc()) {
        Ok(range) if range.prefix_len() == range.max_prefix_len() => {
            host_address(field, &range.addr().to_string()).map(IpNet::from)
        }
        Ok(range) if !mapped => Ok(range),
        Ok(_) | Err(_) => Err(Problem::of_field(
            field,
            format!("{text:?} is neither an address nor a range"),
        )),
    }
}

fn endpoints(reading: &mut Reading, spec: &Value, resolution: Resolution, ports: &[EntryPort]) -> Box<[EntryEndpoint]> {
    const FIELD: &str = "spec.endpoints";
    let items = reading.items(&spec["endpoints"], FIELD);
    if items.is_empty() {
        return Box::default();
    }
    if resolution == Resolution::None {
        reading.note(FIELD, "resolution NONE has no endpoints: they are left out");
        return Box::default();
    }
    if !spec["workloadSelector"].is_null() {
        reading.note(FIELD, "workloadSelector says who the endpoints are: these are left out");
        return Box::default();
    }
    let mut found: Vec<EntryEndpoint> = Vec::new();
    for (place, (field, item)) in items.into_iter().enumerate() {
        let Some(endpoint) = EntryEndpoint::read(reading, item, Some(place)) else {
            continue;
        };
        if let (Resolution::Static, EntryHost::Name(name)) = (resolution, &endpoint.host) {
            let message = format!("{name} is no address, which resolution STATIC asks for: nothing leads there");
            reading.note(&format!("{field}.address"), message);
            continue;
        }
        if let Some(before) = found.iter().find(|other| other.host == endpoint.host) {
            let message = format!(
                "it is that of {} already: this one is left out",
                before.field("address")
            );
            reading.note(&format!("{field}.address"), message);
            continue;
        }
        for (name, _) in &endpoint.ports {
            if !ports.iter().any(|port| port.name == *name) {
                let message = "the entry has no port of this name: nothing follows from it";
                reading.note(&format!("{field}.ports[{name}]"), message);
            }
        }
        found.push(endpoint);
    }
    found.into()
}

fn selection(reading: &mut Reading, value: &Value) -> Selection {
    const FIELD: &str = "spec.workloadSelector.labels";
    if value.is_null() {
        return Selection::NotAsked;
    }
    let asked = value["labels"].as_object().map_or(0, serde_json::Map::len);
    let labels = reading.labels(&value["labels"], FIELD);
    let is_understood = asked == labels.len() && labels.values().all(|text| !text.contains('*'));
    if labels.is_empty() || !is_understood {
        reading.note(FIELD, "it does not say whom it selects: it selects nobody");
        return Selection::Nobody;
    }
    Selection::Of(Labels::of(Some(&labels)))
}
