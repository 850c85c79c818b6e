//! Letting the kernel carry local legs, where it stands the trial.

use super::{Kernel, config::LocalLegs, hooks, legs::LegsStatus, legs_trial, load, sys};
use std::os::fd::AsFd as _;

impl Kernel {
    /// Whether local legs are carried, and if not, why.
    pub fn local_legs(&self) -> &LegsStatus {
        &self.legs_status
    }

    /// Attaches the program that looks at what applications send, and tries it out: whether bytes go by it, all of them, in order,
    /// and whether it notices that nobody reads. Nothing of this fails: legs can always go by TCP.
    pub(super) fn carry_legs(&mut self) {
        if self.config.local_legs == LocalLegs::Tcp {
            return;
        }
        if self.legs_status == LegsStatus::Tcp {
            self.legs_status = match self.try_legs() {
                Ok(()) => LegsStatus::Kernel,
                Err(reason) => LegsStatus::Refused(reason),
            };
        }
        match &self.legs_status {
            LegsStatus::Refused(reason) => {
                tracing::warn!(reason, kernel = hooks::release(), "local legs go by TCP");
            }
            _ => tracing::info!("local legs are carried by the kernel"),
        }
    }

    fn try_legs(&mut self) -> Result<(), String> {
        let attached = load::program(&self.ebpf, load::LEG)
            .map(|program| sys::program_attach(program, self.legs.senders.fd().as_fd()));
        attached
            .map_err(|error| error.to_string())?
            .map_err(|error| format!("the kernel does not attach the program: {error}"))?;
        let noticed = legs_trial::run(&mut self.maps, &self.legs.known)?;
        match (noticed, self.config.local_legs) {
            (Some(noticed), LocalLegs::Kernel) => Err(format!("{noticed}; `polled` is for nodes where none minds")),
            _ => Ok(()),
        }
    }
}
