//! Culvert on a test cluster, for chores that run something on it: how it is installed, and what it is at.

use crate::shell;
use anyhow::Result;
use culvert_cluster::Cluster;
use std::{fmt::Write as _, path::PathBuf, process::Command};

/// The namespace of all of Culvert.
pub(crate) const SYSTEM: &str = "culvert-system";

/// Where the `culvert` command is.
pub(crate) fn command() -> PathBuf {
    shell::target().join("debug/culvert")
}

/// Installs Culvert, with the images that the nodes have, and waits until it runs.
pub(crate) fn install(cluster: &Cluster) -> Result<()> {
    let mut culvert = Command::new(command());
    culvert.args(["install", "--local-images", "--timeout", "3m", "--kubeconfig"]);
    shell::output(culvert.arg(cluster.kubeconfig())).map(drop)
}

/// What all pods are at, and what Culvert's said last, for whoever has to find out why something failed.
pub(crate) fn state(cluster: &Cluster) -> String {
    let kubectl = cluster.kubectl_client();
    let said = |arguments: &[&str]| kubectl.run(arguments).unwrap_or_else(|error| error.to_string());
    let mut text = format!(
        "\npods:\n{}",
        said(&["get", "pods", "--all-namespaces", "--output=wide"])
    );
    let events = said(&[
        "get",
        "events",
        "--namespace",
        SYSTEM,
        "--sort-by=.metadata.creationTimestamp",
    ]);
    let _ = write!(text, "\nlast events in {SYSTEM}:\n{}", last(&events, 10));
    let names = said(&["get", "pods", "--namespace", SYSTEM, "--output=name"]);
    for pod in names.lines() {
        let logs = said(&[
            "logs",
            "--namespace",
            SYSTEM,
            "--all-containers",
            "--prefix",
            "--tail=6",
            pod,
        ]);
        let _ = write!(text, "\nlast lines of {pod}:\n{logs}");
    }
    text
}

fn last(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let mut kept = lines[lines.len().saturating_sub(count)..].join("\n");
    kept.push('\n');
    kept
}

#[cfg(test)]
mod tests {
    use super::last;

    #[test]
    fn the_last_lines_of_a_short_text_are_all_of_it() {
        assert_eq!(last("a\nb\nc", 2), "b\nc\n");
        assert_eq!(last("a", 2), "a\n");
    }
}
