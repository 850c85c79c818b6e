//! A town in strict mode that is tapped from its first connection to its last: whatever fails meanwhile, nobody can read a byte of it.

mod talker;

use crate::{patience::PATIENCE, town::Town};
use culvert_lab::{Capture, MeshOptions, Pod, PodSpec, wait_until};
use serde_json::{Value, json};
use std::net::SocketAddr;
use talker::{Talker, serve};

pub use talker::ECHO;

/// What pods of the mesh say to each other.
const SECRET: &str = "what only its receiver may read";
/// What others say to them, when they are let in.
const SHOUT: &str = "what everybody is free to read!";

/// All pods are strict. Their namespace asks for connections to go direct where there is no proxy, which strict pods must never do.
pub struct StrictTown<'lab> {
    talkers: Vec<Talker>,
    strangers: Vec<Talker>,
    taps: Vec<(String, Capture)>,
    /// On node 1: nothing of its connections may go direct, and they are held until the far side is there.
    pub holder: Pod,
    /// On node 1, outside of the mesh.
    pub stranger: Pod,
    /// Mesh, pods and programs.
    pub town: Town<'lab>,
}

impl<'lab> StrictTown<'lab> {
    /// Everything at work: pods of the mesh that talk to each other, others that try to reach them, and taps on the link between the nodes
    /// and inside each pod of the mesh.
    pub fn start(lab: &'lab culvert_lab::Lab, options: MeshOptions) -> Self {
        let town = Town::with(lab, options);
        let holder = PodSpec::new("town", "holder")
            .on(1)
            .service_account("holder")
            .annotation("culvert.dev/fallback", "none")
            .annotation("culvert.dev/hold-connections", "true");
        let holder = lab.pod(holder).unwrap();
        let stranger = lab.pod(PodSpec::new("outside", "stranger").on(1)).unwrap();
        let other = lab.pod(PodSpec::new("outside", "other").on(2)).unwrap();
        lab.apply(&json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {
                "name": "town",
                "labels": { "culvert.dev/mesh": "ambient" },
                "annotations": { "culvert.dev/fallback": "direct" },
            },
        }))
        .unwrap();
        let mut strict = Self {
            talkers: Vec::new(),
            strangers: Vec::new(),
            taps: Vec::new(),
            holder,
            stranger,
            town,
        };
        strict.apply("town", "default", json!({ "mtls": { "mode": "STRICT" } }));
        strict.wait_guarded();
        strict.tap();
        let Town {
            client,
            server,
            neighbour,
            ..
        } = &strict.town;
        for pod in [client, server, neighbour] {
            serve(pod);
        }
        // Across the nodes both ways, and on one node.
        let pairs = [
            (client, server),
            (server, client),
            (&strict.holder, server),
            (client, neighbour),
        ];
        let talkers = pairs.map(|(from, to)| Talker::start(from, to, SECRET)).into();
        let strangers = [(&strict.stranger, server), (&other, client)];
        let strangers = strangers.map(|(from, to)| Talker::start(from, to, SHOUT)).into();
        (strict.talkers, strict.strangers) = (talkers, strangers);
        strict.everybody_is_answered();
        strict.assert_unread("with everything there", |_, _| false);
        strict
    }

    /// Does something to the town, which works again afterwards, and asserts that nobody could read anything meanwhile.
    #[track_caller]
    pub fn during(&mut self, fault: &str, work: impl FnOnce(&mut Self)) {
        self.during_but(fault, |_, _| false, work);
    }

    /// As [`StrictTown::during`], where anybody may read what goes from one of these addresses to the other.
    #[track_caller]
    pub fn during_but(
        &mut self,
        fault: &str,
        may_be_read: fn(&Self, &[SocketAddr; 2]) -> bool,
        work: impl FnOnce(&mut Self),
    ) {
        work(self);
        self.everybody_is_answered();
        self.assert_unread(fault, may_be_read);
    }

    /// Waits until everybody, strangers included, has tried to connect some times more, whatever came of it.
    #[track_caller]
    pub fn everybody_tries(&self) {
        let all = || self.talkers.iter().chain(&self.strangers);
        let before: Vec<u64> = all().map(Talker::made).collect();
        self.wait("everybody to try", || {
            all().zip(&before).all(|(talker, before)| talker.made() >= before + 4)
        });
    }

    /// Waits until everybody in the mesh was answered, at both addresses, on connections made from now on.
    #[track_caller]
    pub fn everybody_is_answered(&self) {
        let before: Vec<[u64; 2]> = self.talkers.iter().map(Talker::answered_at).collect();
        self.wait("everybody in the mesh to be answered", || {
            let now = self.talkers.iter().map(Talker::answered_at);
            // The first may have been under way.
            now.zip(&before)
                .all(|(now, before)| now[0] >= before[0] + 2 && now[1] >= before[1] + 2)
        });
    }

    /// Waits until nobody in the mesh is answered any more on new connections, also where that takes as long as certificates live.
    #[track_caller]
    pub fn nobody_is_answered(&self) {
        let answered = || self.talkers.iter().map(Talker::answered).sum::<u64>();
        let waited = wait_until("nobody to be answered", PATIENCE * 3, || {
            let before = answered();
            self.everybody_tries();
            answered() == before
        });
        waited.unwrap_or_else(|error| panic!("{error:#}\n{}", self.tried()));
    }

    /// Waits until strangers are answered.
    #[track_caller]
    pub fn strangers_are_answered(&self) {
        let before: Vec<u64> = self.strangers.iter().map(Talker::answered).collect();
        self.wait("strangers to be answered", || {
            self.strangers
                .iter()
                .zip(&before)
                .all(|(stranger, before)| stranger.answered() > *before)
        });
    }

    /// Waits until they are not.
    #[track_caller]
    pub fn strangers_are_not_answered(&self) {
        let answered = || self.strangers.iter().map(Talker::answered).sum::<u64>();
        self.wait("strangers not to be answered", || {
            let before = answered();
            self.everybody_tries();
            answered() == before
        });
    }

    /// Whether an address is that of a pod outside of the mesh.
    pub fn is_strangers(&self, address: SocketAddr) -> bool {
        self.strangers
            .iter()
            .any(|talker| talker.own.contains(&address.ip().to_canonical()))
    }

    /// Writes a PeerAuthentication.
    pub fn apply(&self, namespace: &str, name: &str, spec: Value) {
        let object = json!({
            "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
            "metadata": { "name": name, "namespace": namespace }, "spec": spec,
        });
        self.town.lab.apply(&object).unwrap();
    }

    /// Waits until the link of every pod of the mesh is guarded, and all of the pod is strict.
    #[track_caller]
    pub fn wait_guarded(&self) {
        let Town {
            client,
            server,
            neighbour,
            mesh,
            ..
        } = &self.town;
        for pod in [client, server, neighbour, &self.holder] {
            self.wait("the pods to be guarded as strict", || {
                let page = mesh.get(pod.node(), 15022, "/pods").map(|answer| answer.body);
                let page: Value = serde_json::from_str(&page.unwrap_or_default()).unwrap_or_default();
                let mut pods = page["pods"].as_array().into_iter().flatten();
                let shown = pods.find(|shown| shown["name"] == pod.name());
                let wanted = if pod.name() == "holder" { "none" } else { "direct" };
                shown.is_some_and(|pod| {
                    let guard = &pod["guard"];
                    let is_whole = guard["exceptions"].as_array().is_none_or(Vec::is_empty);
                    guard["strict"] == true && guard["interfaces"] == 1 && is_whole && pod["fallback"] == wanted
                })
            });
        }
    }

    /// Waits for a condition; says what the programs said last where it does not come.
    #[track_caller]
    pub fn wait(&self, what: &str, is_so: impl FnMut() -> bool) {
        let waited = wait_until(what, PATIENCE, is_so);
        waited.unwrap_or_else(|error| panic!("{error:#}\n{}", self.tried()));
    }

    fn tried(&self) -> String {
        let all = self.talkers.iter().chain(&self.strangers);
        let each = all.map(|talker| format!("{}: {} of {}\n", talker.name, talker.answered(), talker.made()));
        each.collect()
    }

    fn tap(&mut self) {
        let Town {
            client,
            server,
            neighbour,
            lab,
            ..
        } = &self.town;
        let link = Capture::start(lab.node(1).namespace(), "wire", &[SECRET]).unwrap();
        let pods = [client, server, neighbour, &self.holder].map(|pod| {
            let tap = Capture::start(pod.netns(), "eth0", &[SECRET]).unwrap();
            (pod.name().to_owned(), tap)
        });
        self.taps = [("the link".to_owned(), link)].into_iter().chain(pods).collect();
    }

    /// Asserts that since the last look nothing was readable but what may be, and nothing was opened to be so.
    #[track_caller]
    fn assert_unread(&self, when: &str, may_be_read: fn(&Self, &[SocketAddr; 2]) -> bool) {
        for (place, tap) in &self.taps {
            let seen = tap.take();
            assert_eq!(seen.missed, 0, "{when}, at {place}: packets were missed");
            assert!(seen.encrypted_bytes > 0, "{when}, at {place}: nothing was seen");
            assert_eq!(seen.marked_packets, 0, "{when}, at {place}: {:?}", seen.clear_flows);
            let flows = seen.clear_flows.iter();
            let read: Vec<_> = flows
                .filter(|((from, to), _)| !may_be_read(self, &[*from, *to]))
                .collect();
            assert!(read.is_empty(), "{when}, at {place}, in clear: {read:?}");
            // Strangers may knock, and the guard is behind the link.
            let opened = seen.opened_in_clear.iter().filter(|(_, from, to)| {
                let knocks = place == "the link" && self.is_strangers(*from);
                !knocks && !may_be_read(self, &[*from, *to])
            });
            assert_eq!(opened.count(), 0, "{when}, at {place}: {:?}", seen.opened_in_clear);
        }
    }
}
