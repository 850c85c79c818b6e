//! A port of a ServiceEntry.

use std::sync::Arc;

use serde_json::Value;

use super::reading::Reading;
use crate::labels::shared;

/// A port of a ServiceEntry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryPort {
    /// As clients dial it.
    pub number: u16,
    /// By which endpoints may serve it elsewhere.
    pub name: Arc<str>,
    /// Where endpoints serve it that do not say otherwise, if that is another.
    pub target: Option<u16>,
    /// What is spoken, as it is written.
    pub protocol: Box<str>,
}

/// What a port may say of its protocol. What is spoken is for display: all bytes are carried as they are.
const PROTOCOLS: [&str; 10] = [
    "HTTP",
    "HTTPS",
    "GRPC",
    "GRPC-WEB",
    "HTTP2",
    "HTTP_PROXY",
    "MONGO",
    "REDIS",
    "MYSQL",
    "TLS",
];

/// Reads `spec.ports`. Of two with one number or name the first counts.
pub(super) fn ports(reading: &mut Reading, value: &Value) -> Box<[EntryPort]> {
    let mut ports: Vec<EntryPort> = Vec::new();
    for (field, item) in reading.items(value, "spec.ports") {
        let Some(port) = port(reading, item, &field) else {
            continue;
        };
        if let Some(before) = ports.iter().find(|other| other.number == port.number) {
            let message = format!(
                "{} is already port {:?}: this one is left out",
                port.number, before.name
            );
            reading.note(&format!("{field}.number"), message);
        } else if let Some(before) = ports
            .iter()
            .find(|other| !port.name.is_empty() && other.name == port.name)
        {
            let message = format!(
                "{:?} is already port {}: this one is left out",
                port.name, before.number
            );
            reading.note(&format!("{field}.name"), message);
        } else {
            ports.push(port);
        }
    }
    ports.into()
}

fn port(reading: &mut Reading, value: &Value, field: &str) -> Option<EntryPort> {
    let at = |name: &str| format!("{field}.{name}");
    if value["number"].is_null() {
        reading.note(&at("number"), "a port without number: it is left out");
    }
    let number = reading.port(&value["number"], &at("number"))?;
    let name = reading.text(&value["name"], &at("name")).unwrap_or_default();
    let target = reading.port(&value["targetPort"], &at("targetPort"));
    // It would lead to another port than was meant.
    if target.is_none() && !value["targetPort"].is_null() {
        return None;
    }
    let protocol = reading.text(&value["protocol"], &at("protocol")).unwrap_or_default();
    let protocol = protocol.to_ascii_uppercase();
    match protocol.as_str() {
        "UDP" => {
            reading.note(&at("protocol"), "UDP is not carried: the port is left out");
            return None;
        }
        "" | "TCP" => {}
        known if PROTOCOLS.contains(&known) => {}
        _ => reading.note(
            &at("protocol"),
            format!("{protocol:?} is unknown: bytes are carried as they are"),
        ),
    }
    Some(EntryPort {
        number,
        name: shared(name),
        target,
        protocol: protocol.into(),
    })
}
