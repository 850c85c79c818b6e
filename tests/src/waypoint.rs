//! Waypoints in a lab: `culvert-waypoint`, or Envoy with the same configuration.

use crate::{authority::Authority, envoy, patience::PATIENCE, played::PlayedWaypoint};
use culvert_lab::{Ads, Lab, Mesh, Pod, Process, WaypointPlace};

/// Which program is the waypoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ours.
    Culvert,
    /// Envoy, over delta ADS.
    Envoy,
    /// Envoy, over state-of-the-world ADS.
    EnvoyWorld,
}

impl Kind {
    /// In names of labs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Culvert => "culvert",
            Self::Envoy => "envoy",
            Self::EnvoyWorld => "world",
        }
    }
}

/// A waypoint's objects and its pod, which runs nothing yet.
pub struct Place(pub WaypointPlace);

impl Place {
    /// Makes them.
    pub fn make(lab: &Lab, namespace: &str, gateway: &str) -> Self {
        Self(WaypointPlace::make(lab, namespace, gateway).unwrap())
    }

    /// The same of the class of a program.
    pub fn of(lab: &Lab, namespace: &str, gateway: &str, kind: Kind) -> Self {
        let class = match kind {
            Kind::Culvert => "culvert-waypoint",
            Kind::Envoy | Kind::EnvoyWorld => "culvert-envoy",
        };
        Self(WaypointPlace::make_of(lab, namespace, gateway, class).unwrap())
    }

    /// The waypoint's pod.
    pub fn pod(&self) -> &Pod {
        &self.0.pod
    }

    /// Runs the program there.
    pub fn run(&self, mesh: &Mesh<'_>, kind: Kind) -> Process {
        let api = match kind {
            Kind::Culvert => return self.0.start(mesh).unwrap(),
            Kind::Envoy => Ads::Delta,
            Kind::EnvoyWorld => Ads::World,
        };
        // Lines of the access log are looked for: it writes them every ten seconds else.
        let arguments = [
            "--log-level",
            "info",
            "--concurrency",
            "1",
            "--file-flush-interval-msec",
            "100",
        ];
        self.0.start_envoy(mesh, &envoy::program(), api, &arguments).unwrap()
    }

    /// A waypoint that the test plays, with the identity that it should have.
    pub fn play(&self, lab: &Lab) -> PlayedWaypoint {
        let leaf = Authority::of(lab).leaf(&[&self.pod().identity()]);
        PlayedWaypoint::serve(self.pod(), leaf)
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
        Self::start_at(Place::of(lab, namespace, gateway, kind), lab, mesh, kind)
    }

    /// The same in a place that is there.
    pub fn start_at(place: Place, lab: &Lab, mesh: &Mesh<'_>, kind: Kind) -> Self {
        let process = place.run(mesh, kind);
        let open = place.0.wait_open(&process, PATIENCE);
        open.unwrap_or_else(|error| panic!("{error:#}\n{}", lab.logs(20)));
        Self { place, process }
    }
}
