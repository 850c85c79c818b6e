//! What the demo of policies found out, and what it promised.

use crate::demo::{facts::round, show, visits::Tally};
use comfy_table::Cell;
use culvert_lab::Seen;
use serde_json::{Value, json};

/// All facts of one run, each measured in that run.
pub(super) struct Facts {
    /// Visits to the page, which asks for details and reviews: all policies allow them.
    pub(super) allowed: Tally,
    /// Attempts of the visitor to ask for details past the page.
    pub(super) denied: Tally,
    /// Attempts of a pod outside the mesh, which has no certificate, to reach the page.
    pub(super) from_outside: Tally,
    /// New connections that the guards dropped meanwhile.
    pub(super) guard_drops: u64,
    /// Open connections that the new policies refuse, and how many of them ended.
    pub(super) open: u64,
    pub(super) closed: u64,
    /// Open connections that they allow, and how many of them went on.
    pub(super) open_and_allowed: u64,
    pub(super) answered: u64,
    /// What the link between the nodes carried once the policies were in force.
    pub(super) link: Seen,
    pub(super) seconds: f64,
}

impl Facts {
    /// What is not as promised, in words. Empty when all is well.
    pub(super) fn broken_promises(&self) -> Vec<String> {
        let let_in =
            |who: &str, tally: &Tally| format!("{} of {} attempts {who} succeeded", tally.succeeded, tally.sent);
        let promises = [
            (
                self.allowed.sent == self.allowed.succeeded,
                format!(
                    "{} of {} visits failed: {}",
                    self.allowed.sent - self.allowed.succeeded,
                    self.allowed.sent,
                    self.allowed.failures.join("; ")
                ),
            ),
            (self.denied.succeeded == 0, let_in("past the page", &self.denied)),
            (
                self.from_outside.succeeded == 0,
                let_in("from outside the mesh", &self.from_outside),
            ),
            (
                self.guard_drops >= self.from_outside.sent,
                format!(
                    "the guard dropped {} connections of {} from outside the mesh",
                    self.guard_drops, self.from_outside.sent
                ),
            ),
            (
                self.closed == self.open && self.open > 0,
                format!(
                    "{} of {} open connections that are refused now ended",
                    self.closed, self.open
                ),
            ),
            (
                self.answered == self.open_and_allowed && self.open_and_allowed > 0,
                format!(
                    "{} of {} open connections that are still allowed were answered",
                    self.answered, self.open_and_allowed
                ),
            ),
            (
                self.link.clear_bytes == 0 && self.link.marked_packets == 0,
                format!("{} bytes in plaintext on the link", self.link.clear_bytes),
            ),
            (
                self.link.encrypted_bytes > 0,
                "nothing encrypted crossed the link".to_owned(),
            ),
            (
                self.link.missed == 0,
                format!("the capture missed {} packets", self.link.missed),
            ),
        ];
        let broken = promises.into_iter().filter(|(holds, _)| !holds);
        broken.map(|(_, what)| what).collect()
    }

    /// Prints a table for people and, where it is asked for, one line for programs.
    pub(super) fn print(&self, for_programs: bool) {
        show::text(&format!("\n{}\n", self.table(for_programs)), for_programs);
        if for_programs {
            println!("{}", self.json());
        }
    }

    fn json(&self) -> Value {
        let part = |tally: &Tally| json!({ "sent": tally.sent, "succeeded": tally.succeeded });
        json!({
            "allowed": part(&self.allowed),
            "denied": part(&self.denied),
            "plaintext_refused": part(&self.from_outside),
            "guard_drops": self.guard_drops,
            "open_connections_closed_by_policy": self.closed,
            "open_connections_kept": self.answered,
            "plaintext_bytes_on_link": self.link.clear_bytes,
            "encrypted_bytes_on_link": self.link.encrypted_bytes,
            "seconds": round(self.seconds),
        })
    }

    fn table(&self, for_programs: bool) -> String {
        let mut table = show::table(for_programs);
        table.set_header(["strict mode, and only the page asks for details", "sent", "got in"]);
        let mut row = |what: &str, sent: u64, got_in: u64, good: bool| {
            table.add_row([Cell::new(what), show::right(sent), show::verdict(got_in, good)]);
        };
        let Self {
            allowed,
            denied,
            from_outside,
            ..
        } = self;
        row(
            "visits to the page",
            allowed.sent,
            allowed.succeeded,
            allowed.sent == allowed.succeeded,
        );
        row(
            "the visitor past the page, to details",
            denied.sent,
            denied.succeeded,
            denied.succeeded == 0,
        );
        let good = from_outside.succeeded == 0;
        row(
            "a pod outside the mesh, to the page",
            from_outside.sent,
            from_outside.succeeded,
            good,
        );
        let mut plain = |what: &str, value: String, good: bool| {
            table.add_row([Cell::new(what), Cell::new(""), show::verdict(value, good)]);
        };
        plain(
            "SYNs that the guard dropped",
            self.guard_drops.to_string(),
            self.guard_drops > 0,
        );
        let of = |part: u64, all: u64| format!("{part} of {all}");
        plain(
            "open connections that the policies ended",
            of(self.closed, self.open),
            self.closed == self.open,
        );
        let kept = of(self.answered, self.open_and_allowed);
        plain(
            "open connections that went on",
            kept,
            self.answered == self.open_and_allowed,
        );
        let clear = self.link.clear_bytes;
        plain("link: bytes in plaintext", clear.to_string(), clear == 0);
        plain(
            "link: bytes in TLS records",
            self.link.encrypted_bytes.to_string(),
            true,
        );
        plain("whole demo", format!("{:.1} s", self.seconds), true);
        table.to_string()
    }
}
