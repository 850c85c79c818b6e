//! The network between the nodes: a bridge in the control plane's network namespace, and a link from it to each node.

use crate::{Error, addresses, error::Doing, process};
use rustix::mount::{UnmountFlags, unmount};
use std::{
    fmt::Write as _,
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
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
        let _ = writeln!(lines, "link add node{number} type veth peer name eth0 netns {netns}");
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
    let _ = writeln!(lines, "addr add {}/24 dev eth0", addresses::node(number));
    if dual_stack {
        let _ = writeln!(lines, "addr add {}/64 dev eth0 nodad", addresses::node_v6(number));
    }
    let _ = writeln!(
        lines,
        "link set eth0 up\nroute add default via {}",
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
