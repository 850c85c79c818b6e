//! A town with a waypoint and what its routes lead to.

use crate::{
    app::{self, Seen},
    patience::PATIENCE,
    town::{PORT, Town},
    waypoint::{Kind, Waypoint},
};
use culvert_lab::{Lab, Pod, PodSpec, ServiceSpec};
use serde_json::json;
use std::net::SocketAddr;

/// The Service with the waypoint (`web`), two that routes lead to (`v1`, `v2`), one of two endpoints (`both`, whose applications are `b1`
/// and `b2`), and one without endpoints (`empty`), all at port 80.
pub struct Scene<'lab> {
    /// Its client is who asks.
    pub town: Town<'lab>,
    /// The waypoint `wp`.
    pub waypoint: Waypoint,
    /// A client of another namespace.
    pub guest: Pod,
    /// Where `web` is.
    pub web: SocketAddr,
    /// What the applications have seen.
    pub seen: Seen,
    /// Which program the waypoint is.
    pub kind: Kind,
}

/// A Service at port 80 in front of a pod's port.
pub fn service(name: &str, pod: &str, port: u16, protocol: &str) -> ServiceSpec {
    let port = json!({ "name": "http", "port": 80, "targetPort": port, "protocol": "TCP", "appProtocol": protocol });
    ServiceSpec::new("town", name).port_object(port).selector("app", pod)
}

impl<'lab> Scene<'lab> {
    /// Makes it, and starts the waypoint.
    pub fn set(lab: &'lab Lab, kind: Kind) -> Self {
        let town = Town::meshed(lab);
        let seen = Seen::default();
        for (name, pod, port) in [("v1", &town.server, PORT + 1), ("v2", &town.neighbour, PORT + 2)] {
            app::serve(pod, port, name, &seen);
            lab.service(service(name, pod.name(), port, "http")).unwrap();
        }
        app::serve(&town.server, PORT + 3, "web", &seen);
        app::serve(&town.server, PORT + 4, "b1", &seen);
        app::serve(&town.neighbour, PORT + 4, "b2", &seen);
        let both = json!({ "name": "http", "port": 80, "targetPort": PORT + 4, "appProtocol": "http" });
        let both = ServiceSpec::new("town", "both").port_object(both);
        lab.service(both.selector("tier", "back")).unwrap();
        let web = service("web", "server", PORT + 3, "http").label("culvert.dev/use-waypoint", "wp");
        let web = lab.service(web).unwrap();
        lab.service(service("empty", "nobody", 80, "http")).unwrap();
        lab.namespace("guests").unwrap();
        let guest = lab.pod(PodSpec::new("guests", "guest").on(1)).unwrap();
        lab.label("guests", Some("ambient")).unwrap();
        town.mesh.wait_enrolled(&[&guest], true, PATIENCE).unwrap();
        let waypoint = Waypoint::start(lab, &town.mesh, "town", "wp", kind);
        Self {
            town,
            waypoint,
            guest,
            web: SocketAddr::from((web.ip4(), 80)),
            seen,
            kind,
        }
    }

    /// For messages.
    pub fn last_words(&self) -> String {
        format!("{}\n{}", self.waypoint.process.log_tail(40), self.town.lab.logs(20))
    }
}
