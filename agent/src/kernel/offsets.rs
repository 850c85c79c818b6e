//! Where this kernel has what the programs look at when they carry local legs.

use super::btf::{self, Structures};
use culvert_abi::SocketOffsets;

/// Where this kernel has what the programs look at, or why legs cannot be carried.
pub(super) fn find() -> Result<SocketOffsets, String> {
    let bytes = btf::of_kernel().map_err(|error| format!("the kernel does not describe its types: {error}"))?;
    let structures = Structures::parse(&bytes).ok_or("the kernel's description of its types cannot be read")?;
    let offset = |structure: &str, path: &[&str]| {
        let found = structures.offset(structure, path);
        found.ok_or_else(|| format!("the kernel's {structure} has no {}", path.join(".")))
    };
    Ok(SocketOffsets {
        unread: offset("sock", &["sk_backlog", "rmem_alloc"])?,
        sequence: offset("tcp_sock", &["write_seq"])?,
        above: offset("inet_connection_sock", &["icsk_ulp_ops"])?,
    })
}
