//! Health of endpoints. It has three states; Istio's wire has two, and an extension of Culvert's own carries the third.

use culvert_objects::{Endpoint, Pod};
use culvert_proto::workload::{Workload, WorkloadStatus};
use culvert_proto::{HEALTH, TERMINATING, extension_of_text};

/// How an endpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// Takes what is new.
    Ready,
    /// Serves, and is about to end: takes what is new where nothing else does.
    Terminating,
    /// Takes nothing.
    NotReady,
}

impl Health {
    /// By the condition `Ready` and whether it is being deleted, as Kubernetes' endpoints have it. The phase tells nothing
    /// about that.
    pub(super) fn of_pod(pod: &Pod) -> Self {
        match (pod.is_ready, pod.is_deleted) {
            (true, false) => Self::Ready,
            (true, true) => Self::Terminating,
            (false, _) => Self::NotReady,
        }
    }

    /// By what a slice says of an endpoint. What it does not say is: ready, and serving if ready.
    pub(super) fn of_endpoint(endpoint: &Endpoint) -> Self {
        let ready = endpoint.ready != Some(false);
        let serving = endpoint.serving.unwrap_or(ready);
        match (ready, serving && endpoint.terminating == Some(true)) {
            (_, true) => Self::Terminating,
            (true, false) => Self::Ready,
            (false, false) => Self::NotReady,
        }
    }

    /// Says it in a workload.
    pub(super) fn tell(self, workload: &mut Workload) {
        let status = match self {
            Self::Ready => WorkloadStatus::Healthy,
            Self::Terminating | Self::NotReady => WorkloadStatus::Unhealthy,
        };
        workload.status = status.into();
        if self == Self::Terminating {
            workload.extensions.push(extension_of_text(HEALTH, TERMINATING));
        }
    }
}

/// Whether a workload that is not healthy still ends what it has.
pub(super) fn is_terminating(workload: &Workload) -> bool {
    workload.extensions.contains(&extension_of_text(HEALTH, TERMINATING))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_what_its_slice_says() {
        let said = |ready, serving, terminating| {
            Health::of_endpoint(&Endpoint {
                addresses: Box::default(),
                ready,
                serving,
                terminating,
                pod: None,
            })
        };
        assert_eq!(said(None, None, None), Health::Ready);
        assert_eq!(said(Some(false), Some(true), Some(true)), Health::Terminating);
        assert_eq!(said(Some(false), Some(false), Some(true)), Health::NotReady);
        assert_eq!(said(Some(false), None, None), Health::NotReady);
        // As Kubernetes writes them for a Service that publishes addresses that are not ready.
        assert_eq!(said(Some(true), Some(false), Some(true)), Health::Ready);
    }
}
