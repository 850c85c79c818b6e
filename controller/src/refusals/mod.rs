//! Which resources the proxies of this replica refuse, and with which messages.
//!
//! | module | what |
//! |---|---|
//! | `answers` | one stream: what the last response of each type had, and what the answer to it refuses of that |
//! | `message` | a proxy's message, cut to what a status can hold |
//! | `registry` | the refusals of all streams of this replica |
//! | `cluster::refusals` | those of all replicas |
//!
//! [`model`](crate::model) finds the objects that a resource was made of. A refusal stands until the same proxy takes the resource, is no longer
//! sent it or asks for it no longer, or until its stream has been over for a while: a proxy that connects again refuses it again.

mod answers;
mod message;
mod registry;

pub(crate) use answers::Answers;
pub(crate) use registry::{Refusals, Refuser};
