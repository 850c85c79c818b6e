//! Tunnels to peers: what the node proxy and waypoints share.
//!
//! Cores without I/O, each to be read alone. They take values and a time, and say what is to be done:
//! - [`pool`]: which tunnels are shared by whom, and who waits for one; [`attempts`] and [`failure`]: when a connection is tried
//!   again, and why not;
//! - [`life`]: when a tunnel is asked for a sign of life, retires and parts; [`proof`]: whether its certificates still hold;
//! - [`turns`] and [`pace`]: which stream may send, and how far ahead of the network; [`budget`]: what is held and may be;
//!   [`admission`]: how many tunnels strangers may open;
//! - [`arena`]: storage whose keys outlive what they name.
//!
//! [`io`] puts them on tokio, over a source of sockets: what a waypoint uses. The node proxy has an event loop of its own around them.
#![forbid(unsafe_code)]

pub mod admission;
pub mod arena;
pub mod attempts;
pub mod budget;
pub mod failure;
pub mod io;
pub mod life;
pub mod pace;
pub mod pool;
pub mod proof;
pub mod turns;
