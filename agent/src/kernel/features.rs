//! The programs by name, and what of them a kernel may lack.

use super::{
    config::{KernelConfig, LocalLegs},
    hooks, offsets,
};
use culvert_abi::SocketOffsets;

pub(super) const CONNECT4: &str = "culvert_connect4";
pub(super) const CONNECT6: &str = "culvert_connect6";
pub(super) const GETPEERNAME4: &str = "culvert_getpeername4";
pub(super) const GETPEERNAME6: &str = "culvert_getpeername6";
pub(super) const GETSOCKOPT: &str = "culvert_getsockopt";
pub(super) const GUARD: &str = "culvert_guard";
pub(super) const LEG: &str = "culvert_leg";
pub(super) const RECVMSG4: &str = "culvert_recvmsg4";
pub(super) const RECVMSG6: &str = "culvert_recvmsg6";
pub(super) const SENDMSG4: &str = "culvert_sendmsg4";
pub(super) const SENDMSG6: &str = "culvert_sendmsg6";
pub(super) const SETSOCKOPT: &str = "culvert_setsockopt";
pub(super) const SK_LOOKUP: &str = "culvert_sk_lookup";
pub(super) const SOCK_OPS: &str = "culvert_sock_ops";

/// What some kernels lack, and the programs can do without.
#[derive(Clone, Copy, Debug)]
pub(super) struct Features {
    pub(super) mptcp_helper: bool,
    pub(super) cgroup_in_sock_ops: bool,
    pub(super) set_retval: bool,
    /// Where the programs find what they look at to carry local legs; none where they carry none.
    pub(super) legs: Option<SocketOffsets>,
}

impl Default for Features {
    fn default() -> Self {
        Self {
            mptcp_helper: true,
            cgroup_in_sock_ops: true,
            set_retval: true,
            legs: None,
        }
    }
}

impl Features {
    /// What is tried first, and why that is without local legs although they are asked for.
    pub(super) fn of(config: &KernelConfig) -> (Self, Option<String>) {
        let legs = match config.local_legs {
            LocalLegs::Tcp => return (Self::default(), None),
            LocalLegs::Kernel | LocalLegs::Polled => offsets::find(),
        };
        let features = Self {
            legs: legs.as_ref().ok().copied(),
            ..Self::default()
        };
        (features, legs.err())
    }

    /// What to leave out after the kernel has refused a program; None when there is nothing left.
    pub(super) fn without(mut self, program: &str) -> Option<Self> {
        let (feature, without) = match program {
            CONNECT4 | CONNECT6 if self.mptcp_helper => (
                &mut self.mptcp_helper,
                "getpeername of captured MPTCP sockets shows the pod's own address (bpf_skc_to_mptcp_sock, Linux 5.19)",
            ),
            CONNECT4 | CONNECT6 | SETSOCKOPT => (
                &mut self.set_retval,
                "whatever is denied fails with EPERM (bpf_set_retval, Linux 5.18)",
            ),
            LEG if self.legs.is_some() => return self.without_legs(program),
            SOCK_OPS if !self.cgroup_in_sock_ops && self.legs.is_some() => return self.without_legs(program),
            SOCK_OPS => (
                &mut self.cgroup_in_sock_ops,
                "listeners that a proxy opens by itself are not noticed: the agent opens them (the cgroup in sock_ops, after Linux 6.1)",
            ),
            _ => return None,
        };
        if !std::mem::take(feature) {
            return None;
        }
        tracing::info!(
            program,
            without,
            kernel = hooks::release(),
            "the kernel refused a program, trying it with fewer features"
        );
        Some(self)
    }

    fn without_legs(mut self, program: &str) -> Option<Self> {
        self.legs = None;
        tracing::info!(
            program,
            without = "local legs go by TCP",
            kernel = hooks::release(),
            "the kernel refused a program, trying it with fewer features"
        );
        Some(self)
    }
}
