//! What the demo found out, and what it promised.

use super::{access_log::Connection, kernel_checks::Privilege, visits::Tally};
use culvert_lab::Seen;
use serde_json::{Value, json};
use std::net::IpAddr;

/// All facts of one run, each measured in that run.
pub(super) struct Facts {
    /// Requests before there was a mesh, while the namespace joined, and after.
    pub(super) before: Tally,
    pub(super) joining: Tally,
    pub(super) after: Tally,
    /// What the link carried before and after.
    pub(super) link_before: Seen,
    pub(super) link_after: Seen,
    /// Connections after, as the source's proxy saw them, and how many the destinations' proxies saw.
    pub(super) connections: Vec<Connection>,
    pub(super) arrivals: usize,
    pub(super) arrivals_in_clear: usize,
    pub(super) netfilter_rules: u64,
    pub(super) policy_routing_rules: u64,
    pub(super) workers: Vec<Privilege>,
    /// Whom the page's program took for its client after joining, and who it was.
    pub(super) clients_seen: Vec<IpAddr>,
    pub(super) client: Vec<IpAddr>,
    /// From label to every pod being captured.
    pub(super) joined_in: f64,
    pub(super) seconds: f64,
    /// What only a cluster has.
    pub(super) cluster: Option<InCluster>,
}

/// Facts of a run in a Kubernetes cluster.
pub(super) struct InCluster {
    /// Pods of the shop that are not the ones that were there before the label, or of which a container was restarted.
    pub(super) pods_restarted: u64,
    /// Bytes of DNS on the link, which are in plaintext with and without the mesh and count for nothing else.
    pub(super) dns_bytes: [u64; 2],
}

impl Facts {
    /// All requests together.
    pub(super) fn requests(&self) -> Tally {
        self.before.clone().and(&self.joining).and(&self.after)
    }

    /// Requests that failed while the namespace joined.
    pub(super) fn failed_while_joining(&self) -> u64 {
        self.joining.sent - self.joining.succeeded
    }

    /// Capabilities of a worker.
    ///
    /// A container's bounding set can only be emptied by who has CAP_SETPCAP, which no container of Culvert has. So it does not
    /// count in a cluster, where `no_new_privs` sees to it that it gives nothing; it is reported by itself.
    fn capabilities_of(&self, worker: &Privilege) -> u32 {
        if self.cluster.is_some() && worker.no_new_privs {
            worker.held
        } else {
            worker.capabilities
        }
    }

    /// Capabilities of the workers together: the most that one has.
    pub(super) fn worker_capabilities(&self) -> u32 {
        let workers = self.workers.iter();
        workers
            .map(|worker| self.capabilities_of(worker))
            .max()
            .unwrap_or_default()
    }

    /// The most that one worker has with its bounding set.
    pub(super) fn worker_bounding_set(&self) -> u32 {
        let workers = self.workers.iter();
        workers.map(|worker| worker.capabilities).max().unwrap_or_default()
    }

