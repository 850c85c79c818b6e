//! For how long connections last whose bytes are copied: that is the backend's to ask for, and stands in the chain that leads there.

use std::sync::Arc;

use super::super::reader::Reader;
use super::hosts;
use crate::routing::model::{Backend, Named, Split};
use crate::routing::traffic::Lasting;

/// What holds at a port of a Service, by the first backend of each way that its connections go, where something is said of it. The Service
/// itself is one of them.
pub(super) fn of_port(
    reader: &Reader<'_>,
    (service, port): (&Arc<str>, u16),
    split: Option<&Split>,
    named: &[Named],
) -> Vec<(Backend, Lasting)> {
    let own = Backend {
        service: Arc::clone(service),
        port,
        subset: None,
    };
    let splits = split.into_iter().chain(named.iter().map(|named| &named.split));
    let first = splits.filter_map(|targets| targets.first()?.backend.as_ref());
    let mut found: Vec<(Backend, Lasting)> = Vec::new();
    for backend in [&own].into_iter().chain(first) {
        let lasting = asked(reader, backend);
        if lasting != Lasting::default() && found.iter().all(|(known, _)| known != backend) {
            found.push((backend.clone(), lasting));
        }
    }
    found
}

fn asked(reader: &Reader<'_>, backend: &Backend) -> Lasting {
    let Some(service) = reader.derived_service(&backend.service) else {
        return Lasting::default();
    };
    let policy = hosts::policy(reader, &service);
    policy.at_port(backend.port, backend.subset.as_deref()).pool.lasting()
}
