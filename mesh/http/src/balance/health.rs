//! Which endpoints count: their health, panic, and how requests spill over to the next priority.

use super::endpoint::{Endpoint, Health};

/// Healthy share by which a priority is thought able to carry more than its own: 1.4, Envoy's overprovisioning factor, in percent.
const OVERPROVISIONING: u64 = 140;

/// Priorities, each with its share of the requests.
#[derive(Debug)]
pub(super) struct Levels {
    levels: Vec<Level>,
}

#[derive(Debug)]
struct Level {
    members: Vec<usize>,
    /// In percent of all requests.
    load: u64,
    /// What it can carry, in percent of all requests.
    able: u64,
    priority: u32,
    /// Whether all endpoints are used, whatever their health.
    is_panic: bool,
}

impl Levels {
    pub(super) fn new(endpoints: &[Endpoint], panic_threshold: u32) -> Self {
        let count = endpoints
            .iter()
            .map(|endpoint| endpoint.priority)
            .max()
            .map_or(0, |most| most as usize + 1);
        let of = |priority: usize, wanted: &dyn Fn(Health) -> bool| -> Vec<usize> {
            let fits =
                |(_, endpoint): &(usize, &Endpoint)| endpoint.priority as usize == priority && wanted(endpoint.health);
            endpoints
                .iter()
                .enumerate()
                .filter(fits)
                .map(|(index, _)| index)
                .collect()
        };
        // What a priority can carry, in percent of all requests.
        let able = |members: usize, all: usize| match all {
            0 => 0,
            all => (OVERPROVISIONING * members as u64 / all as u64).min(100),
        };
        struct Sizes {
            healthy: Vec<usize>,
            degraded: Vec<usize>,
            all: Vec<usize>,
            counted: usize,
        }
        let sizes: Vec<Sizes> = (0..count)
            .map(|priority| Sizes {
                healthy: of(priority, &|health| health == Health::Healthy),
                degraded: of(priority, &|health| health == Health::Degraded),
                all: of(priority, &|_| true),
                counted: of(priority, &|health| health != Health::Draining).len(),
            })
            .collect();
        let total: u64 = sizes
            .iter()
            .map(|level| able(level.healthy.len(), level.counted) + able(level.degraded.len(), level.counted))
            .sum();
        // Together they may be unable to carry everything: it is scaled up then.
        let scale = |able: u64| able * 100 / total.clamp(1, 100);
        let mut levels = Vec::new();
        let mut left = 100;
        let mut add = |priority: usize, members: Vec<usize>, able: u64, is_panic: bool| {
            let load = scale(able).min(left);
            left -= load;
            levels.push(Level {
                members,
                load,
                able,
                priority: u32::try_from(priority).unwrap_or(u32::MAX),
                is_panic,
            });
        };
        for (priority, level) in sizes.iter().enumerate() {
            let healthy = level.healthy.len() as u64 * 100;
            let panic = healthy < u64::from(panic_threshold) * level.counted as u64 && total < 100;
            let members = if panic {
                level.all.clone()
            } else {
                level.healthy.clone()
            };
            add(priority, members, able(level.healthy.len(), level.counted), panic);
        }
        for (priority, level) in sizes.iter().enumerate() {
            let able = able(level.degraded.len(), level.counted);
            add(priority, level.degraded.clone(), able, false);
        }
        // What rounding left over goes to the first that takes any; where none does, panic goes to the first with endpoints at all.
        if let Some(level) = levels.iter_mut().find(|level| level.load > 0) {
            level.load += left;
        } else if panic_threshold > 0
            && let Some(level) = levels.iter_mut().find(|level| !level.members.is_empty())
        {
            level.load = 100;
        }
        Self { levels }
    }

    pub(super) fn count(&self) -> usize {
        self.levels.len()
    }

    pub(super) fn members(&self, level: usize) -> Vec<usize> {
        self.levels[level].members.clone()
    }

    /// Whether a level has all of its endpoints, since too few are healthy.
    pub(super) fn is_panic(&self, level: usize) -> bool {
        self.levels[level].is_panic
    }

    /// The same without these priorities: the others carry their share as if these had no endpoint. All, where the others cannot carry
    /// anything.
    pub(super) fn choose_beyond(&self, number: u64, priorities: &[u32]) -> Option<usize> {
        let is_left = |level: &&Level| !priorities.contains(&level.priority);
        let total: u64 = self.levels.iter().filter(is_left).map(|level| level.able).sum();
        if priorities.is_empty() || total == 0 {
            return self.choose(number);
        }
        let mut draw = number % total.min(100);
        for (index, level) in self.levels.iter().enumerate() {
            if !is_left(&level) {
                continue;
            }
            if draw < level.able {
                return Some(index);
            }
            draw -= level.able;
        }
        None
    }

    /// The level for a request, by its hash or a random number.
    pub(super) fn choose(&self, number: u64) -> Option<usize> {
        let mut draw = number % 100;
        for (index, level) in self.levels.iter().enumerate() {
            if draw < level.load {
                return Some(index);
            }
            draw -= level.load;
        }
        None
    }
}
