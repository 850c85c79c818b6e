//! Where fields are in the running kernel's structures, as it says itself (`/sys/kernel/btf/vmlinux`).
//!
//! aya reads this format, too, but for its own relocations alone. See `Documentation/bpf/btf.rst` of Linux.

use std::{collections::HashMap, fs, io, path::Path};

/// The kernel's own description of its types.
const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;
/// A type: name, kind and number of parts, size or type.
const HEAD: usize = 12;
/// A member: name, type, offset in bits.
const MEMBER: usize = 12;

const INT: u32 = 1;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const DECL_TAG: u32 = 17;
const ENUM64: u32 = 19;

/// The structures of the kernel that were asked for.
#[derive(Debug)]
pub(super) struct Structures<'a> {
    bytes: &'a [u8],
    names: &'a [u8],
    /// Where each type's members are, if it is a structure or a union: by its number, from 1.
    members: Vec<Option<(usize, usize)>>,
    by_name: HashMap<&'a str, usize>,
}

/// The description of the running kernel's types.
pub(super) fn of_kernel() -> io::Result<Vec<u8>> {
    fs::read(Path::new(VMLINUX))
}

impl<'a> Structures<'a> {
    /// None where the bytes are not what they should be.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let magic = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?);
        if magic != MAGIC {
            return None;
        }
        let [header, types, types_length, strings, strings_length] =
            [word(4)?, word(8)?, word(12)?, word(16)?, word(20)?].map(|word| word as usize);
        let names = bytes.get(header + strings..)?.get(..strings_length)?;
        let (mut at, end) = (header + types, header + types + types_length);
        let mut found = Self {
            bytes,
            names,
            members: vec![None],
            by_name: HashMap::new(),
        };
        while at < end {
            let info = word(at + 4)?;
            let (kind, parts) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
            let body = at + HEAD;
            let length = match kind {
                INT | VAR | DECL_TAG => 4,
                ARRAY => 12,
                STRUCT | UNION | DATASEC | ENUM64 => MEMBER * parts,
                ENUM | FUNC_PROTO => 8 * parts,
                _ => 0,
            };
            let is_structure = matches!(kind, STRUCT | UNION);
            if is_structure && let Some(name) = text(names, word(at)?) {
                found.by_name.entry(name).or_insert(found.members.len());
            }
            found.members.push(is_structure.then_some((body, parts)));
            at = body + length;
        }
        Some(found)
    }

    /// How many bytes from the start of a structure a field is. Between the names of `path`, fields of fields; those of members
    /// without a name are the structure's own.
    pub(super) fn offset(&self, structure: &str, path: &[&str]) -> Option<u32> {
        let mut at = *self.by_name.get(structure)?;
        let mut bits = 0;
        for name in path {
            let (offset, kind) = self.member(at, name)?;
            bits += offset;
            at = kind;
        }
        (bits % 8 == 0).then_some(bits / 8)
    }

    /// Offset in bits, and type.
    fn member(&self, structure: usize, name: &str) -> Option<(u32, usize)> {
        let (body, parts) = (*self.members.get(structure)?)?;
        let word = |at: usize| Some(u32::from_ne_bytes(self.bytes.get(at..at + 4)?.try_into().ok()?));
        for part in 0..parts {
            let at = body + part * MEMBER;
            // The upper bits are the size of a bit field, where there are any.
            let (called, kind, offset) = (
                text(self.names, word(at)?),
                word(at + 4)? as usize,
                word(at + 8)? & 0xff_ffff,
            );
            match called {
                Some(called) if called == name => return Some((offset, kind)),
                Some(_) => {}
                None => {
                    if let Some((inner, kind)) = self.member(kind, name) {
                        return Some((offset + inner, kind));
                    }
                }
            }
        }
        None
    }
}

/// None for the empty name.
fn text(names: &[u8], at: u32) -> Option<&str> {
    let name = names.get(at as usize..)?;
    let name = &name[..name.iter().position(|byte| *byte == 0)?];
    std::str::from_utf8(name).ok().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernels_sockets_are_found_with_their_fields() {
        let bytes = of_kernel().expect("a kernel with BTF");
        let structures = Structures::parse(&bytes).expect("BTF");
        // A TCP socket starts with the structures that it is made of.
        assert_eq!(structures.offset("tcp_sock", &["inet_conn"]), Some(0));
        assert_eq!(structures.offset("inet_connection_sock", &["icsk_inet"]), Some(0));
        let unread = structures
            .offset("sock", &["sk_backlog", "rmem_alloc"])
            .expect("sk_backlog");
        let sequence = structures.offset("tcp_sock", &["write_seq"]).expect("write_seq");
        assert!(unread > 0 && unread < sequence, "{unread} {sequence}");
        assert_eq!(structures.offset("tcp_sock", &["no_such_field"]), None);
    }

    #[test]
    fn what_is_no_description_of_types_is_refused_and_a_short_one_too() {
        assert!(Structures::parse(b"").is_none());
        assert!(Structures::parse(&[0; 64]).is_none());
        let bytes = of_kernel().expect("a kernel with BTF");
        assert!(Structures::parse(&bytes[..bytes.len() / 2]).is_none());
    }
}
