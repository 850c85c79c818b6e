//! Weights of localities: a locality is drawn by its weight, which shrinks when too few of its endpoints count. It gets its whole share
//! while at least five of seven do (an overprovisioning factor of 1.4), as with Envoy.

use std::collections::BTreeMap;

use super::endpoint::{Endpoint, Health};

/// Envoy's overprovisioning factor, in percent.
const OVERPROVISIONING: u64 = 140;
/// A whole weight is so much, so that parts of it are numbers, too.
const SCALE: u64 = 10_000;

/// The localities of one level that have endpoints there and get anything.
#[derive(Debug, Default)]
pub(super) struct Localities {
    members: Vec<Vec<usize>>,
    /// Their weights one after the other, added up.
    upto: Vec<u64>,
}

impl Localities {
    /// Of the `members` of a level among all `endpoints`. A locality without a weight gets nothing.
    pub(super) fn new(endpoints: &[Endpoint], members: &[usize], weights: &[u32]) -> Self {
        let mut found: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for index in members {
            found.entry(endpoints[*index].locality).or_default().push(*index);
        }
        let mut made = Self::default();
        let mut sum = 0;
        for (locality, members) in found {
            // All of a locality have one priority.
            let counted = endpoints.iter().filter(|endpoint| endpoint.locality == locality);
            let counted = counted.filter(|endpoint| endpoint.health != Health::Draining).count() as u64;
            let weight = u64::from(weights.get(locality).copied().unwrap_or_default());
            let able = OVERPROVISIONING * members.len() as u64 * SCALE / (100 * counted.max(1));
            let weight = weight * able.min(SCALE);
            if weight > 0 {
                sum += weight;
                made.members.push(members);
                made.upto.push(sum);
            }
        }
        made
    }

    /// The members of each.
    pub(super) fn members(&self) -> impl Iterator<Item = &Vec<usize>> {
        self.members.iter()
    }

    /// Which of them, by a random number; 0 where there is none.
    pub(super) fn choose(&self, random: u64) -> usize {
        let Some(sum) = self.upto.last() else { return 0 };
        let at = random % sum;
        self.upto.partition_point(|upto| *upto <= at)
    }

    /// All members, each with its part of its locality's weight: at least 1.
    pub(super) fn flattened(&self, endpoints: &[Endpoint]) -> (Vec<usize>, Vec<u64>) {
        let mut all = (Vec::new(), Vec::new());
        let mut before = 0;
        for (members, upto) in self.members.iter().zip(&self.upto) {
            let own = |index: &usize| u64::from(endpoints[*index].weight.max(1));
            let total: u64 = members.iter().map(own).sum();
            for index in members {
                all.0.push(*index);
                let part = u128::from(upto - before) * u128::from(own(index)) / u128::from(total.max(1));
                all.1.push(u64::try_from(part).unwrap_or(u64::MAX).max(1));
            }
            before = *upto;
        }
        all
    }
}
