//! A cluster in miniature, of which the book hears in every order and with every delay that is possible.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

use proptest::prelude::*;
use serde_json::json;

use super::super::{Book, Origin, Place, Sought};
use super::{Facts, PodName, Verdict, merge};

/// Names are few, so that they come back.
const NAMES: usize = 4;

#[derive(Clone, Copy, Debug)]
enum Op {
    Create(usize),
    /// A sandbox is made, with or without the gate's knowing.
    Start(usize, bool),
    /// It goes.
    Stop(usize, bool),
    Terminate(usize),
    Delete(usize),
    LabelPod(usize, bool),
    LabelNamespace(usize, bool),
    /// The watch's next event arrives.
    HearPod,
    HearNamespace(usize),
    /// The watch starts over: what was under way is lost, and a list comes instead.
    Relist,
    /// A search is begun; its answer is what holds at this moment.
    Ask(bool),
    Answer,
    Look,
}

fn op() -> impl Strategy<Value = Op> {
    let pod = 0..NAMES;
    prop_oneof![
        3 => pod.clone().prop_map(Op::Create),
        3 => (pod.clone(), any::<bool>()).prop_map(|(pod, told)| Op::Start(pod, told)),
        1 => (pod.clone(), any::<bool>()).prop_map(|(pod, told)| Op::Stop(pod, told)),
        1 => pod.clone().prop_map(Op::Terminate),
        1 => pod.clone().prop_map(Op::Delete),
        1 => (pod.clone(), any::<bool>()).prop_map(|(pod, on)| Op::LabelPod(pod, on)),
        2 => (pod.clone(), any::<bool>()).prop_map(|(pod, on)| Op::LabelNamespace(pod, on)),
        8 => Just(Op::HearPod),
        3 => pod.prop_map(Op::HearNamespace),
        1 => Just(Op::Relist),
        2 => any::<bool>().prop_map(Op::Ask),
        2 => Just(Op::Answer),
        2 => Just(Op::Look),
    ]
}

#[derive(Clone, Debug)]
struct RealPod {
    uid: u64,
    version: u64,
    sandbox: Option<(String, IpAddr)>,
    /// What its status says, perhaps of an earlier sandbox.
    status: Option<IpAddr>,
    label: Option<bool>,
    terminating: bool,
}

#[derive(Clone, Debug)]
enum Told {
    ListBegins,
    Pod(Box<Facts>),
    Gone(Box<Facts>),
    ListEnds,
}

#[derive(Default)]
struct World {
    book: Book,
    pods: BTreeMap<usize, RealPod>,
    /// Label and version, of two namespaces.
    namespaces: [(bool, u64); 2],
    heard_namespaces: [u64; 2],
    told: VecDeque<Told>,
    asked: VecDeque<(Sought, Result<Option<Place>, String>)>,
    clock: u64,
    /// Pods that are in, and about which nothing is on its way.
    steady: HashSet<u64>,
}

type Wanted = (String, String, Vec<IpAddr>);

fn name(pod: usize) -> PodName {
    PodName {
        namespace: namespace(pod),
        name: format!("pod-{pod}"),
    }
}

fn namespace(pod: usize) -> String {
    format!("ns-{}", pod % 2)
}

fn uid(number: u64) -> String {
    format!("uid-{number}")
}

