//! The addresses of endpoints that are known by their DNS names: what was answered, for how long that holds, and who waits for what
//! is being asked. Without I/O: whoever uses it sends [`Names::take_queries`], brings answers, and comes back at [`Names::next_deadline`].
//!
//! ```text
//! look ── fresh ──────────────────────────────────────────────> Look::Known
//!    └── question: A, AAAA to the first resolver, the next ... ──> answered: Known, for its TTL
//!              │                                             └──> Failed, for a second; addresses that were known go on for a while
//!              └── Look::Wait: woken by Names::take_woken
//! ```
//!
//! **Each pod has its own.** A process with privileges in a pod can answer in its resolver's place, as the question is asked from there;
//! it must not answer for other pods that have the same resolver.
//!
//! Start reading at [`Names`].

mod cache;
mod entry;
mod question;
mod values;

#[cfg(test)]
mod tests;

pub use cache::Names;
pub use values::{Asking, Ended, Look, NameError, NameQuery, NameView, Part, Wanted};
