//! What a run came to: as JSON, and for its pages.

use culvert_report::machine::Machine;
use serde_json::{Map, Value, json};

use crate::growth::Curves;
use crate::targets::{Target, targets};

/// A run.
pub(crate) struct Outcome {
    /// The command that was given.
    pub(crate) command: String,
    /// When it began, RFC 3339.
    pub(crate) began: String,
    /// Where it ran.
    pub(crate) machine: Machine,
    /// How many nodes followed the controller.
    pub(crate) nodes: usize,
    /// The figures by number of pods.
    pub(crate) pods: Map<String, Value>,
    /// What a node proxy on demand holds where nothing else is in the cluster, MB.
    pub(crate) least: f64,
}

impl Outcome {
    /// How the figures grow.
    pub(crate) fn curves(&self) -> Curves<'_> {
        Curves::of(&self.pods)
    }

    /// What should have been reached, and was or was not.
    pub(crate) fn targets(&self) -> Vec<Target> {
        targets(&self.curves(), self.nodes)
    }

    /// All of it.
    pub(crate) fn json(&self) -> Value {
        json!({
            "pods": self.pods, "exponents": self.curves().exponents(), "targets": self.targets(), "nodes": self.nodes,
            "proxy_on_demand_least_mb": self.least, "command": self.command, "began": self.began, "machine": self.machine,
        })
    }
}
