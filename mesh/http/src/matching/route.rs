//! What a route matches.

use culvert_envoy::pb::envoy::config::route::v3::RouteMatch;
use http::request::Parts;

use crate::error::{CompileError, Within as _, take};
use crate::matching::client::Client;
use crate::matching::header::Header;
use crate::matching::path::Path;
use crate::matching::query::Query;
use crate::request::{Peer, is_grpc};

/// Everything of it has to fit.
#[derive(Debug)]
pub(crate) struct RouteMatcher {
    pub(crate) path: Path,
    headers: Vec<Header>,
    queries: Vec<Query>,
    clients: Vec<Client>,
    grpc: bool,
}

impl RouteMatcher {
    pub(crate) fn compile(matcher: &RouteMatch) -> Result<Self, CompileError> {
        take!(matcher => RouteMatch { case_sensitive, headers, query_parameters, grpc, filter_state, path_specifier } unserved {
            runtime_fraction, cookies, tls_context, dynamic_metadata,
        });
        let _ = (case_sensitive, path_specifier);
        let client = |(index, state)| Client::compile(state).within(|| format!("filter_state[{index}]"));
        Ok(Self {
            path: Path::compile(matcher)?,
            headers: Header::compile_all(headers)?,
            queries: Query::compile_all(query_parameters)?,
            clients: filter_state.iter().enumerate().map(client).collect::<Result<_, _>>()?,
            grpc: grpc.is_some(),
        })
    }

    pub(crate) fn matches(&self, request: &Parts, peer: &Peer<'_>) -> bool {
        self.path.matches(request)
            && (!self.grpc || is_grpc(request))
            && self.headers.iter().all(|header| header.matches(request))
            && self.queries.iter().all(|query| query.matches(request))
            && self.clients.iter().all(|client| client.matches(peer))
    }
}
