//! Whether an installed mesh is well: pure functions over the survey, each of which names one kind of fault with a remedy.
//! `check` prints all lines, `status` those that are not well.
//!
//! | file | names |
//! |---|---|
//! | `controllers` | controllers that do not run or do not answer, no leader, findings in the configuration |
//! | `node` | a node without agent, proxies without controller or without certificates, maps that are nearly full |
//! | `agent` | programs that came off (traffic in plaintext), the gate, connections from before capture, pods' notices; also without a cluster |
//! | `proxy` | ranges that the controller has not told, subscriptions and descriptors that run out; also without a cluster |
//! | `settings` | keys of `culvert-config` that no program reads, values that none takes |
//! | `uninstalling` | annotations of an uninstallation that was broken off |
//! | `membership`, `pods` | pods that should be in the mesh and are not |
//! | `trust_bundles` | namespaces without the trust bundle |
//! | `hand_made` | EndpointSlices that do not name the pods they lead to |
//! | `ports` | applications that want the mesh's ports, ranges of local ports that ran out |
//! | `cluster_dns` | cluster DNS and proxies that wait for each other |
//! | `network_policies` | NetworkPolicies that keep the tunnel out |

pub(crate) mod agent;
mod cluster_dns;
mod controllers;
mod hand_made;
mod membership;
mod network_policies;
mod node;
mod pods;
mod ports;
pub(crate) mod proxy;
mod settings;
mod trust_bundles;
mod uninstalling;

pub(crate) use membership::{Membership, membership};

use crate::{
    failed_create,
    foreign::{PolicyFlags, When},
    line::Line,
    survey::Survey,
};

/// All lines.
pub(crate) fn judged(survey: &Survey, api_server: &str, policies: PolicyFlags) -> Vec<Line> {
    let members = membership(survey);
    let mut lines = vec![Line::ok("cluster", "API server", api_server)];
    lines.extend(controllers::judged(survey));
    lines.push(daemon_set(survey));
    lines.extend(settings::judged(survey));
    lines.extend(uninstalling::judged(survey));
    lines.extend(cluster_dns::judged(survey, &members));
    lines.extend(trust_bundles::judged(survey, &members));
    lines.extend(network_policies::judged(survey, &members));
    lines.extend(hand_made::judged(survey, &members));
    lines.extend(
        survey
            .foreign
            .judged(&survey.namespaces, &survey.pods, policies, When::Installed),
    );
    for node in &survey.nodes {
        lines.extend(node::judged(node, survey));
    }
    lines.extend(pods::judged(survey, &members));
    lines.extend(ports::judged(survey, &members));
    lines
}

fn daemon_set(survey: &Survey) -> Line {
    let Some(daemon_set) = &survey.daemon_set else {
        let remedy = "`culvert install` puts it back";
        return Line::fail("cluster", "DaemonSet", "culvert-node is missing", remedy);
    };
    let status = daemon_set.status.as_ref();
    let (wanted, made) = status.map_or((0, 0), |status| {
        (status.desired_number_scheduled, status.current_number_scheduled)
    });
    match failed_create::of_nodes(&survey.warnings).filter(|_| made < wanted) {
        None => Line::ok("cluster", "DaemonSet", format!("culvert-node, on {wanted} nodes")),
        Some(why) => Line::fail(
            "cluster",
            "DaemonSet",
            format!("{made} of {wanted} pods are there: {why}"),
            "`culvert install` applies what is missing; kubectl -n culvert-system describe daemonset culvert-node",
        ),
    }
}

#[cfg(test)]
mod tests;
