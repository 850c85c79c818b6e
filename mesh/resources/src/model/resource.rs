//! Workloads and Services as resources.

use std::sync::Arc;

use culvert_proto::workload::{Address, Service, Workload, address};

use super::wire;
use crate::snapshot::Resource;

/// A Workload, made of an object in `namespace`.
pub(super) fn of_workload(namespace: &Arc<str>, workload: Workload) -> Resource {
    let name = workload.uid.clone();
    let address = Address {
        r#type: Some(address::Type::Workload(workload)),
    };
    Resource::address(&name, namespace, &address)
}

/// A Service, made of an object in `namespace`.
pub(super) fn of_service(namespace: &Arc<str>, service: Service) -> Resource {
    let name = wire::host_name(namespace, &service.hostname);
    let address = Address {
        r#type: Some(address::Type::Service(service)),
    };
    Resource::address(&name, namespace, &address)
}
