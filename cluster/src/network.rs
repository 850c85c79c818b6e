//! The network between the nodes: a bridge in the control plane's network namespace, and a link from it to each node.

use crate::{Error, addresses, error::Doing, process, wait};
use rustix::mount::{UnmountFlags, unmount};
use std::{
    fmt::Write as _,
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

/// The bridge, in the control plane's namespace.
pub(crate) const BRIDGE: &str = "nodes";

/// Where `ip netns` keeps the names.
const NAMES: &str = "/run/netns";

pub(crate) fn path(netns: &str) -> PathBuf {
    Path::new(NAMES).join(netns)
}

/// Makes the namespaces, the bridge, the links and the routes.
pub(crate) fn create(control_plane: &str, nodes: &[String], dual_stack: bool) -> Result<(), Error> {
    for netns in std::iter::once(control_plane).chain(nodes.iter().map(String::as_str)) {
        process::output(Command::new("ip").args(["netns", "add", netns]))?;
    }
    let count = u8::try_from(nodes.len()).unwrap_or(u8::MAX);
    batch(control_plane, &bridge(nodes, dual_stack))?;
    for number in 1..=count {
        batch(&nodes[usize::from(number) - 1], &node(number, count, dual_stack))?;
    }
    let netns = culvert_net::Netns::open(&path(control_plane))?;
    netns.run(|| forward(dual_stack))?
}

/// Lets the calling thread's network namespace pass packets on.
pub(crate) fn forward(dual_stack: bool) -> Result<(), Error> {
    let mut settings = vec!["/proc/sys/net/ipv4/ip_forward"];
    if dual_stack {
        settings.push("/proc/sys/net/ipv6/conf/all/forwarding");
    }
    for file in settings {
        fs::write(file, "1").doing(|| format!("write {file}"))?;
    }
    Ok(())
}

fn bridge(nodes: &[String], dual_stack: bool) -> String {
    let mut lines = format!("link set lo up\nlink add {BRIDGE} type bridge\n");
    let _ = writeln!(lines, "addr add {}/24 dev {BRIDGE}", addresses::CONTROL_PLANE);
    if dual_stack {
        let _ = writeln!(lines, "addr add {}/64 dev {BRIDGE} nodad", addresses::CONTROL_PLANE_V6);
    }
    let _ = writeln!(lines, "link set {BRIDGE} up");
    for (number, netns) in (1..).zip(nodes) {
        let _ = writeln!(
            lines,
            "link add node{number} type veth peer name {UPLINK} netns {netns}"
        );
        let _ = writeln!(lines, "link set node{number} master {BRIDGE} up");
        let _ = writeln!(
            lines,
            "route add {} via {}",
            addresses::pods(number),
            addresses::node(number)
        );
        if dual_stack {
            let _ = writeln!(
                lines,
                "route add {} via {}",
                addresses::pods_v6(number),
                addresses::node_v6(number)
            );
        }
    }
    lines
}

fn node(number: u8, count: u8, dual_stack: bool) -> String {
    let mut lines = "link set lo up\n".to_owned();
    let _ = writeln!(lines, "addr add {}/24 dev {UPLINK}", addresses::node(number));
    if dual_stack {
        let _ = writeln!(lines, "addr add {}/64 dev {UPLINK} nodad", addresses::node_v6(number));
    }
    let _ = writeln!(
        lines,
        "link set {UPLINK} up\nroute add default via {}",
        addresses::CONTROL_PLANE
    );
    if dual_stack {
        let _ = writeln!(lines, "route add default via {}", addresses::CONTROL_PLANE_V6);
    }
    for other in (1..=count).filter(|other| *other != number) {
        let _ = writeln!(
            lines,
            "route add {} via {}",
            addresses::pods(other),
            addresses::node(other)
        );
        if dual_stack {
            let _ = writeln!(
                lines,
                "route add {} via {}",
                addresses::pods_v6(other),
                addresses::node_v6(other)
            );
        }
    }
    lines
}

/// The link of a node to all others, in its own namespace.
const UPLINK: &str = "eth0";

/// Takes from a node's namespace what a machine does not have after a power cut: its pods' links, with the addresses and routes of
/// these, and all rules of netfilter.
///
/// A pod's namespace outlives its processes for as long as a socket of theirs has something to send, and the kernel takes namespaces
/// down in its own time. While the link of one is there, so is the route over it, and whoever has the address next is not reached: the
/// plug-in `ptp` takes a route that is there for its own. What answers is the old namespace, where nobody listens.
pub(crate) fn cut(node: &Path) -> Result<(), Error> {
    let netns = node.file_name().unwrap_or_default();
    let ip = |arguments: &[&str]| process::output(Command::new("ip").arg("-n").arg(netns).args(arguments));
    wait::wait_for("end of the links to a node's pods", Duration::from_secs(20), || {
        let links = pod_links(&ip(&["-o", "link", "show", "type", "veth"])?);
        for link in &links {
            // It may have gone by itself meanwhile.
            let _ = ip(&["link", "delete", link]);
        }
        Ok(links.is_empty().then_some(()))
    })?;
    let mut nft = Command::new("ip");
    nft.args(["netns", "exec"]).arg(netns).args(["nft", "flush", "ruleset"]);
    process::output(&mut nft).map(drop)
}

/// The links to pods in what `ip -o link` prints: a line for each, such as `7: veth1f@if2: <BROADCAST,...`.
fn pod_links(text: &str) -> Vec<String> {
    let name = |line: &str| Some(line.split_whitespace().nth(1)?.split(['@', ':']).next()?.to_owned());
    text.lines().filter_map(name).filter(|name| name != UPLINK).collect()
}

/// Runs `ip` commands in a namespace, all or an error.
fn batch(netns: &str, lines: &str) -> Result<(), Error> {
    let mut ip = Command::new("ip");
    ip.args(["-n", netns, "-batch", "-"]);
    let mut child = ip
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .doing(|| "start ip".into())?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(lines.as_bytes()).doing(|| "write to ip".into())?;
    }
    let output = child.wait_with_output().doing(|| "wait for ip".into())?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Program {
        program: format!("ip -n {netns} -batch"),
        message: format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()),
    })
}

