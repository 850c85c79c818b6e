//! What the agent's page `/pods` says of local legs.

use std::sync::{Mutex, PoisonError};

use crate::kernel::{Kernel, LegsStatus};

/// How bytes go between applications and the proxy, and what became of it so far.
pub(crate) fn of(kernel: &Mutex<Kernel>) -> serde_json::Value {
    let kernel = kernel.lock().unwrap_or_else(PoisonError::into_inner);
    let (by, refused) = match kernel.local_legs() {
        LegsStatus::Tcp => ("tcp", None),
        LegsStatus::Kernel => ("kernel", None),
        LegsStatus::Refused(reason) => ("tcp", Some(reason.as_str())),
    };
    let counted = kernel.counters().unwrap_or_default().into_iter();
    let counted = counted.filter(|(hook, ..)| *hook == "legs");
    let counted: serde_json::Map<_, _> = counted
        .map(|(_, outcome, count)| (outcome.to_owned(), count.into()))
        .collect();
    serde_json::json!({ "by": by, "refused": refused, "counted": counted })
}
