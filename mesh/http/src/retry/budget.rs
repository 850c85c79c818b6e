//! How many of all requests to a cluster may be retries.

use culvert_envoy::pb::envoy::config::cluster::v3::circuit_breakers::thresholds::RetryBudget as Message;

use crate::error::{CompileError, take};

/// The limit of retries that are under way or wait for their time, of one cluster.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RetryBudget {
    /// So many.
    Count(u32),
    /// A share of the requests under way.
    Share {
        /// In percent of them.
        percent: f64,
        /// So many are always allowed.
        least: u32,
    },
}

impl Default for RetryBudget {
    /// What a cluster has that says nothing of it: 3.
    fn default() -> Self {
        Self::Count(3)
    }
}

impl RetryBudget {
    /// Reads the budget of a cluster's circuit breakers.
    ///
    /// # Errors
    /// Where the percentage is none.
    pub fn compile(message: &Message) -> Result<Self, CompileError> {
        take!(message => Message { budget_percent, min_retry_concurrency } unserved { budget_interval });
        let percent = budget_percent.as_ref().map_or(20.0, |percent| percent.value);
        if !(0.0..=100.0).contains(&percent) {
            return Err(CompileError::invalid(
                "budget_percent",
                format_args!("{percent} is not a percentage"),
            ));
        }
        Ok(Self::Share {
            percent,
            least: min_retry_concurrency.as_ref().map_or(3, |least| least.value),
        })
    }

    /// Whether one more may be, of a cluster with so many requests under way, first tries and retries, and so many retries among them or
    /// waiting. A retry counts from when it is decided, not from when it is sent.
    pub fn allows(&self, requests: u32, retries: u32) -> bool {
        match *self {
            Self::Count(most) => retries < most,
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a share of a u32 fits"
            )]
            Self::Share { percent, least } => retries < least.max((f64::from(requests) * percent / 100.0) as u32),
        }
    }
}
