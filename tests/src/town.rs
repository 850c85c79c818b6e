//! The usual setting: one meshed namespace with a client on node 1 and servers on both nodes.

use crate::{patience::PATIENCE, probe};
use culvert_lab::{Capture, Lab, Mesh, MeshOptions, Pod, PodSpec, Process, Seen, wait_until};

/// Where servers listen.
pub const PORT: u16 = 8080;

/// A lab for one test. A test needs root and a kernel that can do this; without, it fails.
pub fn lab(name: &str) -> Lab {
    Lab::unique(name).unwrap_or_else(|error| panic!("no lab: {error:#}"))
}

/// A running mesh with pods in it. Dropped, it shows the programs' last words if the test is failing.
pub struct Town<'lab> {
    /// The lab that all is in.
    pub lab: &'lab Lab,
    /// Culvert.
    pub mesh: Mesh<'lab>,
    /// On node 1.
    pub client: Pod,
    /// On node 2, with a running `probe serve`.
    pub server: Pod,
    /// On node 1, with a running `probe serve`.
    pub neighbour: Pod,
    /// The servers.
    pub processes: Vec<Process>,
}

impl<'lab> Town<'lab> {
    /// Everything running, and the pods enrolled.
    pub fn meshed(lab: &'lab Lab) -> Self {
        Self::with(lab, MeshOptions::default())
    }

    /// As [`Town::meshed`], with options for the programs.
    pub fn with(lab: &'lab Lab, options: MeshOptions) -> Self {
        let town = Self::unlabelled(lab, options);
        town.join();
        town
    }

    /// Everything running, in a namespace (`town`) that has no label yet.
    pub fn unlabelled(lab: &'lab Lab, options: MeshOptions) -> Self {
        lab.namespace("town").unwrap();
        let pod = |name: &str, node: u8| {
            let spec = PodSpec::new("town", name)
                .on(node)
                .service_account(name)
                .label("app", name)
                .label("tier", if name == "client" { "front" } else { "back" });
            lab.pod(spec).unwrap_or_else(|error| panic!("pod {name}: {error:#}"))
        };
        let (client, server, neighbour) = (pod("client", 1), pod("server", 2), pod("neighbour", 1));
        let processes = [&server, &neighbour].map(|pod| probe::serve(pod, PORT)).into();
        let options = MeshOptions {
            log: options.log.or_else(|| Some("info".to_owned())),
            ..options
        };
        let mesh = Mesh::start(lab, options).unwrap_or_else(|error| panic!("no mesh: {error:#}\n{}", lab.logs(20)));
        Self {
            lab,
            mesh,
            client,
            server,
            neighbour,
            processes,
        }
    }

    /// Labels the namespace and waits until all know of it: agents, controller and proxies.
    pub fn join(&self) {
        self.lab.label("town", Some("ambient")).unwrap();
        self.wait_enrolled(true);
        self.wait_in_the_tunnel(&self.server, PORT);
    }

    /// Removes the label and waits until no pod is enrolled any more.
    pub fn leave(&self) {
        self.lab.label("town", None).unwrap();
        self.wait_enrolled(false);
    }

    /// Waits for all pods of the town.
    pub fn wait_enrolled(&self, enrolled: bool) {
        let pods = [&self.client, &self.server, &self.neighbour];
        let waited = self.mesh.wait_enrolled(&pods, enrolled, PATIENCE);
        waited.unwrap_or_else(|error| panic!("{error:#}\n{}", self.lab.logs(20)));
    }

    /// Waits until the client's connections to a pod on node 2 go through the tunnel.
    ///
    /// Agents and controller learn of a pod or a label each for itself, so a pod can be enrolled a moment before the
    /// other node's proxy hears that it is.
    pub fn wait_in_the_tunnel(&self, pod: &Pod, port: u16) {
        self.mesh
            .wait_enrolled(&[pod], true, PATIENCE)
            .unwrap_or_else(|error| panic!("{error:#}\n{}", self.lab.logs(20)));
        let mut last = String::new();
        let waited = wait_until("connections are in the tunnel", PATIENCE, || {
            let dial = || probe::dial(&self.client, (pod.ip4(), port), &["--timeout", "15"]);
            let (answer, seen) = self.on_the_wire(dial);
            last = format!("{answer:?}, {seen:?}");
            // Others, opened in clear before, may go on meanwhile.
            answer.is_ok_and(|found| {
                let own = probe::address(&found, "client", "getsockname");
                seen.encrypted_bytes > 0 && !seen.clear_flows.keys().any(|(from, to)| *from == own || *to == own)
            })
        });
        waited.unwrap_or_else(|error| panic!("{error:#}: {last}\n{}", self.lab.logs(20)));
    }

    /// What crosses the link between the nodes while `work` is at it.
    pub fn on_the_wire<T>(&self, work: impl FnOnce() -> T) -> (T, Seen) {
        let capture = Capture::start(self.lab.node(1).namespace(), "wire", &[]).unwrap();
        let done = work();
        (done, capture.take())
    }

    /// Does `work`, which must cross the link, and asserts that nothing of it was readable there.
    pub fn in_the_tunnel<T>(&self, work: impl FnOnce() -> T) -> T {
        let (done, seen) = self.on_the_wire(work);
        assert_eq!(
            seen.clear_bytes, 0,
            "bytes in clear on the link: {:?}",
            seen.clear_flows
        );
        assert!(seen.encrypted_bytes > 0, "nothing crossed the link");
        done
    }

    /// Asserts that the mesh carries new connections of both families, across nodes and on one.
    pub fn assert_works(&self) {
        for to in self.server.addresses().into_iter().chain(self.neighbour.addresses()) {
            probe::dial(&self.client, (to, PORT), &[])
                .unwrap_or_else(|error| panic!("{to}: {error}\n{}", self.lab.logs(20)));
        }
    }
}

impl Drop for Town<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("what the programs said last:\n{}", self.lab.logs(40));
        }
    }
}
