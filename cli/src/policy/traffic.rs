//! Which connections pods of the mesh have accepted, alike ones together.

use crate::local::cells::{items, text};
use serde::Serialize;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

/// Connections from one source to one port of one pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Traffic {
    source: IpAddr,
    source_workload: Option<String>,
    /// What the source's certificate proved; none for plaintext.
    source_identity: Option<String>,
    destination: SocketAddr,
    destination_workload: Option<String>,
    /// How many are open.
    open: u64,
    /// How many have ended within the last hour.
    ended: u64,
    /// How many seconds ago the last one was seen.
    seconds_ago: u64,
}

/// What proxies carry and have carried, by their pages `/connections` and `/recent`. A connection is looked at where it
/// arrives: what its source's proxy says of it adds nothing.
pub(super) fn of(pages: &[Value]) -> Vec<Traffic> {
    let mut all: BTreeMap<(IpAddr, Option<String>, SocketAddr), Traffic> = BTreeMap::new();
    let mut add = |item: &Value, source: Option<IpAddr>, counts: (u64, u64), seconds_ago: u64| {
        let Some((source, destination)) = source.zip(address(item, "destination")) else {
            return;
        };
        let said = |field: &str| item[field].as_str().map(ToOwned::to_owned);
        let identity = said("source_identity");
        let entry = all
            .entry((source, identity.clone(), destination))
            .or_insert_with(|| Traffic {
                source,
                source_workload: said("source_workload"),
                source_identity: identity,
                destination,
                destination_workload: said("destination_workload"),
                open: 0,
                ended: 0,
                seconds_ago,
            });
        entry.open += counts.0;
        entry.ended += counts.1;
        entry.seconds_ago = entry.seconds_ago.min(seconds_ago);
    };
    for page in pages {
        for item in page.get("connections").into_iter().flat_map(|list| items(list, "")) {
            if item["direction"] == "inbound" {
                add(item, address(item, "source").map(|source| source.ip()), (1, 0), 0);
            }
        }
        for item in page.get("recent").into_iter().flat_map(|list| items(list, "")) {
            let source = item["source"].as_str().and_then(|source| source.parse().ok());
            let number = |field: &str| item[field].as_u64().unwrap_or_default();
            add(item, source, (0, number("connections")), number("seconds_ago"));
        }
    }
    all.into_values().collect()
}

fn address(item: &Value, field: &str) -> Option<SocketAddr> {
    item[field].as_str()?.parse().ok()
}

impl Traffic {
    /// As the controller is asked about it.
    pub(super) fn asked(&self) -> Value {
        json!({ "source": self.source, "identity": self.source_identity, "destination": self.destination })
    }

    /// From, identity, to, port, open, ended, last seen.
    pub(super) fn cells(&self) -> Vec<String> {
        let end = |workload: &Option<String>, address: IpAddr| match workload {
            Some(workload) => format!("{workload} {address}"),
            None => address.to_string(),
        };
        vec![
            end(&self.source_workload, self.source),
            text(&self.source_identity.clone().into()),
            end(&self.destination_workload, self.destination.ip()),
            self.destination.port().to_string(),
            self.open.to_string(),
            self.ended.to_string(),
            match self.seconds_ago {
                0 => "now".to_owned(),
                seconds => format!("{seconds} s ago"),
            },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alike_connections_count_together_whether_they_are_open_or_have_ended() {
        let open = json!({ "direction": "inbound", "source": "198.18.0.1:4000", "destination": "198.18.0.2:80" });
        let mut other = open.clone();
        other["source"] = "198.18.0.1:4001".into();
        let ended =
            json!({ "source": "198.18.0.1", "destination": "198.18.0.2:80", "connections": 5, "seconds_ago": 9 });
        let mut with_certificate = ended.clone();
        with_certificate["source_identity"] = "spiffe://a/ns/b/sa/c".into();
        let all = of(&[
            json!({ "connections": [open, other] }),
            json!({ "recent": [ended, with_certificate] }),
            json!({ "connections": "nothing that is understood" }),
        ]);
        let counts: Vec<_> = all.iter().map(|one| (one.open, one.ended, one.seconds_ago)).collect();
        assert_eq!(counts, [(2, 5, 0), (0, 5, 9)]);
    }
}
