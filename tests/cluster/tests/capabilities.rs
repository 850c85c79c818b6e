//! Every capability that a container has is needed: without it, the container says which one is missing and does not start,
//! and the pods that were there before serve on, since an update goes no further than its first pod that fails.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use culvert_cluster_tests::{Meshed, World, until};
use culvert_deploy::privileges::{Capability, privileges};
use serde_json::{Value, json};

/// Without these the agent starts, and pods that ask for what they serve are told what is missing.
const OPTIONAL: [&str; 1] = ["NET_RAW"];

const SYSTEM: [&str; 2] = ["-n", "culvert-system"];

#[test]
fn each_capability_is_missed_when_it_is_taken_away() {
    let world = World::installed();
    let granted = privileges().unwrap().capabilities;
    assert!(granted.len() > 5, "{granted:?}");
    let meshed = Meshed::start(&world, "capabilities");
    let template = Template::of(&world);
    let kernel = kernel();
    let (spare, needed): (Vec<_>, Vec<_>) = granted
        .iter()
        .partition(|one| one.before_kernel.is_some_and(|version| kernel >= version));
    // The proxy's come first, from the end: beside an agent that does not start there is a proxy that does, and its successor must not
    // be long in coming when it is told to stop.
    for one in needed
        .into_iter()
        .rev()
        .filter(|one| !OPTIONAL.contains(&one.name.as_str()))
    {
        template.put(&without(&granted, one));
        until(&format!("{} to miss {}", one.container, one.name), || {
            says_what_is_missing(&world, one)
        });
    }
    // What only older kernels ask for is not missed on this one: all of Culvert works without it.
    if !spare.is_empty() {
        eprintln!("only older kernels than {kernel:?} ask for: {spare:?}");
        let left: Vec<Capability> = granted.iter().filter(|one| !spare.contains(one)).cloned().collect();
        template.put(&left);
        world.wait_ready();
        meshed.newcomer("sparing1", "node1");
        meshed.newcomer("sparing2", "node2");
    }
    drop(template);
    world.wait_ready();
    meshed.newcomer("after1", "node1");
    meshed.newcomer("after2", "node2");
    meshed.settle();
    meshed.finish("proxies and agents that lack a capability");
}

/// The DaemonSet's capabilities; those that it had are put back with this value's end.
struct Template<'a> {
    world: &'a World,
    containers: Vec<Value>,
}

impl<'a> Template<'a> {
    fn of(world: &'a World) -> Self {
        let daemon_set = world.get(&[&SYSTEM[..], &["daemonset", "culvert-node"]].concat());
        let containers = daemon_set["spec"]["template"]["spec"]["containers"].as_array();
        let own = |container: &Value| {
            let add = &container["securityContext"]["capabilities"]["add"];
            json!({ "name": container["name"], "securityContext": { "capabilities": { "add": add } } })
        };
        let containers = containers.unwrap().iter().map(own).collect();
        Self { world, containers }
    }

    /// Gives each container what the list has for it, and nothing else.
    fn put(&self, list: &[Capability]) {
        eprintln!("with {:?}", list.iter().map(|one| &one.name).collect::<Vec<_>>());
        let containers = self.containers.iter().map(|container| {
            let own = list.iter().filter(|one| container["name"] == one.container);
            let add: Vec<&str> = own.map(|one| one.name.as_str()).collect();
            json!({ "name": container["name"], "securityContext": { "capabilities": { "add": add } } })
        });
        self.patch(json!({ "spec": { "containers": containers.collect::<Vec<_>>() } }));
    }

    fn patch(&self, template: Value) {
        let patch = json!({ "spec": { "template": template } }).to_string();
        let arguments = ["patch", "daemonset", "culvert-node", "--type=strategic", "-p", &patch];
        self.world.kubectl(&[&SYSTEM[..], &arguments].concat());
    }
}

impl Drop for Template<'_> {
    fn drop(&mut self) {
        // As another version, so that each node has a new proxy, to which one that is beside a failed agent can leave the pods.
        let annotations = json!({ "culvert.dev/restarted": culvert_cluster_tests::now_ms().to_string() });
        self.patch(json!({ "metadata": { "annotations": annotations }, "spec": { "containers": self.containers } }));
    }
}

fn without(granted: &[Capability], one: &Capability) -> Vec<Capability> {
    granted.iter().filter(|other| *other != one).cloned().collect()
}

/// Whether a pod whose container lacks just this capability is there, is not ready, has ended, and has said why.
fn says_what_is_missing(world: &World, lacking: &Capability) -> bool {
    let label = "--selector=app.kubernetes.io/name=culvert-node";
    let pods = world.get(&[&SYSTEM[..], &["pods", label]].concat());
    let pods = pods["items"].as_array().unwrap();
    pods.iter().any(|pod| {
        let containers = pod["spec"]["containers"].as_array().unwrap();
        let container = containers.iter().find(|one| one["name"] == lacking.container).unwrap();
        let held = container["securityContext"]["capabilities"]["add"].as_array().unwrap();
        let statuses = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
        let status = statuses.into_iter().find(|one| one["name"] == lacking.container);
        let has_failed = status.is_some_and(|status| {
            let ends = ["state", "lastState"].map(|state| &status[state]["terminated"]["exitCode"]);
            status["ready"] == false && ends.iter().any(|code| **code == 1)
        });
        if held.iter().any(|name| *name == lacking.name) || !has_failed {
            return false;
        }
        let name = pod["metadata"]["name"].as_str().unwrap();
        // Of the container that runs now, and of the one before it: one of them is only just starting.
        [&["logs"][..], &["logs", "--previous"]].iter().any(|logs| {
            let arguments = [&SYSTEM[..], logs, &[name, "-c", &lacking.container]].concat();
            let said = world.client().run(&arguments).unwrap_or_default();
            said.contains(&format!("lacks CAP_{}", lacking.name))
        })
    })
}

/// Major and minor of the kernel that runs.
fn kernel() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut parts = release
        .split(|c: char| !c.is_ascii_digit())
        .map_while(|part| part.parse().ok());
    (parts.next().unwrap(), parts.next().unwrap())
}
