//! What a run of the benchmark leaves behind: every sample, and what is needed to read it. `run` fills it in, `report` judges and shows
//! it, and `--json` prints it whole. Times are in the unit that a name says; counts are of the measured time alone, without the warm-up.

use culvert_report::machine::Machine;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Run {
    /// The command that was given.
    pub(crate) command: String,
    /// When it began, RFC 3339.
    pub(crate) began: String,
    /// Where it ran.
    pub(crate) machine: Machine,
    /// Versions of what was measured, by program ("culvert", "envoy", ...).
    pub(crate) versions: BTreeMap<String, String>,
    /// The modes, in the order of the table, and what each one is.
    pub(crate) modes: Vec<Named>,
    /// The loads, in the order of the table, and what each one is.
    pub(crate) loads: Vec<Named>,
    /// Each load of each mode in each round, disturbed ones too.
    pub(crate) samples: Vec<Sample>,
    /// What the proxies hold.
    pub(crate) memory: Vec<Memory>,
    /// What a mode's kernel programs cost a call.
    pub(crate) hooks: Vec<Hook>,
    /// What was to be measured and was not: the mode, the load if it is one alone, and why.
    pub(crate) missing: Vec<Missing>,
}

/// A mode or a load.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Named {
    /// As the command line says it.
    pub(crate) name: String,
    /// In a sentence, for reports.
    pub(crate) what: String,
}

/// One load of one mode in one round.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// The mode's name.
    pub(crate) mode: String,
    /// The load's name.
    pub(crate) load: String,
    /// From 1.
    pub(crate) round: u32,
    /// How long was measured.
    pub(crate) seconds: f64,
    /// Payload carried, both ways together.
    pub(crate) bytes: u64,
    /// Requests answered, connections served or datagrams answered; 0 for streams.
    pub(crate) count: u64,
    /// Those that failed, warm-up included.
    pub(crate) failed: u64,
    /// How long each took: upper bounds of buckets (microseconds, within 1%), and how many there were. At a fixed rate time counts from
    /// when a request was due.
    pub(crate) times_us: Vec<(u64, u64)>,
    /// What the mode's proxies did meanwhile, both ends together. Zero without a mesh.
    pub(crate) proxies: Work,
    /// The whole machine's time on processors, client and server with it, seconds.
    pub(crate) machine_cpu_seconds: f64,
    /// Bytes that crossed the link between the nodes, headers of packets with them; none where no link is crossed.
    pub(crate) wire_bytes: Option<u64>,
    /// What else happened on the machine.
    pub(crate) noise: Noise,
    /// Why it does not count; it was repeated then.
    pub(crate) disturbed: Option<String>,
}

/// What processes did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Work {
    /// Time on processors, user and system, seconds.
    pub(crate) cpu_seconds: f64,
    /// Context switches, voluntary and not.
    pub(crate) switches: u64,
    /// System calls; none where they could not be counted.
    pub(crate) system_calls: Option<u64>,
}

/// What disturbs a measurement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Noise {
    /// Time on processors of everything that has no part in the sample, seconds.
    pub(crate) others_cpu_seconds: f64,
    /// Time that the hypervisor gave to others, all processors together, seconds.
    pub(crate) steal_seconds: f64,
    /// The slowest processor's frequency after by that before, where the kernel tells.
    pub(crate) frequency_ratio: Option<f64>,
}

/// What the proxies of the end that holds most hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// The mode's name.
    pub(crate) mode: String,
    /// Connections that were open through them, 0 when freshly started and idle.
    pub(crate) connections: u64,
    /// Proportional set size, MB (10^6 bytes): what is shared counts once, in parts.
    pub(crate) pss_mb: f64,
}

/// One kernel program's cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Hook {
    /// The mode's name.
    pub(crate) mode: String,
    /// The program's name.
    pub(crate) name: String,
    /// How often it ran while that was counted.
    pub(crate) calls: u64,
    /// Mean time of a call, nanoseconds.
    pub(crate) nanoseconds: f64,
}

/// What is not in the table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Missing {
    /// The mode's name.
    pub(crate) mode: String,
    /// The load's name, where the others of that mode were measured.
    pub(crate) load: Option<String>,
    /// In a sentence.
    pub(crate) why: String,
}
