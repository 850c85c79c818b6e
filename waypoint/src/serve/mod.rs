//! The way of a connection, and of a request inside of it, through a waypoint.
//!
//! ```text
//! listen ──> tunnel ──CONNECT──> sniff ──> http ──request──> exchange ──> forward ──> upstream
//!                                   └────> tcp ──────────────────────────────────────> upstream
//! ```
//!
//! `listen` accepts, on each thread; `tunnel` ends HBONE, and finds the filter chain that a connection inside is for; `hello` looks for the name that a client of TLS asks
//! for, `sniff` at what else is spoken (a `rewound` connection can be read again); `http` serves the requests of a `connection`; `exchange` is one request, from its head to
//! the last byte of its answer; `filtering` asks the filters of its chain, and with `ask` an authorization service; `forward` is what is done with it upstream, by attempts
//! (`attempt`) within timeouts; `outcome` is what the client is told of the last one, and `mirror` sends copies; `pushback` reads that an endpoint asks for less; `upgrade`
//! and `tcp` copy bytes. `worker` is what all of them share on a thread.

mod ask;
mod attempt;
mod connection;
mod counter;
mod direct;
mod exchange;
mod filtering;
mod forward;
mod hello;
mod http;
mod listen;
mod mirror;
mod outcome;
mod pushback;
mod rewound;
mod sniff;
mod tcp;
mod tunnel;
mod upgrade;
mod worker;

pub use listen::{Bound, bind};
pub use worker::{Limits, Names, Open, Worker};
