//! Filter chains, ready to serve: what `config::listener` read, with its filters compiled.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use culvert_envoy::{pb::envoy::extensions::filters::http::router::v3::Router, type_url};
use serde_json::{Value, json};

use crate::config::{
    listener::{self, Port},
    refusal::Refusal,
};

/// All filter chains.
#[derive(Debug, Default)]
pub struct Chains {
    chains: listener::Chains,
}

impl Chains {
    /// Compiles their filters.
    ///
    /// # Errors
    /// Where a filter is not served, with its name and that of its chain.
    pub fn compile(chains: listener::Chains) -> Result<Self, Refusal> {
        for (_, port) in chains.iter() {
            for filter in port.http.iter().flat_map(|chain| &chain.filters) {
                if filter.config.type_url != type_url::<Router>() {
                    return Err(Refusal::new(
                        format!("http filter `{}`", filter.name),
                        format!("{} is not served here", filter.config.type_url),
                    ));
                }
            }
            if let Some(filter) = port.tcp.iter().flat_map(|chain| &chain.filters).next() {
                return Err(Refusal::new("network filter", format!("{} is not served here", filter.type_url)));
            }
        }
        Ok(Self { chains })
    }

    /// Who takes a connection to `destination`.
    pub fn find(&self, destination: SocketAddr) -> Option<&Port> {
        self.chains.find(destination)
    }

    /// How long a client may say nothing before it is taken for one that waits for the server to speak.
    pub fn patience(&self) -> Duration {
        self.chains.patience
    }

    /// What is served, for people.
    pub fn dump(&self) -> Value {
        let port = |(address, port): (&SocketAddr, &Port)| {
            let chain = json!({
                "http": port.http.as_ref().map(|chain| json!({
                    "name": &*chain.name,
                    "routes": &*chain.routes,
                    "filters": chain.filters.iter().map(|filter| &*filter.name).collect::<Vec<_>>(),
                })),
                "tcp": port.tcp.as_ref().map(|chain| json!({
                    "name": &*chain.name,
                    "clusters": chain.clusters.iter().map(|(name, weight)| json!([&**name, weight])).collect::<Vec<_>>(),
                })),
            });
            (address.to_string(), chain)
        };
        Value::Object(self.chains.iter().map(port).collect())
    }

    /// Names of the route configurations that chains refer to.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<str>> {
        self.chains.routes()
    }
}
