//! Whether the machine on which this runs can be a node: what the API server cannot see of it.

use crate::line::Line;
use std::{fs, path::Path};

/// What the agent's kernel programs hang on, by a function that a kernel has for it; in `/proc/kallsyms` even where addresses
/// are hidden.
const KINDS: [(&str, &str); 5] = [
    (
        "__cgroup_bpf_run_filter_sock_addr",
        "connect hooks on cgroups (CONFIG_CGROUP_BPF)",
    ),
    (
        "__cgroup_bpf_run_filter_getsockopt",
        "socket option hooks on cgroups (CONFIG_CGROUP_BPF)",
    ),
    (
        "__cgroup_bpf_run_filter_sock_ops",
        "socket events (CONFIG_CGROUP_BPF, CONFIG_INET)",
    ),
    (
        "sk_lookup_is_valid_access",
        "socket lookup (CONFIG_BPF_SYSCALL, CONFIG_INET)",
    ),
    (
        "netns_bpf_link_create",
        "links on network namespaces (CONFIG_BPF_SYSCALL)",
    ),
];

/// What was found on the machine. `None`: it could not be read.
#[derive(Debug, Default)]
pub(super) struct Facts {
    release: String,
    is_root: bool,
    mountinfo: Option<String>,
    has_btf: bool,
    /// Of [`KINDS`], those that are missing.
    missing_kinds: Option<Vec<&'static str>>,
    lockdown: Option<String>,
    selinux_enforces: bool,
    has_runtime_socket: bool,
    has_cni_bin: bool,
    /// Names of files in `/etc/cni/net.d`.
    cni_files: Option<Vec<String>>,
}

impl Facts {
    /// Looks. Changes nothing.
    pub(super) fn of_this_machine() -> Self {
        let read = |path: &str| fs::read_to_string(path).ok();
        let symbols = read("/proc/kallsyms").filter(|text| !text.is_empty());
        let missing = symbols.map(|text| {
            let is_missing = |name: &str| !text.lines().any(|line| line.split(' ').next_back() == Some(name));
            KINDS
                .into_iter()
                .filter(|(name, _)| is_missing(name))
                .map(|(_, words)| words)
                .collect()
        });
        let files = fs::read_dir("/etc/cni/net.d").map(|entries| {
            let names = entries
                .flatten()
                .map(|entry| entry.file_name().to_string_lossy().into_owned());
            names.collect()
        });
        Self {
            release: read("/proc/sys/kernel/osrelease")
                .map_or_else(|| "unknown".to_owned(), |text| text.trim().to_owned()),
            is_root: rustix::process::geteuid().is_root(),
            mountinfo: read("/proc/self/mountinfo"),
            has_btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
            missing_kinds: missing,
            lockdown: read("/sys/kernel/security/lockdown"),
            selinux_enforces: read("/sys/fs/selinux/enforce").is_some_and(|text| text.trim() == "1"),
            has_runtime_socket: Path::new("/run/containerd/containerd.sock").exists(),
            has_cni_bin: Path::new("/opt/cni/bin").is_dir(),
            cni_files: files.ok(),
        }
    }
}

/// A line for each fact.
pub(super) fn judged(facts: &Facts) -> Vec<Line> {
    let here = "this machine";
    let mut lines = vec![Line::ok(here, "kernel", facts.release.clone())];
    if !facts.is_root {
        let found = "not root: some facts may be hidden";
        lines.push(Line::warn(here, "rights", found, "run it as root on the node"));
    }
    lines.push(cgroup2(here, facts));
    lines.push(match mount(facts, "bpf", "/sys/fs/bpf") {
        Some(place) => Line::ok(here, "bpffs", place),
        None => Line::fail(
            here,
            "bpffs",
            "not mounted at /sys/fs/bpf",
            "mount -t bpf bpf /sys/fs/bpf, at every start of the node",
        ),
    });
    lines.push(match facts.has_btf {
        true => Line::ok(here, "BTF", "/sys/kernel/btf/vmlinux"),
        false => Line::fail(
            here,
            "BTF",
            "the kernel does not describe its types",
            "use a kernel with CONFIG_DEBUG_INFO_BTF=y",
        ),
    });
    lines.push(program_kinds(here, facts));
    if let Some(mode) = facts
        .lockdown
        .as_deref()
        .filter(|text| text.contains("[confidentiality]"))
    {
        let remedy = "start the kernel with lockdown=integrity or none: programs may not read kernel memory otherwise";
        lines.push(Line::fail(here, "lockdown", mode.trim(), remedy));
    }
    if facts.selinux_enforces {
        let remedy = "install with --selinux";
        lines.push(Line::warn(here, "SELinux", "enforces", remedy));
    }
    lines.push(match facts.has_runtime_socket {
        true => Line::ok(here, "container runtime", "/run/containerd/containerd.sock"),
        false => Line::warn(
            here,
            "container runtime",
            "no socket at /run/containerd/containerd.sock",
            "nothing has to be done: pods are then found through /proc",
        ),
    });
    lines.extend(cni(here, facts));
    lines
}

