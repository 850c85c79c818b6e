//! Waypoints in a lab: the Gateway, its Service and its pod, and in the pod `culvert-waypoint`, or Envoy with the same configuration.

use crate::{authority::Authority, envoy, patience::PATIENCE, played::PlayedWaypoint};
use culvert_lab::{Lab, Mesh, Pod, PodSpec, Process, Service, ServiceSpec, wait_until};
use serde_json::json;

/// Of the tunnel.
const HBONE: u16 = 15008;

/// Which program is the waypoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ours.
    Culvert,
    /// Envoy, over delta ADS.
    Envoy,
}

impl Kind {
    /// In names of labs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Culvert => "culvert",
            Self::Envoy => "envoy",
        }
    }
}

/// The objects of a waypoint: a Gateway, the Service of the same name, and a pod that runs nothing yet.
pub struct Place {
    /// The waypoint's pod, on node 2, of service account `GATEWAY`. It takes tunnels in itself, and nothing of it is captured.
    pub pod: Pod,
    /// The waypoint's Service.
    pub service: Service,
}

impl Place {
    /// Makes them.
    pub fn make(lab: &Lab, namespace: &str, gateway: &str) -> Self {
        lab.apply(&json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": { "name": gateway, "namespace": namespace },
            "spec": {
                "gatewayClassName": "culvert-waypoint",
                "listeners": [{ "name": "mesh", "port": HBONE, "protocol": "HBONE" }],
            },
        }))
        .unwrap();
        let gateway_name = "gateway.networking.k8s.io/gateway-name";
        let service = ServiceSpec::new(namespace, gateway)
            .port(HBONE)
            .selector(gateway_name, gateway)
            .label(gateway_name, gateway);
        let service = lab.service(service).unwrap();
        let spec = PodSpec::new(namespace, &format!("{gateway}-1"))
            .on(2)
            .service_account(gateway)
            .label(gateway_name, gateway)
            .label("culvert.dev/mesh", "none")
            .label("networking.istio.io/tunnel", "http");
        Self {
            pod: lab.pod(spec).unwrap(),
            service,
        }
    }

    /// A waypoint that the test plays, with the identity that it should have.
    pub fn play(&self, lab: &Lab) -> PlayedWaypoint {
        let leaf = Authority::of(lab).leaf(&[&self.pod.identity()]);
        PlayedWaypoint::serve(&self.pod, leaf)
    }
}

/// A running waypoint.
pub struct Waypoint {
    /// Where it is.
    pub place: Place,
    /// The program.
    pub process: Process,
}

impl Waypoint {
    /// Makes the objects, runs the program, and waits until the tunnel port is open.
    pub fn start(lab: &Lab, mesh: &Mesh<'_>, namespace: &str, gateway: &str, kind: Kind) -> Self {
        let place = Place::make(lab, namespace, gateway);
        let token = mesh.workload_token(&place.pod).unwrap();
        let process = match kind {
            Kind::Culvert => {
                let mut command = mesh.program("culvert-waypoint").unwrap();
                command
                    .args(["--namespace", namespace, "--gateway", gateway])
                    .args(["--pod-name", place.pod.name(), "--service-account", place.pod.account()])
                    .args(["--pod-ip", &place.pod.ip4().to_string()])
                    .args(mesh.controller_arguments())
                    .arg("--token-file")
                    .arg(&token);
                place.pod.spawn("waypoint", &mut command).unwrap()
            }
            Kind::Envoy => envoy::waypoint(lab, mesh, &place.pod, gateway, &token),
        };
        let pod = &place.pod;
        let open = || {
            pod.run(|| std::net::TcpStream::connect((pod.ip4(), HBONE)).is_ok())
                .unwrap()
        };
        wait_until("the waypoint's tunnel port is open", PATIENCE, open)
            .unwrap_or_else(|error| panic!("{error:#}\n{}\n{}", process.log_tail(60), lab.logs(20)));
        Self { place, process }
    }
}
