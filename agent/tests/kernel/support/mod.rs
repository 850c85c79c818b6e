//! What the tests stand on: `node` (cgroups, bpffs, programs), `space` (network namespaces), `pod` (a pod and its
//! surroundings), `sock` and `uring` (ways to connect).

pub(crate) mod frame;
pub(crate) mod node;
pub(crate) mod pod;
pub(crate) mod sock;
pub(crate) mod space;
pub(crate) mod uring;