fn cgroup2(here: &str, facts: &Facts) -> Line {
    match mount(facts, "cgroup2", "") {
        Some(place) => Line::ok(here, "cgroup2", place),
        None => Line::fail(
            here,
            "cgroup2",
            "not mounted",
            "start the node with the unified or the hybrid hierarchy (systemd.unified_cgroup_hierarchy=1)",
        ),
    }
}

/// Where a file system of this kind is mounted; at `at`, unless that is empty.
fn mount(facts: &Facts, kind: &str, at: &str) -> Option<String> {
    let all = facts.mountinfo.as_deref()?.lines();
    let mut found = all.filter_map(|line| {
        // proc(5): mount point is the fifth field, the type follows the separator ` - `.
        let (before, after) = line.split_once(" - ")?;
        let place = before.split(' ').nth(4)?;
        (after.split(' ').next() == Some(kind)).then(|| place.to_owned())
    });
    found.find(|place| at.is_empty() || place == at)
}

fn program_kinds(here: &str, facts: &Facts) -> Line {
    match &facts.missing_kinds {
        Some(missing) if missing.is_empty() => {
            Line::ok(here, "kernel programs", "the kernel has all that they hang on")
        }
        Some(missing) => Line::fail(
            here,
            "kernel programs",
            format!("the kernel lacks {}", missing.join(", ")),
            "use a kernel of 5.15 or later with these options",
        ),
        None => Line::warn(
            here,
            "kernel programs",
            "/proc/kallsyms cannot be read, so it is not known which kinds there are",
            "run it as root; else the agent's log tells what fails to load",
        ),
    }
}

fn cni(here: &str, facts: &Facts) -> Vec<Line> {
    let folder = match facts.has_cni_bin {
        true => Line::ok(here, "CNI plug-ins", "/opt/cni/bin"),
        false => Line::warn(
            here,
            "CNI plug-ins",
            "there is no /opt/cni/bin",
            "see where the node's runtime looks for them",
        ),
    };
    let lists: Vec<&str> = facts
        .cni_files
        .iter()
        .flatten()
        .map(String::as_str)
        .filter(|name| name.ends_with(".conflist"))
        .collect();
    let single = facts.cni_files.iter().flatten().any(|name| name.ends_with(".conf"));
    let configuration = match (lists.first(), single) {
        (Some(first), _) => Line::ok(here, "CNI configuration", format!("/etc/cni/net.d/{first}")),
        (None, true) => Line::warn(
            here,
            "CNI configuration",
            "one plug-in (.conf), not a list",
            "the agent makes a list of it; nothing has to be done",
        ),
        (None, false) => Line::warn(
            here,
            "CNI configuration",
            "none in /etc/cni/net.d",
            "install the cluster's network first, or see where the node's runtime looks for it",
        ),
    };
    vec![folder, configuration]
}

#[cfg(test)]
mod tests {
    use super::{Facts, judged};
    use crate::line::Level;

    fn good() -> Facts {
        Facts {
            release: "6.18.0".to_owned(),
            is_root: true,
            mountinfo: Some(
                "1 0 0:1 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n2 0 0:2 / /sys/fs/bpf rw - bpf bpf rw\n"
                    .to_owned(),
            ),
            has_btf: true,
            missing_kinds: Some(Vec::new()),
            has_runtime_socket: true,
            has_cni_bin: true,
            cni_files: Some(vec!["10-net.conflist".to_owned()]),
            ..Facts::default()
        }
    }

    fn worst(facts: &Facts) -> Level {
        judged(facts).iter().map(|line| line.level).max().unwrap()
    }

    #[test]
    fn a_machine_with_everything_is_good_wherever_cgroup2_is() {
        assert_eq!(worst(&good()), Level::Ok, "{:#?}", judged(&good()));
    }

    #[test]
    fn what_the_agent_cannot_do_without_fails() {
        let mountinfo = Some(String::new());
        let missing_kinds = Some(vec!["socket lookup"]);
        let lockdown = Some("none integrity [confidentiality]".to_owned());
        for facts in [
            Facts { mountinfo, ..good() },
            Facts {
                has_btf: false,
                ..good()
            },
            Facts {
                missing_kinds,
                ..good()
            },
            Facts { lockdown, ..good() },
        ] {
            assert_eq!(worst(&facts), Level::Fail);
        }
    }

    #[test]
    fn what_it_can_do_without_warns() {
        let cni_files = Some(vec!["10-net.conf".to_owned()]);
        for facts in [
            Facts { cni_files, ..good() },
            Facts {
                has_runtime_socket: false,
                ..good()
            },
            Facts {
                selinux_enforces: true,
                ..good()
            },
        ] {
            assert_eq!(worst(&facts), Level::Warn);
        }
    }

    #[test]
    fn this_machine_can_be_looked_at() {
        assert!(judged(&Facts::of_this_machine()).len() > 5);
    }
}
