//! Which endpoints are nearer to who asks, and how much the others get: priorities and shares, by region, zone, subzone and node. Without
//! I/O: Istio's rules, as its control plane has them for one proxy.

use std::collections::BTreeMap;

/// Region, zone, subzone; empty where nobody knows.
pub(crate) type Locality = [String; 3];

/// Where a proxy or an endpoint is.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) locality: Locality,
    /// The node's name.
    pub(crate) node: String,
    /// Labels of the pod: those that are asked about.
    pub(crate) labels: BTreeMap<String, String>,
}

/// By what endpoints are told apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Preference {
    /// All get their share.
    #[default]
    None,
    /// Those that have more of these in common with who asks, one after the other, come first.
    Ranked(Vec<Label>),
    /// The same subzone, zone, region, and then others: of those first the region that is said, by the region of who asks.
    Regions(Vec<(String, String)>),
    /// Each gets what is said of its locality, and others nothing.
    Shares(Vec<Distribution>),
}

/// What endpoints have in common with who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Label {
    Region(Option<String>),
    Zone(Option<String>),
    Subzone(Option<String>),
    Node(Option<String>),
    /// A label of pods, by its name.
    Pod(String, Option<String>),
}

/// Shares for those who ask from some localities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Distribution {
    pub(crate) from: Pattern,
    /// Shares in percent.
    pub(crate) to: Vec<(Pattern, u32)>,
}

/// `REGION/ZONE/SUBZONE`, where a part may be `*` or left out for any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern(pub(crate) Vec<String>);

/// Endpoints that are treated alike: their indices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// 0 is first; all up to the last are there.
    pub(crate) priority: u32,
    /// Its share of the requests of its priority, beside others.
    pub(crate) weight: u32,
    pub(crate) members: Vec<usize>,
}

/// An endpoint, as far as it counts here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member<'a> {
    pub(crate) locality: &'a Locality,
    pub(crate) node: &'a str,
    /// Its labels: those that are asked about.
    pub(crate) labels: &'a BTreeMap<String, String>,
    pub(crate) weight: u32,
}

impl Preference {
    /// Whether it matters on which node somebody is.
    pub(crate) fn is_by_node(&self) -> bool {
        matches!(self, Self::Ranked(labels) if labels.iter().any(|label| matches!(label, Label::Node(None))))
    }

    /// The labels of pods that it asks about: what is said depends on the pod that asks.
    pub(crate) fn pod_labels(&self) -> Vec<&str> {
        let Self::Ranked(labels) = self else {
            return Vec::new();
        };
        let names = labels.iter().filter_map(|label| match label {
            Label::Pod(name, _) => Some(name.as_str()),
            _ => None,
        });
        names.collect()
    }

    /// Groups of endpoints of one locality and priority each, for who asks from `place`, in the order of their priorities and localities.
    pub(crate) fn groups(&self, place: &Place, members: &[Member<'_>]) -> Vec<Group> {
        // Nothing is near to who is nowhere.
        let is_somewhere = !place.locality[0].is_empty() || self.is_by_node() || !self.pod_labels().is_empty();
        let preference = if is_somewhere { self } else { &Self::None };
        let priority = |member: &Member<'_>| match preference {
            Self::None | Self::Shares(_) => 0,
            Self::Ranked(labels) => {
                let same = labels.iter().take_while(|label| label.is_shared(place, member));
                labels.len() - same.count()
            }
            Self::Regions(failover) => by_region(&place.locality, member.locality, failover),
        };
        let mut sorted: BTreeMap<(usize, &Locality), Vec<usize>> = BTreeMap::new();
        for (index, member) in members.iter().enumerate() {
            sorted
                .entry((priority(member), member.locality))
                .or_default()
                .push(index);
        }
        let mut priorities: Vec<usize> = sorted.keys().map(|(priority, _)| *priority).collect();
        priorities.dedup();
        let weight = |indices: &[usize]| {
            let weights = indices.iter().map(|index| members[*index].weight);
            weights.fold(0, u32::saturating_add).max(1)
        };
        let group = |((priority, _), indices): (&(usize, &Locality), &Vec<usize>)| Group {
            priority: u32::try_from(priorities.partition_point(|known| known < priority)).unwrap_or(u32::MAX),
            weight: weight(indices),
            members: indices.clone(),
        };
        let groups: Vec<Group> = sorted.iter().map(group).collect();
        match preference {
            Self::Shares(all) => match all.iter().find(|one| one.from.matches(&place.locality)) {
                Some(found) => shared(found, groups, members),
                None => groups,
            },
            _ => groups,
        }
    }
}

/// As far away as Istio thinks a locality is.
fn by_region(own: &Locality, other: &Locality, failover: &[(String, String)]) -> usize {
    let same = own.iter().zip(other).take_while(|(own, other)| own == other).count();
    match same {
        0 => {
            let to = failover.iter().find(|(from, _)| *from == own[0]).map(|(_, to)| to);
            if to.is_none_or(|to| *to == other[0]) { 3 } else { 4 }
        }
        same => 3 - same,
    }
}

/// The groups that get something, each with its part of the share of what names it first.
fn shared(distribution: &Distribution, mut groups: Vec<Group>, members: &[Member<'_>]) -> Vec<Group> {
    let mut found = Vec::new();
    for (pattern, share) in &distribution.to {
        let is_meant = |group: &Group| {
            let first = group.members.first().map(|index| members[*index].locality);
            first.is_some_and(|locality| pattern.matches(locality))
        };
        let (meant, others): (Vec<Group>, Vec<Group>) = groups.into_iter().partition(is_meant);
        groups = others;
        let total: u64 = meant.iter().map(|group| u64::from(group.weight)).sum();
        found.extend(meant.into_iter().filter(|_| *share > 0).map(|group| {
            let weight = (u64::from(group.weight) * u64::from(*share)).div_ceil(total.max(1));
            Group {
                weight: u32::try_from(weight).unwrap_or(u32::MAX).max(1),
                ..group
            }
        }));
    }
    found.sort_by_key(|group| group.members.first().map(|index| members[*index].locality));
    found
}

impl Label {
    fn is_shared(&self, place: &Place, member: &Member<'_>) -> bool {
        let (said, own, other) = match self {
            Self::Region(said) => (said, Some(&place.locality[0]), member.locality[0].as_str()),
            Self::Zone(said) => (said, Some(&place.locality[1]), member.locality[1].as_str()),
            Self::Subzone(said) => (said, Some(&place.locality[2]), member.locality[2].as_str()),
            Self::Node(said) => (said, Some(&place.node), member.node),
            // One that is absent is as one that is empty, as with Istio.
            Self::Pod(name, said) => {
                let other = member.labels.get(name).map_or("", String::as_str);
                (said, place.labels.get(name), other)
            }
        };
        said.as_ref().or(own).map_or("", String::as_str) == other
    }
}

impl Pattern {
    /// Whether a locality is meant.
    pub(crate) fn matches(&self, locality: &Locality) -> bool {
        self.0
            .iter()
            .zip(locality)
            .all(|(wanted, found)| wanted == "*" || wanted == found)
    }
}

#[cfg(test)]
mod tests;
