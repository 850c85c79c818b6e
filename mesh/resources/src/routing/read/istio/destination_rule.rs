//! DestinationRule: subsets of a host, and what holds for connections to it and to them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::super::super::traffic::Traffic;
use super::super::notes::Notes;
use super::super::values::{self, Bad, list};
use super::client_tls;
use super::locality;
use super::traffic::traffic;
use super::traffic_spec::{BalancerSpec, PolicySpec, Simple};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    #[serde(rename = "host")]
    _host: Option<String>,
    traffic_policy: Option<Value>,
    #[serde(default, deserialize_with = "list")]
    subsets: Vec<SubsetSpec>,
    #[serde(rename = "exportTo")]
    _export_to: Option<Value>,
    workload_selector: Option<Value>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SubsetSpec {
    name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    traffic_policy: Option<Value>,
}

/// What a DestinationRule says.
#[derive(Clone, Debug, Default)]
pub(crate) struct DestinationPolicy {
    own: Part,
    /// Whether `own` is written at all.
    has_own: bool,
    subsets: Vec<(String, BTreeMap<String, String>, Part)>,
}

/// A policy, if it could be read.
#[derive(Clone, Debug)]
enum Part {
    Read(Box<PolicySpec>),
    /// It could not: nobody knows in which way connections should go.
    Bad,
}

impl Default for Part {
    fn default() -> Self {
        Self::Read(Box::default())
    }
}

/// Reads a DestinationRule. None where it is not in force; one that cannot be read as a whole refuses connections.
pub(crate) fn read(spec: &Value, notes: &mut Notes) -> Option<DestinationPolicy> {
    let spec: Spec = match values::read(spec) {
        Ok(spec) => spec,
        Err(bad) => {
            let bad = bad.below("spec");
            notes.refuse(bad.field, format!("{}: there is no endpoint", bad.message));
            return Some(DestinationPolicy {
                own: Part::Bad,
                has_own: true,
                subsets: Vec::new(),
            });
        }
    };
    if spec.workload_selector.is_some() {
        return None;
    }
    let own = part(spec.traffic_policy.as_ref(), "spec.trafficPolicy", notes);
    let mut subsets: Vec<(String, BTreeMap<String, String>, Part)> = Vec::new();
    for (index, subset) in spec.subsets.into_iter().enumerate() {
        let field = format!("spec.subsets[{index}]");
        let is_plain = |name: &str| {
            let byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
            !name.is_empty() && name.bytes().all(byte)
        };
        if !is_plain(&subset.name) || subsets.iter().any(|(name, ..)| *name == subset.name) {
            let message = format!("{:?} is no name, or there twice: the subset is not there", subset.name);
            notes.refuse(format!("{field}.name"), message);
            continue;
        }
        let policy = part(subset.traffic_policy.as_ref(), &format!("{field}.trafficPolicy"), notes);
        subsets.push((subset.name, subset.labels, policy));
    }
    let has_own = spec.traffic_policy.is_some();
    Some(DestinationPolicy { own, has_own, subsets })
}

fn part(value: Option<&Value>, field: &str, notes: &mut Notes) -> Part {
    let Some(value) = value else { return Part::default() };
    let read = values::read::<PolicySpec>(value).and_then(|spec| {
        check(&spec)?;
        for (index, port) in spec.port_level_settings.iter().enumerate() {
            check(port).map_err(|bad| bad.below(&format!("portLevelSettings[{index}]")))?;
        }
        Ok(spec)
    });
    for (at, spec) in read.iter().flat_map(|spec| policies(spec, field)) {
        let has_outlier = spec.outlier_detection.is_some();
        if let Some(setting) = spec
            .load_balancer
            .as_ref()
            .and_then(|balancer| balancer.locality.as_ref())
        {
            let place = format!("{at}.loadBalancer.localityLbSetting");
            if let Err(bad) = locality::preference(Some(setting), has_outlier) {
                let bad = bad.below(&place);
                let message = format!("{}: endpoints of all localities get their share", bad.message);
                notes.refuse(bad.field, message);
            } else if locality::is_idle(setting, has_outlier) {
                let message = "counts with outlierDetection alone: endpoints of all localities get their share";
                notes.refuse(place, message);
            }
        }
        if let Some(balancer) = spec.load_balancer.as_ref().filter(|balancer| is_warmup_idle(balancer)) {
            let name = if balancer.warmup.is_some() {
                "warmup"
            } else {
                "warmupDurationSecs"
            };
            let message = "is for LEAST_REQUEST and ROUND_ROBIN alone: a new endpoint gets its whole share at once";
            notes.refuse(format!("{at}.loadBalancer.{name}"), message);
        }
        for name in spec.tls.iter().flat_map(client_tls::idle_fields) {
            let message = "means nothing beside this mode, or beside insecureSkipVerify: it is as if it was not there";
            notes.refuse(format!("{at}.tls.{name}"), message);
        }
    }
    match read {
        Ok(spec) => Part::Read(Box::new(spec)),
        Err(bad) => {
            let bad = bad.below(field);
            notes.refuse(bad.field, format!("{}: there is no endpoint", bad.message));
            Part::Bad
        }
    }
}

/// A policy and those of single ports in it, with their fields.
fn policies<'a>(spec: &'a PolicySpec, field: &str) -> Vec<(String, &'a PolicySpec)> {
    let ports = spec.port_level_settings.iter().enumerate();
    let ports = ports.map(|(index, port)| (format!("{field}.portLevelSettings[{index}]"), port));
    std::iter::once((field.to_owned(), spec)).chain(ports).collect()
}

/// Whether new endpoints would begin slowly, and the balancer knows nothing of that.
fn is_warmup_idle(spec: &BalancerSpec) -> bool {
    let asks = spec.warmup.is_some() || spec.warmup_duration_secs.is_some();
    asks && (spec.consistent_hash.is_some() || matches!(spec.simple, Some(Simple::Random)))
}

/// Whether the values are such as proxies take.
fn check(spec: &PolicySpec) -> Result<(), Bad> {
    traffic(spec).map(drop)
}

impl DestinationPolicy {
    /// Takes in what another, younger rule of the same host says: subsets that are not there yet, and its policy where there is none.
    pub(crate) fn merge(&mut self, younger: Self) {
        if !self.has_own {
            self.own = younger.own;
            self.has_own = younger.has_own;
        }
        for subset in younger.subsets {
            if !self.subsets.iter().any(|(name, ..)| *name == subset.0) {
                self.subsets.push(subset);
            }
        }
    }

    /// The subsets: their names, and the labels of their endpoints.
    pub(crate) fn subsets(&self) -> impl Iterator<Item = (&str, &BTreeMap<String, String>)> {
        self.subsets.iter().map(|(name, labels, _)| (name.as_str(), labels))
    }

    /// What holds for connections to a port, or to a subset's endpoints there.
    pub(crate) fn at_port(&self, port: u16, subset: Option<&str>) -> Traffic {
        let refused = || Traffic {
            is_refused: true,
            ..Traffic::default()
        };
        let Part::Read(own) = &self.own else { return refused() };
        let subset = subset.and_then(|asked| self.subsets.iter().find(|(name, ..)| name == asked));
        let mut merged = PolicySpec::default().overlaid(own, port);
        match subset {
            Some((_, _, Part::Bad)) => return refused(),
            Some((_, _, Part::Read(subset))) => merged = merged.overlaid(subset, port),
            None => {}
        }
        traffic(&merged).unwrap_or_else(|_| refused())
    }
}
