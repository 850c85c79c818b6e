//! Tables for people.

use super::facts::Facts;
use anyhow::Result;
use comfy_table::{Attribute, Cell, CellAlignment, Color, Table, presets};
use std::{
    collections::BTreeMap,
    io::{IsTerminal, stderr, stdout},
};

/// What all identities of the demo begin with.
const TRUST_DOMAIN: &str = "spiffe://cluster.local/";

/// Prints the tables: on standard output, or on standard error when standard output is for programs.
pub(super) fn print(facts: &Facts, for_programs: bool) -> Result<()> {
    text(
        &format!(
            "\n{}\n\n{}\n",
            connections(facts, for_programs),
            summary(facts, for_programs)
        ),
        for_programs,
    );
    Ok(())
}

/// Prints a text where tables go.
pub(super) fn text(text: &str, for_programs: bool) {
    if for_programs {
        eprintln!("{text}");
    } else {
        println!("{text}");
    }
}

/// An empty table, coloured where people see it.
pub(super) fn table(for_programs: bool) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED);
    let colours = if for_programs {
        stderr().is_terminal()
    } else {
        stdout().is_terminal()
    };
    if !colours {
        table.force_no_tty();
    }
    table
}

/// Connections after joining, the same ones in one row.
fn connections(facts: &Facts, for_programs: bool) -> String {
    let mut rows: BTreeMap<(String, String, String, bool), (u64, u64)> = BTreeMap::new();
    for one in &facts.connections {
        let way = format!("{} > {}", one.source_workload, one.destination_workload);
        let key = (way, short(&one.source), short(&one.destination), one.encrypted);
        let row = rows.entry(key).or_default();
        row.0 += 1;
        row.1 += one.bytes_sent + one.bytes_received;
    }
    let mut table = table(for_programs);
    table.set_header([
        "pods",
        "source identity",
        "destination identity",
        "connections",
        "bytes",
        "on the wire",
    ]);
    for ((way, source, destination, encrypted), (count, bytes)) in rows {
        let wire = if encrypted {
            Cell::new("mutual TLS").fg(Color::Green)
        } else {
            Cell::new("IN CLEAR").fg(Color::Red).add_attribute(Attribute::Bold)
        };
        table.add_row([
            Cell::new(way),
            Cell::new(source),
            Cell::new(destination),
            right(count),
            right(bytes),
            wire,
        ]);
    }
    format!("Connections after the namespace joined (identities in {TRUST_DOMAIN})\n{table}")
}

fn summary(facts: &Facts, for_programs: bool) -> String {
    let requests = |tally: &super::visits::Tally| format!("{} of {}", tally.succeeded, tally.sent);
    let versions = |tally: &super::visits::Tally| {
        let parts: Vec<String> = tally
            .reviews
            .iter()
            .map(|(version, count)| format!("{version} {count}"))
            .collect();
        parts.join(", ")
    };
    let mut table = table(for_programs);
    table.set_header(["", "before", "after joining"]);
    table.add_row([
        "requests answered".to_owned(),
        requests(&facts.before),
        requests(&facts.after),
    ]);
    table.add_row([
        "  by version of reviews".to_owned(),
        versions(&facts.before),
        versions(&facts.after),
    ]);
    table.add_row([
        Cell::new("link: bytes in plaintext"),
        Cell::new(facts.link_before.clear_bytes),
        verdict(facts.link_after.clear_bytes, facts.link_after.clear_bytes == 0),
    ]);
    table.add_row([
        "link: bytes in TLS records".to_owned(),
        facts.link_before.encrypted_bytes.to_string(),
        facts.link_after.encrypted_bytes.to_string(),
    ]);
    table.add_row([
        Cell::new("link: packets with the visitor's text"),
        Cell::new(facts.link_before.marked_packets),
        verdict(facts.link_after.marked_packets, facts.link_after.marked_packets == 0),
    ]);
    if let Some(cluster) = &facts.cluster {
        let [before, after] = cluster.dns_bytes;
        table.add_row([
            "link: bytes of DNS, never in the tunnel".to_owned(),
            before.to_string(),
            after.to_string(),
        ]);
    }
    let mut plain = |what: &str, value: String, good: bool| {
        table.add_row([Cell::new(what), Cell::new(""), verdict(value, good)]);
    };
    plain(
        "requests while joining",
        requests(&facts.joining),
        facts.joining.sent == facts.joining.succeeded,
    );
    if let Some(cluster) = &facts.cluster {
        let failed = facts.failed_while_joining();
        plain("requests that failed while joining", failed.to_string(), failed == 0);
        let restarted = cluster.pods_restarted;
        plain("pods restarted", restarted.to_string(), restarted == 0);
    }
    plain("time to join", format!("{:.2} s", facts.joined_in), true);
    plain(
        if facts.cluster.is_some() {
            "netfilter rules that Culvert added"
        } else {
            "netfilter rules"
        },
        facts.netfilter_rules.to_string(),
        facts.netfilter_rules == 0,
    );
    plain(
        "policy routing rules",
        facts.policy_routing_rules.to_string(),
        facts.policy_routing_rules == 0,
    );
    let capabilities = facts.worker_capabilities();
    plain(
        "capabilities of the proxies' workers",
        capabilities.to_string(),
        capabilities == 0,
    );
    if facts.cluster.is_some() {
        let bounding = facts.worker_bounding_set().to_string();
        plain(
            "  in their bounding set, where no_new_privs makes them useless",
            bounding,
            true,
        );
    }
    let clients: Vec<String> = facts.clients_seen.iter().map(ToString::to_string).collect();
    let right_clients = facts.clients_seen.iter().all(|seen| facts.client.contains(seen));
    plain(
        "client as the page's program sees it",
        clients.join(", "),
        right_clients,
    );
    plain("whole demo", format!("{:.1} s", facts.seconds), true);
    table.to_string()
}

fn short(identity: &str) -> String {
    match identity.strip_prefix(TRUST_DOMAIN) {
        Some(rest) => rest.to_owned(),
        None if identity.is_empty() => "none".to_owned(),
        None => identity.to_owned(),
    }
}

/// A number, to the right.
pub(super) fn right(number: u64) -> Cell {
    Cell::new(number).set_alignment(CellAlignment::Right)
}

/// A value that is as it should be, or is not.
pub(super) fn verdict(value: impl ToString, good: bool) -> Cell {
    Cell::new(value).fg(if good { Color::Green } else { Color::Red })
}
