//! What the mesh takes: memory, packet rules, and the size of its images.

use super::{
    bench::{Bench, missing},
    judge,
    table::{IMAGES, MEMORY, Outcome, RULES},
};
use culvert_cluster::Node;
use culvert_cluster_tests::{PodSpec, Rules};
use std::{fs, str::FromStr};

/// Pods in the mesh, on one node.
const PODS: usize = 20;

/// The size of an image, as the command line says it: `agent=12345`.
#[derive(Debug, Clone)]
pub(super) struct Unpacked {
    name: String,
    bytes: u64,
}

impl FromStr for Unpacked {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, bytes) = text.split_once('=').ok_or("NAME=BYTES is wanted")?;
        let bytes = bytes.parse().map_err(|_| format!("{bytes:?} is no number"))?;
        Ok(Self {
            name: name.to_owned(),
            bytes,
        })
    }
}

pub(super) fn measure(bench: &mut Bench, before: &Rules, unpacked: &[Unpacked]) {
    bench.lines([&RULES, &MEMORY], |bench| rules_and_memory(bench, before));
    bench.lines([&IMAGES], |bench| [images(bench, unpacked)]);
}

fn rules_and_memory(bench: &Bench, before: &Rules) -> [Outcome; 2] {
    let space = bench.world.space("footprint");
    space.enrol();
    space.start(&[PodSpec::server("server").on("node2")]);
    let names: Vec<_> = (0..PODS).map(|number| format!("pod-{number}")).collect();
    let pods: Vec<_> = names.iter().map(|name| PodSpec::server(name).on("node1")).collect();
    space.start(&pods);
    space.wait_captured(&names.iter().map(String::as_str).collect::<Vec<_>>());
    // Each has been asked by its kubelet; now each proxy has also carried something.
    let to = space.address("server");
    space.kubectl(&["exec", "pod-0", "--", "/probe", "ask", "--times", "20", "--to", &to]);

    // Without Culvert, a pod has no netfilter rule and the three entries of `ip rule` that every namespace has.
    const USUAL: usize = 3;
    let in_pods = Rules::of_pods(bench.world.node("node1"), "probe");
    let most = |count: &dyn Fn(&(u64, usize)) -> i64| in_pods.iter().map(count).max().unwrap_or(-1);
    let pods = [
        most(&|(netfilter, _)| i64::try_from(*netfilter).unwrap_or(i64::MAX)),
        most(&|(_, routing)| i64::try_from(*routing).unwrap_or(i64::MAX) - USUAL as i64),
    ];
    let now = Rules::of_nodes(&bench.world);
    let nodes = [added(&before.tables, &now.tables), added(&before.routing, &now.routing)];
    [judge::rules(pods, nodes), memory(bench).comparable(bench)]
}

fn added(before: &std::collections::BTreeMap<String, usize>, now: &std::collections::BTreeMap<String, usize>) -> i64 {
    let sum = |map: &std::collections::BTreeMap<String, usize>| map.values().sum::<usize>() as i64;
    sum(now) - sum(before)
}

fn memory(bench: &Bench) -> Outcome {
    let node = bench.world.node("node1");
    let proxy = resident(node, "culvert-ztunnel").iter().sum();
    let agent = resident(node, "culvert-agent").iter().sum();
    let controllers = bench.world.cluster().nodes().iter();
    let controller = controllers
        .flat_map(|node| resident(node, "culvert-controller"))
        .fold(0.0, f64::max);
    if [proxy, agent, controller].contains(&0.0) {
        return missing("a part of Culvert does not run");
    }
    let sizes = [
        ("proxy", proxy, 12.0),
        ("agent", agent, 20.0),
        ("controller", controller, 40.0),
    ];
    judge::megabytes(sizes, 0)
}

/// Resident memory of the processes of a program on a node, MB. Text that they share counts for each.
fn resident(node: &Node, program: &str) -> Vec<f64> {
    let processes = node.pids_of(program).unwrap_or_default();
    let of = |pid: i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kilobytes: f64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
        Some(kilobytes * 1024.0 / 1e6)
    };
    processes.iter().filter_map(|process| of(process.pid())).collect()
}

fn images(bench: &Bench, unpacked: &[Unpacked]) -> Outcome {
    let size = |name: &str| {
        let found = unpacked.iter().find(|image| image.name == name);
        found.map(|image| image.bytes as f64 / 1e6)
    };
    let (Some(controller), Some(agent), Some(proxy)) = (size("controller"), size("agent"), size("ztunnel")) else {
        return missing("sizes were not given");
    };
    let sizes = [
        ("controller", controller, 30.0),
        ("agent", agent, 30.0),
        ("proxy", proxy, 20.0),
    ];
    judge::megabytes(sizes, 0).comparable(bench)
}

#[cfg(test)]
mod tests {
    use super::Unpacked;

    #[test]
    fn a_size_is_a_name_and_a_number() {
        let size: Unpacked = "agent=12".parse().unwrap();
        assert_eq!((size.name.as_str(), size.bytes), ("agent", 12));
        assert!("agent".parse::<Unpacked>().is_err());
        assert!("agent=big".parse::<Unpacked>().is_err());
    }
}
