//! The way of a connection, and of a request inside of it, through a waypoint.
//!
//! ```text
//! listen ──> tunnel ──CONNECT──> sniff ──> http ──request──> exchange ──> forward ──> upstream
//!                                   └────> tcp ──────────────────────────────────────> upstream
//! ```
//!
//! `listen` accepts, on each thread; `tunnel` ends HBONE, and finds the filter chain that a connection inside is for; `sniff` looks at
//! what it speaks; `http` serves the requests of a `connection`; `exchange` is one request, from its head to the last byte of its answer; `filtering` asks the
//! filters of its chain; `forward` is what is done with it upstream, with attempts and timeouts; `upgrade` and `tcp` copy bytes. `worker` is what all of them share on a thread.

mod connection;
mod direct;
mod exchange;
mod filtering;
mod forward;
mod http;
mod listen;
mod sniff;
mod tcp;
mod tunnel;
mod upgrade;
mod worker;

pub use listen::{Bound, bind};
pub use worker::{Limits, Names, Worker};
