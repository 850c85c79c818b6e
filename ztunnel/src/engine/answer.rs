//! What an application is told that still waits for its `connect`.

use std::os::fd::{AsFd as _, OwnedFd};

use culvert_net::hold;
use culvert_tunnel::failure::Failure;

use super::{loop_state::Loop, unanswered::Unanswered};

impl Loop {
    /// Tells an application that still waits how its connection failed.
    pub(super) fn answer(&self, unanswered: &Unanswered, failure: &Failure) {
        let Unanswered { tap, syn } = unanswered;
        let socket = self.claims.as_ref().map(OwnedFd::as_fd);
        let (outcome, done) = match (failure, socket) {
            (Failure::GaveUp, _) | (_, None) => ("gone", Ok(())),
            // As without a mesh, silence is passed on as such.
            (Failure::Timeout { .. }, Some(socket)) => ("silent", hold::release(socket, tap.cookie, syn)),
            (Failure::Unheld(_), Some(socket)) => ("unheld", hold::accept_first(socket, tap.cookie, syn)),
            _ => ("refused", tap.syns.refuse(syn)),
        };
        if let Err(error) = done {
            tracing::debug!(source = %syn.source, %error, outcome, "an application is not told how its connection failed");
        }
        self.count_answer(outcome);
    }

    pub(super) fn count_answer(&self, outcome: &'static str) {
        let answers = &self.shared.telemetry.proxy().held_connections;
        answers.get_or_create(&[("outcome", outcome)]).inc();
    }
}
