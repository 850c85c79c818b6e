//! The packet rules of Istio's init container, in the shape in which it writes them with all ports captured and nothing excluded: what
//! leaves the pod goes to port 15001, what comes to it goes to 15006, and what the proxy itself sends (user and group 1337) goes its way.

use anyhow::{Context, Result, ensure};
use culvert_lab::Pod;
use std::{fs, path::Path, process::Command};

/// Captures what the pod's application sends.
pub(super) const OUTBOUND: u16 = 15001;
/// Captures what is sent to the pod.
pub(super) const INBOUND: u16 = 15006;
/// The user and the group of the proxy.
pub(super) const PROXY: u32 = 1337;

/// Writes the rules in the pod.
///
/// # Errors
/// When there is no iptables, or it refuses a rule.
pub(super) fn write(pod: &Pod, folder: &Path) -> Result<()> {
    let file = folder.join("rules");
    fs::write(&file, text()).with_context(|| format!("write {}", file.display()))?;
    let restored = pod.output(Command::new("iptables-restore").args(["--wait", "5"]).arg(&file));
    let output = restored.context("sidecars need iptables (Debian's package iptables)")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "iptables-restore: {}", said.trim());
    // Connections that are over would be kept for two minutes, and fill the table under the load of new connections.
    pod.netns()
        .sysctl("net/netfilter/nf_conntrack_tcp_timeout_time_wait", "5")
}

/// As iptables-restore takes it.
fn text() -> String {
    let owner = |rest: &str| {
        // The proxy that calls its own pod by its address comes in as if from outside; whoever else uses loopback is left alone.
        format!(
            "-A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp -m tcp ! --dport 15008 -m owner --{rest} -j ISTIO_IN_REDIRECT\n\
             -A ISTIO_OUTPUT -o lo -m owner ! --{rest} -j RETURN\n\
             -A ISTIO_OUTPUT -m owner --{rest} -j RETURN\n"
        )
    };
    let (by_user, by_group) = (
        owner(&format!("uid-owner {PROXY}")),
        owner(&format!("gid-owner {PROXY}")),
    );
    format!(
        "*nat\n\
         :PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n\
         :ISTIO_INBOUND - [0:0]\n:ISTIO_IN_REDIRECT - [0:0]\n:ISTIO_OUTPUT - [0:0]\n:ISTIO_REDIRECT - [0:0]\n\
         -A PREROUTING -p tcp -j ISTIO_INBOUND\n\
         -A OUTPUT -p tcp -j ISTIO_OUTPUT\n\
         -A ISTIO_INBOUND -p tcp -m tcp --dport 15008 -j RETURN\n\
         -A ISTIO_INBOUND -p tcp -m tcp --dport 15090 -j RETURN\n\
         -A ISTIO_INBOUND -p tcp -m tcp --dport 15021 -j RETURN\n\
         -A ISTIO_INBOUND -p tcp -m tcp --dport 15020 -j RETURN\n\
         -A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT\n\
         -A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports {INBOUND}\n\
         -A ISTIO_OUTPUT -s 127.0.0.6/32 -o lo -j RETURN\n\
         {by_user}{by_group}\
         -A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN\n\
         -A ISTIO_OUTPUT -j ISTIO_REDIRECT\n\
         -A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports {OUTBOUND}\n\
         COMMIT\n"
    )
}
