//! What several programs need from the kernel's network interface, as values with owners.
//!
//! | module | what |
//! |---|---|
//! | [`Netns`] | a pod's network namespace: its cookie, and running code inside it |
//! | [`Visitor`] | a thread that runs code inside one after the other |
//! | [`capability`] | what a program may not do without, named when it is missing |
//! | [`dns`] | sockets for the DNS queries of a pod |
//! | [`heap`] | how the C library's allocator keeps what a program frees |
//! | [`hold`] | answering an application's SYN in the kernel's place |
//! | [`interfaces`] | the addresses of a network namespace, and prefixes that are made local to it |
//! | [`legs`] | what a reader has to know of local legs that the kernel carries |
//! | [`links`] | network interfaces, and where the other end of a pair of them is |
//! | [`netlink`] | requests to the kernel about these, and their answers |
//! | [`packet`] | `SEQPACKET` unix sockets that carry descriptors: agent to proxy, monitor to worker |
//! | [`privilege`] | giving privileges up for good |
//! | [`serving`] | the word by which the kernel programs know whether a proxy serves |
//! | [`sockopt`] | the socket options that the data path uses, and sockets made with them |
//! | [`tcp_state`] | how far the peer has taken what was written, and how much the kernel takes ahead |
//! | [`text`] | the program's own code, as far as it is in memory |
//!
//! All system calls that the safe wrappers of `rustix` and `socket2` do not cover are here, each behind a safe function.

pub mod capability;
pub mod dns;
pub mod heap;
pub mod hold;
pub mod interfaces;
pub mod legs;
pub mod links;
pub mod netlink;
mod netns;
pub mod packet;
pub mod privilege;
pub mod serving;
pub mod sockopt;
pub mod tcp_state;
mod visitor;

pub use netns::{NetError, Netns};
pub use visitor::Visitor;
