//! Policies whose selector selects no pod.

use std::collections::{BTreeSet, HashMap};

use culvert_objects::{
    AuthorizationPolicy, Kind, Labels, ObjectName, PeerAuthentication, Pod, RequestAuthentication, Selector,
    WorkloadEntry,
};

use super::problem::Problem;
use crate::model::reader::Reader;

pub(super) fn find(reader: &Reader<'_>) -> Vec<Problem> {
    let policies = reader.all::<AuthorizationPolicy>();
    let policies = policies.map(|(name, policy)| (Kind::AuthorizationPolicy, name, &policy.selector));
    let peers = reader.all::<PeerAuthentication>();
    let peers = peers.map(|(name, policy)| (Kind::PeerAuthentication, name, &policy.selector));
    let tokens = reader.all::<RequestAuthentication>();
    let tokens = tokens.map(|(name, policy)| (Kind::RequestAuthentication, name, &policy.selector));
    let all = policies.chain(peers).chain(tokens);
    let all: Vec<_> = all
        .filter_map(|(kind, name, selector)| Some((kind, name, selector, asked(reader, name, selector)?)))
        .collect();
    // Files say nothing of pods, mostly: then nobody can know whom a selector is for.
    if reader.all::<Pod>().next().is_none() && reader.all::<WorkloadEntry>().next().is_none() {
        return Vec::new();
    }
    let workloads = Workloads::of(reader, all.iter().map(|(_, _, _, asked)| *asked));
    let idle = all
        .iter()
        .filter(|(_, _, selector, asked)| !workloads.any(*asked, selector));
    idle.map(|(kind, name, _, _)| {
        let message = "no pod and no WorkloadEntry has these labels: the policy binds nothing".to_owned();
        let remedy = "give the pods that are meant these labels, or change the selector";
        Problem::warning(*kind, name, "spec.selector.matchLabels", message, remedy)
    })
    .collect()
}

/// Where a policy looks for pods, nowhere being everywhere, and a label that whatever it selects has.
type Asked<'a> = (Option<&'a str>, &'a str, &'a str);

fn asked<'a>(reader: &Reader<'_>, policy: &'a ObjectName, selector: &'a Selector) -> Option<Asked<'a>> {
    let Selector::Labels(labels) = selector else {
        return None;
    };
    let is_root = *policy.namespace == *reader.settings().root_namespace;
    let home = (!is_root).then_some(&*policy.namespace);
    labels
        .iter()
        .next()
        .map(|(key, value)| (home, key.as_str(), value.as_str()))
}

/// The labels of pods and WorkloadEntries, by what policies ask first, so that no policy looks at all of them.
struct Workloads<'a>(HashMap<Asked<'a>, Vec<&'a Labels>>);

impl<'a> Workloads<'a> {
    fn of(reader: &Reader<'a>, asked: impl Iterator<Item = Asked<'a>>) -> Self {
        let mut found: HashMap<Asked<'a>, Vec<&'a Labels>> = asked.map(|asked| (asked, Vec::new())).collect();
        let keys: BTreeSet<&str> = found.keys().map(|(_, key, _)| *key).collect();
        let pods = reader.all::<Pod>().map(|(name, pod)| (name, &pod.labels));
        let entries = reader.all::<WorkloadEntry>().map(|(name, entry)| (name, &entry.labels));
        for (name, labels) in pods.chain(entries) {
            for key in &keys {
                let Some(value) = labels.get(key) else { continue };
                for home in [Some(&*name.namespace), None] {
                    if let Some(found) = found.get_mut(&(home, *key, value)) {
                        found.push(labels);
                    }
                }
            }
        }
        Self(found)
    }

    /// Whether a policy selects one of them.
    fn any(&self, asked: Asked<'_>, selector: &Selector) -> bool {
        let mut there = self.0.get(&asked).into_iter().flatten();
        there.any(|labels| selector.selects(labels))
    }
}