impl World {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn facts(&self, pod: usize) -> Facts {
        let real = &self.pods[&pod];
        let mut changes = json!({
            "metadata": { "namespace": namespace(pod), "resourceVersion": real.version.to_string() },
            "status": { "podIP": null, "podIPs": real.status.map(|ip| json!([{ "ip": ip.to_string() }])) },
        });
        if let Some(label) = real.label {
            let label = if label { "ambient" } else { "none" };
            merge(
                &mut changes,
                json!({ "metadata": { "labels": { "culvert.dev/mesh": label } } }),
            );
        }
        if real.terminating {
            merge(
                &mut changes,
                json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } }),
            );
        }
        super::facts(&format!("pod-{pod}"), &uid(real.uid), changes)
    }

    /// Something about the pod has changed on the API server.
    fn change(&mut self, pod: usize, change: impl FnOnce(&mut RealPod)) {
        let version = self.tick();
        let Some(real) = self.pods.get_mut(&pod) else { return };
        change(real);
        real.version = version;
        self.told.push_back(Told::Pod(Box::new(self.facts(pod))));
    }

    fn is_labelled(&self, pod: usize) -> bool {
        self.pods[&pod].label.unwrap_or(self.namespaces[pod % 2].0)
    }

    fn free_address(&self) -> IpAddr {
        let used: BTreeSet<IpAddr> = self
            .pods
            .values()
            .filter_map(|real| Some(real.sandbox.as_ref()?.1))
            .collect();
        let mut all = (1..=u8::MAX).map(|last| IpAddr::V4(Ipv4Addr::new(198, 18, 0, last)));
        all.find(|address| !used.contains(address)).expect("one is free")
    }

    fn start(&mut self, pod: usize, told: bool) {
        let can_start = |real: &RealPod| real.sandbox.is_none() && !real.terminating;
        if !self.pods.get(&pod).is_some_and(can_start) {
            return;
        }
        let address = self.free_address();
        let netns = format!("/run/netns/{}", self.tick());
        let real = self.pods.get_mut(&pod).expect("it is there");
        real.sandbox = Some((netns.clone(), address));
        let number = real.uid;
        self.steady.remove(&number);
        if told {
            self.arrive(pod, number, &netns, address);
        }
        self.change(pod, |real| real.status = Some(address));
    }

    fn arrive(&mut self, pod: usize, number: u64, netns: &str, address: IpAddr) {
        if !(self.book.knows_pod(&name(pod), &uid(number)) && self.book.knows_namespace(&namespace(pod))) {
            self.book.pod(self.facts(pod), Origin::Asked);
            self.hear_namespace(pod);
        }
        let place = Place {
            netns: netns.into(),
            addresses: vec![address],
        };
        let verdict = self
            .book
            .arrive(&name(pod), &uid(number), place)
            .expect("it can be judged");
        if verdict == Verdict::Outside {
            return;
        }
        let snapshot = self.book.snapshot();
        let mut specs = snapshot.wanted.iter();
        let spec = specs
            .find(|spec| *spec.uid == *uid(number))
            .expect("in the next snapshot");
        assert_eq!((spec.netns.as_path(), spec.addresses[0]), (Path::new(netns), address));
        let owners = snapshot.wanted.iter().filter(|spec| spec.addresses.contains(&address));
        assert_eq!(owners.count(), 1, "nobody else has its address any more");
    }

    fn stop(&mut self, pod: usize, told: bool) {
        let Some(real) = self.pods.get_mut(&pod) else { return };
        let Some((netns, _)) = real.sandbox.take() else { return };
        let number = real.uid;
        self.steady.remove(&number);
        if told {
            self.book.leave(&uid(number), Some(Path::new(&netns)), |_| false);
        }
    }

    fn create(&mut self, pod: usize) {
        if self.pods.contains_key(&pod) {
            return;
        }
        let version = self.tick();
        let real = RealPod {
            uid: version,
            version,
            sandbox: None,
            status: None,
            label: None,
            terminating: false,
        };
        self.pods.insert(pod, real);
        self.told.push_back(Told::Pod(Box::new(self.facts(pod))));
    }

    fn delete(&mut self, pod: usize) {
        if self.pods.contains_key(&pod) {
            let facts = self.facts(pod);
            self.stop(pod, true);
            self.pods.remove(&pod);
            self.told.push_back(Told::Gone(Box::new(facts)));
        }
    }

    fn hear_namespace(&mut self, pod: usize) {
        let (label, version) = self.namespaces[pod % 2];
        let label = if label { "ambient" } else { "none" };
        let labels = [("culvert.dev/mesh".to_owned(), label.to_owned())];
        self.book.namespace(&namespace(pod), labels.into(), Some(version));
        self.heard_namespaces[pod % 2] = version;
    }

    fn hear_pod(&mut self) {
        match self.told.pop_front() {
            Some(Told::ListBegins) => self.book.list_begins(),
            Some(Told::ListEnds) => self.book.list_ends(),
            Some(Told::Pod(facts)) => self.book.pod(*facts, Origin::Watch),
            Some(Told::Gone(facts)) => self.book.pod_gone(&facts),
            None => {}
        }
    }

    fn relist(&mut self) {
        self.told.clear();
        self.told.push_back(Told::ListBegins);
        let facts = self.pods.keys().map(|pod| Told::Pod(Box::new(self.facts(*pod))));
        let facts: Vec<Told> = facts.collect();
        self.told.extend(facts);
        self.told.push_back(Told::ListEnds);
    }

    fn ask(&mut self, works: bool) {
        let real: HashMap<String, &RealPod> = self.pods.values().map(|real| (uid(real.uid), real)).collect();
        for sought in self.book.sought() {
            let sandbox = real.get(&*sought.uid).and_then(|real| real.sandbox.clone());
            let place = sandbox.map(|(netns, address)| Place {
                netns: netns.into(),
                addresses: vec![address],
            });
            let answer = if works { Ok(place) } else { Err("no runtime".into()) };
            self.asked.push_back((sought, answer));
        }
    }

    fn answer(&mut self) -> bool {
        let Some((sought, answer)) = self.asked.pop_front() else {
            return false;
        };
        self.book.found(&sought, answer);
        true
    }

    fn look(&mut self) {
        let sandboxes = self.pods.values().filter_map(|real| real.sandbox.clone());
        let alive: HashSet<String> = sandboxes.map(|(netns, _)| netns).collect();
        for (sought, path) in self.book.places() {
            if !alive.contains(&path.display().to_string()) {
                self.book.vanished(&sought);
            }
        }
        self.book.search_again();
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Create(pod) => self.create(pod),
            Op::Start(pod, told) => self.start(pod, told),
            Op::Stop(pod, told) => self.stop(pod, told),
            Op::Terminate(pod) => self.change(pod, |real| real.terminating = true),
            Op::Delete(pod) => self.delete(pod),
            Op::LabelPod(pod, on) => {
                if let Some(real) = self.pods.get(&pod) {
                    self.steady.remove(&real.uid);
                }
                self.change(pod, |real| real.label = Some(on));
            }
            Op::LabelNamespace(pod, on) => {
                self.namespaces[pod % 2] = (on, self.tick());
                self.steady.clear();
            }
            Op::HearPod => self.hear_pod(),
            Op::HearNamespace(pod) => self.hear_namespace(pod),
            Op::Relist => self.relist(),
            Op::Ask(works) => self.ask(works),
            Op::Answer => drop(self.answer()),
            Op::Look => self.look(),
        }
    }

    /// What should be in, when everything is known.
    fn expected(&self) -> Vec<Wanted> {
        let labelled = self.pods.iter().filter(|(pod, _)| self.is_labelled(**pod));
        let placed = labelled.filter_map(|(_, real)| {
            let (netns, address) = real.sandbox.clone()?;
            Some((uid(real.uid), netns, vec![address]))
        });
        let mut expected: Vec<Wanted> = placed.collect();
        expected.sort();
        expected
    }

    fn actual(&self) -> Vec<Wanted> {
        let wanted = self.book.snapshot().wanted.into_iter();
        let shown = wanted.map(|spec| (spec.uid.to_string(), spec.netns.display().to_string(), spec.addresses));
        let mut actual: Vec<Wanted> = shown.collect();
        actual.sort();
        actual
    }

    /// Who is in and about whom nothing new has happened stays in, whatever else is heard.
    fn check_steady(&mut self, op: Op) {
        let actual = self.actual();
        let is_in = |number: &u64| actual.iter().any(|(other, ..)| *other == uid(*number));
        for number in &self.steady {
            assert!(
                is_in(number),
                "{} was thrown out by {op:?}: {:?}",
                uid(*number),
                self.book
            );
        }
        let is_quiet =
            self.told.is_empty() && (0..2).all(|index| self.heard_namespaces[index] == self.namespaces[index].1);
        if is_quiet && actual == self.expected() {
            self.steady = self.pods.values().map(|real| real.uid).filter(is_in).collect();
        }
    }

    fn settle(&mut self) {
        while !self.told.is_empty() {
            self.hear_pod();
        }
        (0..2).for_each(|namespace| self.hear_namespace(namespace));
        // Somebody asks after those that the watch has never named.
        for unconfirmed in self.book.unconfirmed() {
            if !self.pods.keys().any(|pod| name(*pod) == unconfirmed) {
                self.book.pod_unconfirmed(&unconfirmed);
            }
        }
        for _ in 0..3 {
            self.look();
            self.ask(true);
            while self.answer() {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_order_of_news_nobody_is_thrown_out_and_in_the_end_all_is_as_it_should_be(
        ops in prop::collection::vec(op(), 1..120)
    ) {
        let mut world = World::default();
        world.apply(Op::Relist);
        for op in ops {
            world.apply(op);
            world.check_steady(op);
        }
        world.settle();
        prop_assert_eq!(world.actual(), world.expected());
        prop_assert!(world.book.snapshot().complete);
        let here: BTreeSet<String> = world.pods.keys().map(|pod| namespace(*pod)).collect();
        prop_assert_eq!(world.book.namespaces(), here);
    }
}
