//! The machine that something was measured on.

use serde::{Deserialize, Serialize};
use std::fs;

/// The machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name, as `/proc/cpuinfo` has it.
    pub processor: String,
    /// Processors that may be used.
    pub processors: usize,
    /// Of all memory, MB (10^6 bytes).
    pub memory_mb: u64,
    /// As `uname -r` says it.
    pub kernel: String,
}

impl Machine {
    /// This one. What the kernel does not tell is empty or 0.
    pub fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| -> Option<String> {
            let mut lines = text.lines().filter_map(|line| line.split_once(':'));
            lines.find_map(|(key, value)| (key.trim() == name).then(|| value.trim().to_owned()))
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        let kib = memory.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
        Self {
            processor: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            processors: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            memory_mb: kib.unwrap_or(0) * 1024 / 1_000_000,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }

    /// What a report says of it, as items of a list.
    pub fn items(&self) -> Vec<String> {
        vec![
            format!("Processor: {}, {} usable", self.processor, self.processors),
            format!("Memory: {:.1} GB", self.memory_mb as f64 / 1e3),
            format!("Kernel: {}", self.kernel),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::Machine;

    #[test]
    fn this_machine_has_memory_processors_and_a_kernel() {
        let machine = Machine::here();
        assert!(machine.memory_mb > 0 && machine.processors > 0, "{machine:?}");
        assert!(
            !machine.kernel.is_empty() && !machine.processor.is_empty(),
            "{machine:?}"
        );
    }
}