/// Names of namespaces that begin with `prefix`.
pub(crate) fn with_prefix(prefix: &str) -> Vec<String> {
    let entries = fs::read_dir(NAMES).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with(prefix))
        .collect()
}

/// Removes a namespace's name; the namespace itself, with its links, goes with its last process.
pub(crate) fn remove(netns: &str) -> Result<(), Error> {
    let path = path(netns);
    // A name that was made half way is not a mount yet.
    let _ = unmount(&path, UnmountFlags::DETACH);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).doing(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_links_to_pods_are_told_from_its_link_to_other_nodes() {
        let text = "2: eth0@if9: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP\n\
                    7: veth1f2@if2: <BROADCAST> mtu 1500 \\    link/ether 52:aa brd ff:ff link-netnsid 4\n\
                    8: vethb: <BROADCAST> mtu 1500\n";
        assert_eq!(pod_links(text), ["veth1f2", "vethb"]);
        assert!(pod_links("").is_empty());
    }
    /// A network namespace of the test's own, which goes with the value.
    struct Named(String);

    impl Named {
        fn new(name: &str) -> Self {
            let name = format!("cv-cut-{name}-{}", std::process::id());
            process::output(Command::new("ip").args(["netns", "add", &name])).unwrap();
            Self(name)
        }

        fn ip(&self, arguments: &[&str]) -> String {
            process::output(Command::new("ip").args(["-n", &self.0]).args(arguments)).unwrap()
        }
    }

    impl Drop for Named {
        fn drop(&mut self) {
            let _ = remove(&self.0);
        }
    }

    #[test]
    fn a_power_cut_takes_links_to_pods_though_their_namespaces_stay_and_leaves_the_link_to_other_nodes() {
        let (node, pod, others) = (Named::new("node"), Named::new("pod"), Named::new("others"));
        let lines = format!(
            "link add {UPLINK} type veth peer name node netns {}\nlink add veth7 type veth peer name {UPLINK} netns {}\n\
             link set veth7 up\nroute add 198.18.7.7/32 dev veth7\n",
            others.0, pod.0
        );
        batch(&node.0, &lines).unwrap();
        assert!(node.ip(&["route"]).contains("198.18.7.7"));
        cut(&path(&node.0)).unwrap();
        assert_eq!(
            node.ip(&["route"]),
            "",
            "whoever has the address next gets a route of its own"
        );
        let links = node.ip(&["-o", "link"]);
        assert!(links.contains(UPLINK) && !links.contains("veth7"), "{links}");
        assert!(!pod.ip(&["-o", "link"]).contains(UPLINK), "the other end is gone, too");
        cut(&path(&node.0)).unwrap();
    }
}
