//! Evidence from the kernel: netfilter rules, policy routing, and what the proxies' workers may do.

use anyhow::{Context, Result};
use culvert_lab::{Lab, netfilter};
use std::fs;

/// Rules of iptables, ip6tables and nftables in all namespaces of the lab.
pub(super) fn netfilter_rules(lab: &Lab) -> Result<u64> {
    Ok(lab.namespaces_do(netfilter::rules)?.into_iter().sum())
}

/// Entries of `ip rule` in all namespaces of the lab, beyond the kernel's own.
pub(super) fn policy_routing_rules(lab: &Lab) -> Result<u64> {
    let mut rules = 0;
    for namespace in lab.namespaces_do(|namespace| Ok(namespace.name().to_owned()))? {
        for family in ["-4", "-6"] {
            let mut ip = crate::shell::command("ip");
            let text = crate::shell::output(ip.args(["-n", &namespace, family, "rule", "show"]))?;
            // The kernel makes rules 0 (local), 32766 (main) and, for IPv4, 32767 (default).
            let own = |line: &&str| !["0:", "32766:", "32767:"].iter().any(|number| line.starts_with(number));
            rules += text.lines().filter(own).count() as u64;
        }
    }
    Ok(rules)
}

/// What a process that handles traffic may do.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Privilege {
    /// Capabilities in any of the five sets of any thread.
    pub(super) capabilities: u32,
    /// The same without the bounding set, which only limits what running another program may give.
    pub(super) held: u32,
    /// Whether every thread has `no_new_privs`.
    pub(super) no_new_privs: bool,
    /// Whether every thread has a seccomp filter.
    pub(super) seccomp: bool,
    /// The user.
    pub(super) user: u32,
}

/// Reads a process's privilege from /proc, all threads together.
pub(super) fn privilege(pid: u32) -> Result<Privilege> {
    let folder = format!("/proc/{pid}/task");
    let mut all = Privilege {
        capabilities: 0,
        held: 0,
        no_new_privs: true,
        seccomp: true,
        user: 0,
    };
    let (mut capabilities, mut held) = (0_u64, 0_u64);
    for thread in fs::read_dir(&folder).with_context(|| folder.clone())? {
        let path = thread?.path().join("status");
        let status = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let field = |name: &str| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map(str::trim)
                .with_context(|| format!("{} has no {name}", path.display()))
        };
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            let these = u64::from_str_radix(field(set)?, 16).with_context(|| set.to_owned())?;
            capabilities |= these;
            if set != "CapBnd" {
                held |= these;
            }
        }
        all.no_new_privs &= field("NoNewPrivs")? == "1";
        all.seccomp &= field("Seccomp")? == "2";
        all.user = field("Uid")?
            .split_whitespace()
            .next()
            .and_then(|uid| uid.parse().ok())
            .context("Uid")?;
    }
    all.capabilities = capabilities.count_ones();
    all.held = held.count_ones();
    Ok(all)
}

#[cfg(test)]
mod tests {
    #[test]
    fn reads_its_own_privilege() {
        let own = super::privilege(std::process::id()).unwrap();
        assert_eq!(own.user == 0, crate::setup::is_root());
    }
}
