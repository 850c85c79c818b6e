//! `localityLbSetting`: which endpoints come first, and how much others get.

use super::super::super::locality::{Distribution, Label, Pattern, Preference};
use super::super::values::Bad;
use super::traffic_spec::{DistributeSpec, LocalitySpec};

/// What it says; none where it says nothing, so that the Service may. Without outlier detection nobody would know who fails: then
/// shares alone count, as with Istio.
///
/// # Errors
/// Where it cannot be served, or says two things at once.
pub(super) fn preference(setting: Option<&LocalitySpec>, has_outlier: bool) -> Result<Option<Preference>, Bad> {
    let Some(spec) = setting else { return Ok(None) };
    let said = [
        !spec.distribute.is_empty(),
        !spec.failover.is_empty(),
        !spec.failover_priority.is_empty(),
    ];
    if said[0] && (said[1] || said[2]) {
        return Err(Bad::at("distribute", "it excludes failover and failoverPriority"));
    }
    let distribute = spec.distribute.iter().enumerate();
    let shares =
        distribute.map(|(index, one)| distribution(one).map_err(|bad| bad.below(&format!("distribute[{index}]"))));
    let shares = shares.collect::<Result<Vec<_>, _>>()?;
    let labels = spec.failover_priority.iter().enumerate();
    let labels = labels
        .map(|(index, text)| label(text).map_err(|message| Bad::at(format!("failoverPriority[{index}]"), message)));
    let labels = labels.collect::<Result<Vec<_>, _>>()?;
    if let Some(index) = spec.failover.iter().position(|one| one.from == one.to) {
        return Err(Bad::at(format!("failover[{index}].to"), "is the region itself"));
    }
    Ok(match has_outlier {
        _ if spec.enabled == Some(false) => Some(Preference::None),
        _ if said[0] => Some(Preference::Shares(shares)),
        true if said[2] => Some(Preference::Ranked(labels.into_iter().flatten().collect())),
        true => {
            let failover = spec.failover.iter();
            let failover = failover.map(|one| (one.from.clone(), one.to.clone()));
            Some(Preference::Regions(failover.collect()))
        }
        false => None,
    })
}

/// Whether it has something that counts with outlier detection alone, and there is none.
pub(super) fn is_idle(spec: &LocalitySpec, has_outlier: bool) -> bool {
    let orders = !spec.failover.is_empty() || !spec.failover_priority.is_empty();
    orders && !has_outlier && spec.enabled != Some(false)
}

fn distribution(spec: &DistributeSpec) -> Result<Distribution, Bad> {
    let pattern = |text: &str, field: &str| {
        let parts: Vec<String> = text.split('/').map(str::to_owned).collect();
        // A star is the last one: what is below it is any.
        let star = parts.iter().position(|part| part == "*");
        let is_good = parts.len() <= 3
            && parts.iter().all(|part| !part.is_empty())
            && star.is_none_or(|star| star + 1 == parts.len());
        match is_good {
            true => Ok(Pattern(parts)),
            false => Err(Bad::at(field, format!("{text:?} is no REGION/ZONE/SUBZONE"))),
        }
    };
    let total: u64 = spec.to.values().map(|share| u64::from(*share)).sum();
    if total != 100 {
        return Err(Bad::at("to", format!("the shares are {total} together, and not 100")));
    }
    let mut to = Vec::new();
    for (text, share) in &spec.to {
        to.push((pattern(text, "to")?, *share));
    }
    // What says more comes first: else a star would take all.
    to.sort_by_key(|(pattern, _)| {
        let named = pattern.0.iter().filter(|part| *part != "*").count();
        std::cmp::Reverse(named)
    });
    Ok(Distribution {
        from: pattern(&spec.from, "from")?,
        to,
    })
}

/// None for what all endpoints of a mesh have in common.
fn label(text: &str) -> Result<Option<Label>, String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    match name {
        "topology.kubernetes.io/region" => Ok(Some(Label::Region(value))),
        "topology.kubernetes.io/zone" => Ok(Some(Label::Zone(value))),
        "topology.istio.io/subzone" => Ok(Some(Label::Subzone(value))),
        "kubernetes.io/hostname" => Ok(Some(Label::Node(value))),
        "topology.istio.io/network" | "topology.istio.io/cluster" if value.is_none() => Ok(None),
        "" => Err(format!("{text:?} names no label")),
        // There is one network and one cluster, and no other has endpoints.
        "topology.istio.io/network" | "topology.istio.io/cluster" => Err(format!(
            "{text:?} is not served: all endpoints are of one network and cluster"
        )),
        name => Ok(Some(Label::Pod(name.to_owned(), value))),
    }
}