    /// What is not as promised, in words. Empty when all is well.
    pub(super) fn broken_promises(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let mut promise = |holds: bool, what: String| {
            if !holds {
                broken.push(what);
            }
        };
        let all = self.requests();
        promise(
            all.sent == all.succeeded,
            format!(
                "{} of {} requests failed: {}",
                all.sent - all.succeeded,
                all.sent,
                all.failures.join("; ")
            ),
        );
        promise(
            self.link_before.clear_bytes > 0,
            "the capture saw nothing in plaintext before the mesh".to_owned(),
        );
        promise(
            self.link_before.marked_packets > 0,
            "the capture missed the visitor's text before the mesh".to_owned(),
        );
        let flows: Vec<String> = self
            .link_after
            .clear_flows
            .iter()
            .map(|((from, to), bytes)| format!("{from} > {to}: {bytes}"))
            .collect();
        promise(
            self.link_after.clear_bytes == 0 && self.link_after.marked_packets == 0,
            format!(
                "{} bytes in plaintext on the link after joining: {}",
                self.link_after.clear_bytes,
                flows.join(", ")
            ),
        );
        promise(
            self.link_after.encrypted_bytes > 0,
            "nothing encrypted crossed the link after joining".to_owned(),
        );
        let missed = self.link_before.missed + self.link_after.missed;
        promise(missed == 0, format!("the capture missed {missed} packets"));
        promise(
            !self.connections.is_empty(),
            "the proxies logged no connection".to_owned(),
        );
        let open: Vec<String> = self
            .connections
            .iter()
            .filter(|one| !one.encrypted || !is_spiffe(&one.source) || !is_spiffe(&one.destination))
            .map(|one| format!("{} to {}", one.source_address, one.destination_address))
            .collect();
        promise(
            open.is_empty(),
            format!("{} connections without mutual TLS: {}", open.len(), open.join(", ")),
        );
        promise(
            self.arrivals_in_clear == 0 && self.arrivals >= self.connections.len(),
            format!(
                "{} connections left, {} arrived in mutual TLS and {} in plaintext",
                self.connections.len(),
                self.arrivals,
                self.arrivals_in_clear
            ),
        );
        let failed: Vec<&str> = self
            .connections
            .iter()
            .map(|one| one.error.as_str())
            .filter(|error| !error.is_empty())
            .collect();
        promise(
            failed.is_empty(),
            format!(
                "{} connections ended with an error: {}",
                failed.len(),
                failed.join(", ")
            ),
        );
        promise(
            self.netfilter_rules == 0,
            format!("{} netfilter rules", self.netfilter_rules),
        );
        promise(
            self.policy_routing_rules == 0,
            format!("{} policy routing rules", self.policy_routing_rules),
        );
        promise(
            !self.workers.is_empty()
                && self.workers.iter().all(|worker| {
                    self.capabilities_of(worker) == 0 && worker.no_new_privs && worker.seccomp && worker.user != 0
                }),
            format!("a worker has more privilege than it should: {:?}", self.workers),
        );
        promise(
            !self.clients_seen.is_empty() && self.clients_seen.iter().all(|seen| self.client.contains(seen)),
            format!(
                "the page took {:?} for its clients instead of {:?}",
                self.clients_seen, self.client
            ),
        );
        if let Some(cluster) = &self.cluster {
            promise(
                cluster.pods_restarted == 0,
                format!("{} pods were restarted", cluster.pods_restarted),
            );
            promise(
                self.joining.sent > 0,
                "no request was sent while the namespace joined".to_owned(),
            );
        }
        broken
    }

    /// The facts for programs: one object.
    pub(super) fn json(&self) -> Value {
        let all = self.requests();
        let part = |tally: &Tally| json!({ "sent": tally.sent, "succeeded": tally.succeeded });
        let mut facts = json!({
            "requests": {
                "sent": all.sent,
                "succeeded": all.succeeded,
                "before": part(&self.before),
                "joining": part(&self.joining),
                "after": part(&self.after),
            },
            "connections": self.connections,
            "link": {
                "plaintext_bytes_before": self.link_before.clear_bytes,
                "plaintext_bytes_after": self.link_after.clear_bytes,
                "encrypted_bytes_before": self.link_before.encrypted_bytes,
                "encrypted_bytes_after": self.link_after.encrypted_bytes,
                "packets_with_the_visitors_text_before": self.link_before.marked_packets,
                "packets_with_the_visitors_text_after": self.link_after.marked_packets,
            },
            "netfilter_rules": self.netfilter_rules,
            "policy_routing_rules": self.policy_routing_rules,
            "worker_capabilities": self.worker_capabilities(),
            "client_addresses_seen": self.clients_seen,
            "join_seconds": round(self.joined_in),
            "seconds": round(self.seconds),
        });
        if let Some(cluster) = &self.cluster {
            facts["failed_requests_while_enrolling"] = json!(self.failed_while_joining());
            facts["worker_bounding_set"] = json!(self.worker_bounding_set());
            facts["pods_restarted"] = json!(cluster.pods_restarted);
            facts["link"]["dns_bytes_before"] = json!(cluster.dns_bytes[0]);
            facts["link"]["dns_bytes_after"] = json!(cluster.dns_bytes[1]);
        }
        facts
    }
}

fn is_spiffe(identity: &str) -> bool {
    identity.starts_with("spiffe://")
}

/// Seconds to two places.
pub(super) fn round(seconds: f64) -> f64 {
    (seconds * 100.0).round() / 100.0
}
