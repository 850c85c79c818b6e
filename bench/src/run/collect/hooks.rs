//! What a call of each kernel program of the agents costs, as the kernel counts it (`BPF_ENABLE_STATS`).

use crate::record::Hook;
use anyhow::{Context, Result};
use aya::{programs::loaded_programs, sys::Stats};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::fd::OwnedFd,
};

/// Calls and nanoseconds by program.
type Counts = BTreeMap<u32, (String, u64, u64)>;

/// The kernel while it counts, which makes every call of any kernel program on the machine a little slower.
pub(in crate::run) struct Counting {
    _enabled: OwnedFd,
    before: Counts,
    agents: Vec<u32>,
}

impl Counting {
    /// Begins to count for the programs that these agents hold.
    pub(in crate::run) fn begin(agents: &[u32]) -> Result<Self> {
        let enabled = aya::sys::enable_stats(Stats::RunTime).context("the kernel does not count its programs' time")?;
        Ok(Self {
            _enabled: enabled,
            before: counts(agents)?,
            agents: agents.to_vec(),
        })
    }

    /// What was called meanwhile.
    pub(in crate::run) fn end(self, mode: &str) -> Result<Vec<Hook>> {
        let after = counts(&self.agents)?;
        let called = after.into_iter().filter_map(|(id, (name, calls, nanoseconds))| {
            let (_, calls_before, nanoseconds_before) = self.before.get(&id).cloned().unwrap_or_default();
            let calls = calls.saturating_sub(calls_before);
            let nanoseconds = nanoseconds.saturating_sub(nanoseconds_before);
            (calls > 0).then(|| Hook {
                mode: mode.to_owned(),
                name,
                calls,
                nanoseconds: nanoseconds as f64 / calls as f64,
            })
        });
        Ok(called.collect())
    }
}

/// One line for each program of each mode: of several nodes and several runs.
pub(in crate::run) fn sum(hooks: &[Hook]) -> Vec<Hook> {
    let mut sums: BTreeMap<(&str, &str), (u64, f64)> = BTreeMap::new();
    for hook in hooks {
        let (calls, nanoseconds) = sums.entry((&hook.mode, &hook.name)).or_default();
        *calls += hook.calls;
        *nanoseconds += hook.nanoseconds * hook.calls as f64;
    }
    let all = sums.into_iter().map(|((mode, name), (calls, nanoseconds))| Hook {
        mode: mode.to_owned(),
        name: name.to_owned(),
        calls,
        nanoseconds: nanoseconds / calls as f64,
    });
    all.collect()
}

fn counts(agents: &[u32]) -> Result<Counts> {
    let mut ids = BTreeSet::new();
    for agent in agents {
        ids.extend(held_by(*agent)?);
    }
    let mut counts = Counts::new();
    for program in loaded_programs() {
        // One may be unloaded while we look: those are not ours.
        let Ok(program) = program else { continue };
        if ids.contains(&program.id()) {
            let name = program.name_as_str().unwrap_or_default().to_owned();
            let nanoseconds = u64::try_from(program.run_time().as_nanos()).unwrap_or(u64::MAX);
            counts.insert(program.id(), (name, program.run_count(), nanoseconds));
        }
    }
    Ok(counts)
}

/// The programs to which a process has descriptors, directly or by a link that attaches them: `/proc/PID/fdinfo` says `prog_id` of both.
fn held_by(process: u32) -> Result<Vec<u32>> {
    let folder = format!("/proc/{process}/fdinfo");
    let mut ids = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))? {
        // A descriptor may be closed while we look.
        let Ok(text) = fs::read_to_string(entry?.path()) else {
            continue;
        };
        let id = text.lines().find_map(|line| line.strip_prefix("prog_id:"));
        ids.extend(id.and_then(|id| id.trim().parse::<u32>().ok()));
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_program_on_two_nodes_is_one_line_with_the_mean_of_all_calls() {
        let hook = |calls, nanoseconds| Hook {
            mode: "culvert".into(),
            name: "connect4".into(),
            calls,
            nanoseconds,
        };
        let sums = sum(&[hook(1, 100.0), hook(3, 200.0)]);
        assert_eq!(sums, [hook(4, 175.0)]);
    }
}
