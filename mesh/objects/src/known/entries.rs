//! The fields of ServiceEntry and WorkloadEntry, and what holds for each. `status` is for others to write.

use super::entry::{Field, State, field, served};

use State::{Ignored, Refused, Served};

const RESOLUTION: State = Refused("is not served: connections to its addresses are refused");
const LOCATION: State = Ignored("is unknown: where the hosts are makes no difference");
const SUBSETS: State =
    Ignored("tells nothing apart: policies and telemetry go by the labels of the ServiceEntry itself");

const NETWORK: State = Refused(
    "is not served: the mesh has one network, whose name is empty. Nobody reaches the endpoint, whose address is of another",
);

/// `networking.istio.io` ServiceEntry.
pub(super) const SERVICE_ENTRY: &[Field] = &[
    served("spec"),
    served("spec.addresses"),
    served("spec.endpoints"),
    served("spec.endpoints[].address"),
    field("spec.endpoints[].labels", SUBSETS),
    field("spec.endpoints[].labels.*", SUBSETS),
    served("spec.endpoints[].locality"),
    field("spec.endpoints[].network", NETWORK),
    served("spec.endpoints[].ports"),
    served("spec.endpoints[].ports.*"),
    served("spec.endpoints[].serviceAccount"),
    served("spec.endpoints[].weight"),
    served("spec.exportTo"),
    served("spec.hosts"),
    Field {
        values: &[("MESH_EXTERNAL", Served), ("MESH_INTERNAL", Served)],
        other_values: Some(LOCATION),
        ..served("spec.location")
    },
    served("spec.ports"),
    served("spec.ports[].name"),
    served("spec.ports[].number"),
    served("spec.ports[].protocol"),
    served("spec.ports[].targetPort"),
    Field {
        values: &[
            ("NONE", Served),
            ("STATIC", Served),
            ("DNS", Served),
            ("DNS_ROUND_ROBIN", Served),
            ("DYNAMIC_DNS", RESOLUTION),
        ],
        other_values: Some(RESOLUTION),
        ..served("spec.resolution")
    },
    served("spec.subjectAltNames"),
    served("spec.workloadSelector"),
    served("spec.workloadSelector.labels"),
    served("spec.workloadSelector.labels.*"),
];

/// `networking.istio.io` WorkloadEntry.
pub(super) const WORKLOAD_ENTRY: &[Field] = &[
    served("spec"),
    served("spec.address"),
    served("spec.labels"),
    served("spec.labels.*"),
    served("spec.locality"),
    field("spec.network", NETWORK),
    served("spec.ports"),
    served("spec.ports.*"),
    served("spec.serviceAccount"),
    served("spec.weight"),
];
