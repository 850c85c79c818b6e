//! Open connections: those that go through the node's proxy, and those that go past it in the kernel, of which its agent tells.

use super::{
    cells::{cells, items},
    servers::Servers,
    views::{ask, one},
};
use crate::{
    filter::Filter,
    print::{Answer, Section},
};
use anyhow::Result;
use serde_json::{Value, json};

/// What people see of a connection; see [`connection`].
pub(crate) const CONNECTION_HEADER: &[&str] = &[
    "direction",
    "via",
    "source",
    "destination",
    "service",
    "source identity",
    "destination identity",
    "encrypted",
    "key exchange",
    "sent",
    "received",
    "seconds",
];

/// The connections that are open in the node's proxy, and past it.
pub(crate) fn connections(servers: &Servers, filter: &Filter) -> Result<Answer> {
    let mut value = ask(&servers.ztunnel, "/connections")?;
    let past = ask(&servers.agent, "/connections");
    let why = past.as_ref().err().map(|error| format!("{error:#}"));
    match past {
        Ok(past) => add(&mut value, &past),
        Err(_) => {
            if let Some(fields) = value.as_object_mut() {
                fields.insert("agent".to_owned(), json!({ "error": why }));
            }
        }
    }
    let rows = items(&value, "connections")
        .into_iter()
        .filter(|item| filter.shows(item))
        .map(connection)
        .collect();
    let mut answer = one(value, CONNECTION_HEADER, rows, "no connection is open");
    if let Some(why) = why {
        answer.is_well = false;
        answer.sections.push(Section {
            title: "Did not answer",
            header: &["whom", "why"],
            rows: vec![vec![AGENT.to_owned(), why]],
            when_empty: String::new(),
        });
    }
    Ok(answer)
}

/// Who is missing, and what of it.
pub(crate) const AGENT: &str = "agent, of connections past the proxy";

/// Adds to the proxy's page what goes past it.
pub(crate) fn add(page: &mut Value, past: &Value) {
    let past: Vec<Value> = items(past, "connections").into_iter().cloned().collect();
    if let Some(all) = page["connections"].as_array_mut() {
        all.extend(past);
    }
}

/// An end shows by the name of its workload, if it has one, and by its address. Whatever does not say how it goes, goes through the proxy.
pub(crate) fn connection(item: &Value) -> Vec<String> {
    let end = |side: &str| {
        let parts = cells(item, &[&format!("{side}_workload"), side]);
        parts
            .into_iter()
            .filter(|part| part != "-")
            .collect::<Vec<_>>()
            .join(" ")
    };
    let mut row = cells(item, &["direction"]);
    row.push(item["via"].as_str().unwrap_or("proxy").to_owned());
    row.extend([end("source"), end("destination")]);
    row.extend(cells(
        item,
        &[
            "service",
            "source_identity",
            "destination_identity",
            "encrypted",
            "key_exchange",
            "bytes_sent",
            "bytes_received",
            "seconds",
        ],
    ));
    row
}

#[cfg(test)]
mod tests {
    use super::{add, connection};
    use serde_json::json;

    #[test]
    fn what_goes_past_the_proxy_is_listed_with_the_rest_and_marked() {
        let mut page = json!({ "connections": [{ "direction": "inbound", "source": "198.18.0.1:1" }] });
        let past = json!({ "connections": [{ "direction": "outbound", "via": "kernel", "source": "198.18.0.2:2",
            "source_workload": "shop/a", "bytes_sent": 5 }] });
        add(&mut page, &past);
        let rows: Vec<_> = page["connections"].as_array().unwrap().iter().map(connection).collect();
        assert_eq!(rows[0][..3], ["inbound", "proxy", "198.18.0.1:1"]);
        assert_eq!(rows[1][..3], ["outbound", "kernel", "shop/a 198.18.0.2:2"]);
        assert_eq!(rows[1][9], "5");
    }
}
