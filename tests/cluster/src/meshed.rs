//! Pods in the mesh on both nodes, at work while a test does something to what carries them.

use crate::{Load, PodSpec, Report, Space, Wire, World, until};

/// A server on each node, and a load from each node to the other's server, all of them in the mesh from their first packet on.
#[derive(Debug)]
pub struct Meshed<'a> {
    /// Their namespace.
    pub space: Space<'a>,
    loads: Vec<Load>,
    wire: Wire,
}

impl<'a> Meshed<'a> {
    /// Starts them; returns when connections succeed in both directions.
    pub fn start(world: &'a World, name: &str) -> Self {
        let space = world.space(name);
        space.enrol();
        let wire = Wire::tap(world, "node1");
        space.start(&[
            PodSpec::server("server1").on("node1"),
            PodSpec::server("server2").on("node2"),
        ]);
        let loads = vec![
            Load::start(&space, "load1", "node1", space.address("server2")),
            Load::start(&space, "load2", "node2", space.address("server1")),
        ];
        let meshed = Self { space, loads, wire };
        meshed.settle();
        meshed
    }

    /// Waits until each load has had two seconds' worth of answers.
    pub fn settle(&self) {
        for load in &self.loads {
            load.wait_more(100);
        }
    }

    /// A pod that is made now on `node`, whose first act is a question to the other node's server: it succeeds.
    ///
    /// That it was not asked in clear shows at the end, in [`finish`](Self::finish).
    pub fn newcomer(&self, name: &str, node: &str) {
        let server = if node == "node1" { "server2" } else { "server1" };
        self.ask_from(name, node, &self.space.address(server));
    }

    /// As [`newcomer`](Self::newcomer), of an address that is known.
    pub fn ask_from(&self, name: &str, node: &str, to: &str) {
        self.space
            .create_pods(&[PodSpec::new(name, &["ask", "--to", to]).on(node)]);
        until(&format!("pod {name} to have asked"), || {
            let phase = self.space.get(&["pod", name])["status"]["phase"].clone();
            assert_ne!(phase, "Failed", "{}", self.space.kubectl(&["logs", name]));
            phase == "Succeeded"
        });
    }

    /// Ends the loads; what became of each. Asserts that nothing of this namespace went over the wire in clear.
    pub fn stop(self, what: &str) -> Vec<Report> {
        let pods = self.space.get(&["pods"]);
        let addresses: Vec<_> = pods["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|pod| pod["status"]["podIP"].as_str()?.parse().ok())
            .collect();
        assert!(addresses.len() >= 4, "{what}: {addresses:?}");
        let seen = self.wire.seen();
        let traffic = Wire::between_pods(&seen, &addresses);
        let reports = self.loads.into_iter().map(Load::stop).collect();
        assert!(seen.encrypted_bytes > 100_000, "{what}: nothing is in the tunnel");
        assert_eq!(traffic.opened_in_clear, [], "{what}: opened in clear");
        assert_eq!(traffic.clear, [], "{what}: in clear");
        reports
    }

    /// [`stop`](Self::stop), and nothing failed or broke.
    pub fn finish(self, what: &str) {
        for report in self.stop(what) {
            report.assert_unharmed(what);
        }
    }
}
