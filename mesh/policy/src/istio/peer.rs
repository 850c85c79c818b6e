//! PeerAuthentication: who may come without a certificate, to which ports.

use std::collections::{BTreeMap, BTreeSet};

use culvert_proto::security::{
    Action, Authorization, Clause, Match, Rule, Scope, StringMatch, string_match::MatchType,
};
use serde_json::Value;

use super::notes::{Note, Notes};
use super::value;

/// Whether peers must have a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They must.
    Strict,
    /// They need not (PERMISSIVE). DISABLE means the same here: peers that have one use it all the same, since nothing
    /// would be gained by taking it from them.
    Permissive,
}

/// A PeerAuthentication as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerAuthentication {
    /// For all ports without a mode of their own. None: what is inherited.
    pub mode: Option<Mode>,
    /// By port of the application. None: as the other ports.
    pub ports: BTreeMap<u16, Option<Mode>>,
}

/// What several PeerAuthentications together mean for a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mtls {
    /// For all ports but the exceptions.
    pub mode: Mode,
    /// Ports for which the other mode holds.
    pub exceptions: BTreeSet<u16>,
}

impl PeerAuthentication {
    /// Reads a `spec`. What is unknown in it may have asked for certificates, and is taken for that; each such place is a
    /// note.
    pub fn read(spec: &Value) -> (Self, Vec<Note>) {
        let mut notes = Notes::default();
        let mut read = Self::default();
        match spec {
            Value::Null => {}
            Value::Object(fields) => {
                read.mode = mode("spec.mtls", fields.get("mtls"), &mut notes);
                read.read_ports(fields.get("portLevelMtls"), &mut notes);
                for name in fields.keys() {
                    if !["selector", "mtls", "portLevelMtls"].contains(&name.as_str()) {
                        notes.add(&format!("spec.{name}"), "it is unknown: the mode is STRICT");
                        read.be_strict();
                    }
                }
            }
            _ => {
                notes.add("spec", "not an object: the mode is STRICT");
                read.be_strict();
            }
        }
        (read, notes.into_vec())
    }

    fn read_ports(&mut self, ports: Option<&Value>, notes: &mut Notes) {
        let at = "spec.portLevelMtls";
        let ports = match ports {
            None | Some(Value::Null) => return,
            Some(Value::Object(ports)) => ports,
            Some(_) => {
                notes.add(at, "not an object: the mode is STRICT");
                return self.be_strict();
            }
        };
        let mut doubts = false;
        for (number, value) in ports {
            let path = format!("{at}[{number}]");
            let mode = mode(&path, Some(value), notes);
            match value::port(number).and_then(|port| u16::try_from(port).ok()) {
                Some(port) => drop(self.ports.insert(port, mode)),
                None => {
                    let is_strict = mode == Some(Mode::Strict);
                    let instead = if is_strict {
                        "the mode is STRICT"
                    } else {
                        "it is left out"
                    };
                    notes.add(&path, format!("{number:?} is no port: {instead}"));
                    doubts |= is_strict;
                }
            }
        }
        if doubts {
            self.be_strict();
        }
    }

    fn be_strict(&mut self) {
        self.mode = Some(Mode::Strict);
        self.ports.clear();
    }
}

impl Mtls {
    /// What holds for a workload that `own` selects, in a namespace and a mesh that say `inherited` (the nearest first).
    pub fn of(own: Option<&PeerAuthentication>, inherited: impl IntoIterator<Item = Option<Mode>>) -> Self {
        let inherited = inherited.into_iter().flatten().next().unwrap_or(Mode::Permissive);
        let mode = own.and_then(|own| own.mode).unwrap_or(inherited);
        let ports = own.into_iter().flat_map(|own| &own.ports);
        let exceptions = ports
            .filter(|(_, of_port)| of_port.is_some_and(|of_port| of_port != mode))
            .map(|(port, _)| *port)
            .collect();
        Self { mode, exceptions }
    }

    /// The DENY policy that enforces it: for whom there is none, nothing is asked of peers.
    pub fn policy(&self, namespace: &str, name: &str) -> Option<Authorization> {
        let ports = || self.exceptions.iter().copied().map(u32::from).collect();
        let ports = match (self.mode, self.exceptions.is_empty()) {
            (Mode::Permissive, true) => return None,
            (Mode::Strict, true) => None,
            (Mode::Strict, false) => Some(Match {
                not_destination_ports: ports(),
                ..Match::default()
            }),
            (Mode::Permissive, false) => Some(Match {
                destination_ports: ports(),
                ..Match::default()
            }),
        };
        let anonymous = Match {
            not_principals: vec![StringMatch {
                match_type: Some(MatchType::Presence(())),
            }],
            ..Match::default()
        };
        let clauses = ports.into_iter().chain([anonymous]);
        Some(Authorization {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            scope: Scope::WorkloadSelector.into(),
            action: Action::Deny.into(),
            rules: vec![Rule {
                clauses: clauses.map(|one| Clause { matches: vec![one] }).collect(),
            }],
            ..Authorization::default()
        })
    }
}

fn mode(at: &str, value: Option<&Value>, notes: &mut Notes) -> Option<Mode> {
    let fields = match value {
        None | Some(Value::Null) => return None,
        Some(Value::Object(fields)) => fields,
        Some(_) => {
            notes.add(at, "not an object: the mode is STRICT");
            return Some(Mode::Strict);
        }
    };
    if let Some(name) = fields.keys().find(|name| *name != "mode") {
        notes.add(&format!("{at}.{name}"), "it is unknown: the mode is STRICT");
        return Some(Mode::Strict);
    }
    match fields.get("mode") {
        None | Some(Value::Null) => None,
        Some(Value::String(mode)) => match mode.as_str() {
            "" | "UNSET" => None,
            "STRICT" => Some(Mode::Strict),
            "PERMISSIVE" | "DISABLE" => Some(Mode::Permissive),
            _ => {
                notes.add(
                    &format!("{at}.mode"),
                    format!("{mode:?} is unknown: the mode is STRICT"),
                );
                Some(Mode::Strict)
            }
        },
        Some(other) => {
            notes.add(&format!("{at}.mode"), format!("{other} is unknown: the mode is STRICT"));
            Some(Mode::Strict)
        }
    }
}
