//! Counting netfilter rules, old and new, as evidence that there are none.
//!
//! The kernel is asked itself, so nothing depends on which tools are installed: nf_tables over netlink, iptables and
//! ip6tables through their socket options. A kernel without either has no rules of that kind.

use crate::netns::Namespace;
use anyhow::{Context, Result, bail};
use socket2::{Domain, Socket, Type};
use std::{fs, io, os::fd::AsRawFd};

/// How many rules of iptables, ip6tables and nftables a namespace has.
pub fn rules(namespace: &Namespace) -> Result<u64> {
    namespace
        .run(|| -> Result<u64> {
            let mut all = nftables()?;
            // Through /proc/thread-self: /proc/net shows the namespace of the process's first thread.
            all += legacy("/proc/thread-self/net/ip_tables_names", Domain::IPV4, libc::IPPROTO_IP)?;
            all += legacy(
                "/proc/thread-self/net/ip6_tables_names",
                Domain::IPV6,
                libc::IPPROTO_IPV6,
            )?;
            Ok(all)
        })?
        .with_context(|| format!("netfilter rules of {}", namespace.name()))
}

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_NEWRULE: u16 = 6;
const NFT_MSG_GETRULE: u16 = 7;
/// The size of a netlink header.
const NLMSG: usize = 16;

/// Asks for all rules of all families (NFT_MSG_GETRULE as a dump) and counts the answers.
fn nftables() -> Result<u64> {
    let protocol = socket2::Protocol::from(libc::NETLINK_NETFILTER);
    let socket = match Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(protocol)) {
        Ok(socket) => socket,
        Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => return Ok(0),
        Err(error) => return Err(error).context("netlink socket"),
    };
    let kind = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETRULE;
    let flags = u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_DUMP)?;
    let mut request = Vec::new();
    request.extend(20_u32.to_ne_bytes()); // length with the 4 bytes of nfgenmsg
    request.extend(kind.to_ne_bytes());
    request.extend(flags.to_ne_bytes());
    request.extend([0; 8 + 4]); // sequence and port; nfgenmsg: family unspecified, version 0, resource 0
    socket.send(&request).context("ask nf_tables")?;
    let mut rules = 0;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let size = io::Read::read(&mut &socket, &mut buffer).context("read from nf_tables")?;
        let mut rest = &buffer[..size];
        while rest.len() >= NLMSG {
            let length = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
            let kind = u16::from_ne_bytes([rest[4], rest[5]]);
            if length < NLMSG || length > rest.len() {
                bail!("nf_tables sent a message of {length} bytes");
            }
            if i32::from(kind) == libc::NLMSG_DONE {
                return Ok(rules);
            }
            if i32::from(kind) == libc::NLMSG_ERROR {
                let error = rest
                    .get(NLMSG..NLMSG + 4)
                    .map(|e| i32::from_ne_bytes([e[0], e[1], e[2], e[3]]));
                match error.unwrap_or_default().wrapping_neg() {
                    // No such subsystem: the kernel has no nf_tables.
                    libc::EINVAL | libc::EOPNOTSUPP => return Ok(0),
                    errno => return Err(io::Error::from_raw_os_error(errno)).context("nf_tables"),
                }
            }
            if kind == NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWRULE {
                rules += 1;
            }
            rest = &rest[((length + 3) & !3).min(rest.len())..];
        }
    }
}

/// The rules in all tables that are listed in `names`, asking with the options of this protocol level.
fn legacy(names: &str, domain: Domain, level: i32) -> Result<u64> {
    let names = match fs::read_to_string(names) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error).with_context(|| names.to_owned()),
    };
    let mut rules = 0;
    for name in names.lines() {
        let socket = Socket::new(domain, Type::RAW, Some(socket2::Protocol::from(libc::IPPROTO_RAW)))?;
        rules += table(&socket, level, name).with_context(|| format!("table {name}"))?;
    }
    Ok(rules)
}

/// IPT_SO_GET_INFO, and IP6T_SO_GET_INFO too.
const GET_INFO: i32 = 64;

/// struct ipt_getinfo, the same for both families.
#[repr(C)]
struct Info {
    name: [u8; 32],
    valid_hooks: u32,
    hook_entry: [u32; 5],
    underflow: [u32; 5],
    num_entries: u32,
    size: u32,
}

fn table(socket: &Socket, level: i32, name: &str) -> Result<u64> {
    let mut info = Info {
        name: [0; 32],
        valid_hooks: 0,
        hook_entry: [0; 5],
        underflow: [0; 5],
        num_entries: 0,
        size: 0,
    };
    if name.len() >= info.name.len() {
        bail!("name too long");
    }
    info.name[..name.len()].copy_from_slice(name.as_bytes());
    let mut length = u32::try_from(size_of::<Info>())?;
    // SAFETY: the kernel writes at most `length` bytes, the size of `info`, which is plain data.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            GET_INFO,
            std::ptr::from_mut(&mut info).cast(),
            &raw mut length,
        )
    };
    if done != 0 {
        return Err(io::Error::last_os_error()).context("getsockopt");
    }
    // Every built-in chain has its policy as an entry, and the table ends with one that is no rule.
    Ok(u64::from(
        info.num_entries.saturating_sub(info.valid_hooks.count_ones() + 1),
    ))
}
