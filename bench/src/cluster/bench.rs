//! What the measurements share: the cluster, and the lines of the table so far.

use super::table::{Outcome, Results, Row};
use culvert_cluster_tests::World;
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Instant,
};

/// What the measurements share.
pub(super) struct Bench {
    pub(super) world: World,
    pub(super) results: Results,
    pub(super) quick: bool,
    /// Whether what is measured was built for use.
    pub(super) optimized: bool,
}

impl Bench {
    /// Measures lines that belong together; if that fails, none of them has a figure.
    pub(super) fn lines<const N: usize>(&mut self, rows: [&Row; N], measure: impl FnOnce(&Self) -> [Outcome; N]) {
        say(rows.first().map_or("", |row| row.event));
        let started = Instant::now();
        let outcomes = catch_unwind(AssertUnwindSafe(|| measure(self))).unwrap_or_else(|panic| {
            let why = words(panic.as_ref());
            std::array::from_fn(|_| Outcome::unmeasured(why.clone()))
        });
        for (row, outcome) in rows.into_iter().zip(outcomes) {
            self.results.put(row, outcome);
        }
        eprintln!("    {:.0} s", started.elapsed().as_secs_f32());
        self.settle();
    }

    /// Waits until what the last event left is gone: its namespaces, and proxies that served what was open.
    pub(super) fn settle(&self) {
        let settled = catch_unwind(AssertUnwindSafe(|| {
            let spaces = self.world.kubectl(&["get", "namespaces", "--output=name"]);
            for space in spaces.lines().filter(|name| name.starts_with("namespace/t-")) {
                self.world.kubectl(&["wait", "--for=delete", space, "--timeout=120s"]);
            }
            self.world.wait_ready();
            for node in self.world.cluster().nodes() {
                culvert_cluster_tests::until(&format!("one pod of Culvert on {}", node.name()), || {
                    self.world.culvert_pods(node.name()).len() == 1
                });
                self.world.wait_agent(node.name());
            }
        }));
        if settled.is_err() {
            say("the cluster is not as it was before: what follows may suffer from that");
        }
    }

    /// How many new connections an event is measured over.
    pub(super) fn requests(&self, full: u64) -> u64 {
        if self.quick { full.min(500) } else { full }
    }
}

/// Nothing was measured, because something was not there.
pub(super) fn missing(what: &str) -> Outcome {
    Outcome::unmeasured(what.to_owned())
}

pub(super) fn say(text: &str) {
    eprintln!("==> {text}");
}

/// What a panic said.
pub(super) fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a helper panicked")
        .lines()
        .take(4)
        .collect::<Vec<_>>()
        .join(" ")
}

impl Outcome {
    /// The same, judged only if what was measured was built for use.
    pub(super) fn comparable(mut self, bench: &Bench) -> Self {
        self.verdict = self.verdict.comparable(bench.optimized);
        self
    }
}
