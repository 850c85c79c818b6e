//! Endpoints that are DNS names: they are resolved in the background, and what they lead to goes into the [`Store`](crate::state::Store).
//!
//! | module | what |
//! |---|---|
//! | [`follow`] | which names are asked for, and when again |
//! | `ask` | one name, of one resolver after another |
//! | `schedule` | when a name is due |

mod ask;
mod follow;
mod schedule;

pub use follow::{Resolutions, follow};
