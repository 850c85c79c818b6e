//! `culvert uninstall`: every pod leaves the mesh while everything still runs (`leave`), then what installing made is
//! removed (`remove`), and what the controller made (`made`, object by `one`). Traffic goes on directly all the while.

mod leave;
mod made;
mod one;
mod remove;

use crate::{
    cluster::Cluster,
    duration::duration,
    print::{Answer, Section},
    progress::Progress,
};
use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;
use std::{
    io::{BufRead, IsTerminal, Write},
    time::Duration,
};

#[derive(Args, Clone, Debug)]
pub(crate) struct Flags {
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// How long connections that are open in the tunnel may go on; then they are cut
    #[arg(long, env = "CULVERT_DRAIN_TIMEOUT", default_value = "10m", value_parser = duration, value_name = "TIME")]
    drain_timeout: Duration,
    /// How long to wait until everything is gone, after that
    #[arg(long, env = "CULVERT_TIMEOUT", default_value = "5m", value_parser = duration, value_name = "TIME")]
    timeout: Duration,
    /// Remove the label culvert.dev/mesh from namespaces, too: installed again, Culvert would not take them in by itself
    #[arg(long)]
    remove_labels: bool,
}

pub(crate) async fn run(cluster: &Cluster, flags: &Flags) -> Result<Answer> {
    let found = remove::Found::on(cluster).await?;
    if found.is_empty() {
        return Ok(Answer {
            json: json!({ "removed": [], "was_installed": false }),
            sections: vec![Section::words("nothing of Culvert is on this cluster")],
            is_well: true,
        });
    }
    if !flags.yes {
        confirm(&cluster.server)?;
    }
    let progress = Progress::new();
    let left = if found.has_namespace {
        leave::all_nodes(cluster, flags.drain_timeout, &progress).await?
    } else {
        leave::Outcome::default()
    };
    if flags.remove_labels {
        remove::labels(cluster, &progress).await?;
    }
    let removed = remove::everything(cluster, found, flags.timeout, &progress).await?;
    let mut words = format!("removed: {} objects; pods talk to each other directly", removed.len());
    if left.open > 0 {
        words += &format!("; {} connections were still in the tunnel and were cut", left.open);
    }
    let behind: Vec<_> = left
        .behind
        .iter()
        .map(|(node, reason)| json!({ "node": node, "reason": reason }))
        .collect();
    let mut sections = vec![Section::words(words)];
    if !left.behind.is_empty() {
        sections.push(Section::words(left_behind(&left.behind)));
    }
    Ok(Answer {
        json: json!({ "removed": removed, "was_installed": true, "connections_cut": left.open, "left_behind": behind }),
        sections,
        is_well: left.behind.is_empty(),
    })
}

/// What is left where, and what to do about it.
fn left_behind(nodes: &[(String, String)]) -> String {
    let mut words = "nodes that could not be cleaned up:".to_owned();
    for (node, reason) in nodes {
        words += &format!("\n  {node}: {reason}");
    }
    words += "\nOn each, programs in /sys/fs/bpf/culvert, the CNI configuration 00-culvert.conflist, the plug-in culvert-cni and \
              /var/lib/culvert may be left. After a reboot, and five minutes without a pod of Culvert, pods start there by \
              themselves; until then pods of labelled namespaces wait, and those that run are cut off. To free a node at once:\n  \
              kubectl debug node/NODE --profile=sysadmin --image=culvert.dev/agent:";
    words += &format!(
        "{} -- /culvert-agent free-node --host-root /host",
        env!("CARGO_PKG_VERSION")
    );
    words
}

/// Asks whoever sits at the terminal; without one, somebody must have said yes already.
fn confirm(server: &str) -> Result<()> {
    if !std::io::stdin().is_terminal() {
        bail!(
            "this removes Culvert from the cluster at {server}: --yes says that it is meant, where nobody can be asked"
        );
    }
    eprint!("Remove Culvert from the cluster at {server}? Pods' traffic will no longer be encrypted. [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.context("no answer could be read")?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => bail!("nothing was removed"),
    }
}
