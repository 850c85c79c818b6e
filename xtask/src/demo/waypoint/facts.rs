//! What the demo of waypoints found out, and what it promised.

use super::requests::Counts;
use crate::demo::{facts::round, show};
use comfy_table::Cell;
use culvert_lab::Seen;
use serde_json::{Value, json};

/// All facts of one run, each measured in that run.
pub(super) struct Facts {
    pub(super) rows: Vec<Row>,
    /// What the link between the nodes carried meanwhile.
    pub(super) link: Seen,
    pub(super) seconds: f64,
}

/// Requests of one kind.
pub(super) struct Row {
    pub(super) what: &'static str,
    pub(super) counts: Counts,
    /// What may come back; nothing else may.
    pub(super) promises: Vec<Promise>,
}

/// How often something comes back.
pub(super) struct Promise {
    what: &'static str,
    least: u32,
    most: u32,
}

impl Promise {
    pub(super) fn between(what: &'static str, least: u32, most: u32) -> Self {
        Self { what, least, most }
    }
}

impl Row {
    fn came_back(&self) -> String {
        let parts = self.counts.came_back.iter();
        let parts: Vec<String> = parts.map(|(what, count)| format!("{what}: {count}")).collect();
        parts.join(", ")
    }

    fn holds(&self) -> bool {
        let is_promised = |what: &String| self.promises.iter().any(|promise| promise.what == what);
        let is_kept = |promise: &Promise| {
            let count = self.counts.get(promise.what).unwrap_or_default();
            (promise.least..=promise.most).contains(&count)
        };
        self.counts.keys().all(is_promised) && self.promises.iter().all(is_kept)
    }
}

impl Facts {
    /// What is not as promised, in words. Empty when all is well.
    pub(super) fn broken_promises(&self) -> Vec<String> {
        let rows = self.rows.iter().filter(|row| !row.holds());
        let mut broken: Vec<String> = rows
            .map(|row| format!("{}: {} requests, {}", row.what, row.counts.sent, row.came_back()))
            .collect();
        if self.link.clear_bytes > 0 || self.link.marked_packets > 0 {
            broken.push(format!("{} bytes in plaintext on the link", self.link.clear_bytes));
        }
        if self.link.encrypted_bytes == 0 {
            broken.push("nothing encrypted crossed the link".to_owned());
        }
        broken
    }

    /// Prints a table for people and, where it is asked for, one line for programs.
    pub(super) fn print(&self, for_programs: bool) {
        show::text(&format!("\n{}\n", self.table(for_programs)), for_programs);
        if for_programs {
            println!("{}", self.json());
        }
    }

    fn json(&self) -> Value {
        let row = |row: &Row| json!({ "step": row.what, "sent": row.counts.sent, "came_back": row.counts.came_back, "as_promised": row.holds() });
        json!({
            "steps": self.rows.iter().map(row).collect::<Vec<_>>(),
            "plaintext_bytes_on_link": self.link.clear_bytes,
            "encrypted_bytes_on_link": self.link.encrypted_bytes,
            "seconds": round(self.seconds),
        })
    }

    fn table(&self, for_programs: bool) -> String {
        let mut table = show::table(for_programs);
        table.set_header(["a waypoint for the bookstore", "sent", "came back"]);
        for row in &self.rows {
            let came_back = show::verdict(row.came_back(), row.holds());
            table.add_row([Cell::new(row.what), show::right(row.counts.sent.into()), came_back]);
        }
        let mut plain = |what: &str, value: String, good: bool| {
            table.add_row([Cell::new(what), Cell::new(""), show::verdict(value, good)]);
        };
        let clear = self.link.clear_bytes;
        plain("link: bytes in plaintext", clear.to_string(), clear == 0);
        let encrypted = self.link.encrypted_bytes;
        plain("link: bytes in TLS records", encrypted.to_string(), encrypted > 0);
        plain("whole demo", format!("{:.1} s", self.seconds), true);
        table.to_string()
    }
}
