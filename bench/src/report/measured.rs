//! Figures over the rounds.

use super::figure::{Figure, Kind};
use crate::record::{Named, Run, Sample};
use culvert_report::stats::{Ratio, Spread};
use std::collections::BTreeMap;

/// A run, and which of its samples count.
pub(super) struct Measured<'run> {
    pub(super) run: &'run Run,
    counted: Vec<&'run Sample>,
}

impl<'run> Measured<'run> {
    /// Of each load of each mode, one sample a round: one that nothing disturbed, and where there is none, the last of those that
    /// something did.
    pub(super) fn of(run: &'run Run) -> Self {
        let mut best: BTreeMap<(&str, &str, u32), &Sample> = BTreeMap::new();
        for sample in &run.samples {
            let place = best.entry((&sample.mode, &sample.load, sample.round)).or_insert(sample);
            if place.disturbed.is_some() {
                *place = sample;
            }
        }
        Self {
            run,
            counted: best.into_values().collect(),
        }
    }

    /// The modes of which anything was measured, in the order of the table.
    pub(super) fn modes(&self) -> impl Iterator<Item = &'run Named> {
        let samples = |mode: &str| self.counted.iter().any(|sample| sample.mode == mode);
        let memory = |mode: &str| self.run.memory.iter().any(|memory| memory.mode == mode);
        self.run
            .modes
            .iter()
            .filter(move |mode| samples(&mode.name) || memory(&mode.name))
    }

    /// The loads that were measured with any mode, in the order of the table.
    pub(super) fn loads(&self) -> impl Iterator<Item = &'run Named> {
        let measured = |load: &str| self.counted.iter().any(|sample| sample.load == load);
        self.run.loads.iter().filter(move |load| measured(&load.name))
    }

    /// Whether a mode was measured with anything.
    pub(super) fn has(&self, mode: &str) -> bool {
        self.modes().any(|named| named.name == mode)
    }

    /// The name of the first load of a kind that was measured, in the order of the table.
    pub(super) fn first_load(&self, is: impl Fn(Kind) -> bool) -> Option<&'run str> {
        self.loads()
            .map(|load| load.name.as_str())
            .find(|load| is(Kind::of(load)))
    }

    /// The samples of a mode and a load that count, by round.
    pub(super) fn samples<'own>(
        &'own self,
        mode: &'own str,
        load: &'own str,
    ) -> impl Iterator<Item = &'run Sample> + 'own {
        let of = move |sample: &&'run Sample| sample.mode == mode && sample.load == load;
        self.counted.iter().copied().filter(of)
    }

    /// A figure over the rounds.
    pub(super) fn spread(&self, mode: &str, load: &str, figure: &Figure) -> Option<Spread> {
        let values: Vec<f64> = self.samples(mode, load).filter_map(figure.of).collect();
        Spread::of(&values)
    }

    /// One mode's figure by another's, by rounds that measured both.
    pub(super) fn ratio(&self, this: &str, that: &str, load: &str, figure: &Figure) -> Option<Ratio> {
        let pairs: Vec<(f64, f64)> = self
            .samples(this, load)
            .filter_map(|sample| {
                let other = self.samples(that, load).find(|other| other.round == sample.round)?;
                (figure.of)(sample).zip((figure.of)(other))
            })
            .collect();
        Ratio::of(&pairs)
    }

    /// How long each took, all rounds together, by rising time.
    pub(super) fn times(&self, mode: &str, load: &str) -> Vec<(u64, u64)> {
        let mut all: BTreeMap<u64, u64> = BTreeMap::new();
        for (bound, count) in self.samples(mode, load).flat_map(|sample| &sample.times_us) {
            *all.entry(*bound).or_default() += count;
        }
        all.into_iter().collect()
    }

    /// The memory of a mode's proxies with so many connections, MB.
    pub(super) fn memory(&self, mode: &str, connections: u64) -> Option<f64> {
        let memory = self
            .run
            .memory
            .iter()
            .find(|memory| memory.mode == mode && memory.connections == connections);
        memory.map(|memory| memory.pss_mb)
    }

    /// The mode that the others are compared with: Culvert between nodes, or else the first.
    pub(super) fn reference(&self) -> Option<&'run str> {
        let names = || self.modes().map(|mode| mode.name.as_str());
        names().find(|name| *name == "culvert").or_else(|| names().next())
    }

    /// How many rounds there were.
    pub(super) fn rounds(&self) -> u32 {
        self.run.samples.iter().map(|sample| sample.round).max().unwrap_or(0)
    }

    /// Samples that something disturbed: those that were replaced, and those that count because no better one came.
    pub(super) fn disturbed(&self) -> (Vec<&'run Sample>, Vec<&'run Sample>) {
        let all = self.run.samples.iter().filter(|sample| sample.disturbed.is_some());
        all.partition(|sample| !self.counted.iter().any(|counted| std::ptr::eq(*counted, *sample)))
    }
}
