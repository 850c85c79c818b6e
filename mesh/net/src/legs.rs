//! What a reader has to know of local legs that the kernel carries (`ebpf/src/legs.rs`).

/// A leg goes back to TCP when its reader has left more than so many bytes. What comes after that is in another queue: a read that
/// has emptied the first one says nothing about it.
pub const UNREAD: usize = culvert_abi::Leg::UNREAD as usize;
