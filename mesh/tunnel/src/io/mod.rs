//! Tunnels on tokio: what a waypoint uses, so that any client or server of a runtime (hyper) works inside them.
//!
//! - [`Tunnels`] opens streams to peers through a pool of tunnels; sockets come from a [`SocketSource`].
//! - [`Server`] makes tunnels of accepted sockets, and yields each [`Request`] to be accepted or refused.
//! - Both end in a [`Stream`], which reads and writes like a TCP connection.
//!
//! ```text
//!  application ──Stream──> state <──task── socket        state: the connection, what was received and not read, what waits for its turn
//!                            │                           task (`driver`): writes, reads, times; one for each tunnel
//!  application ──Stream──────┘
//! ```
//!
//! Rooms: `client` and `server`; `handshake` (TLS, then a tunnel); `tunnel` and `stream` (the handles); `state` with `entry`, `received` and
//! `inbox` (what they share with the task); `driver` (the task); `socket` (where sockets and certificates come from), `settings`.

mod client;
mod clock;
mod driver;
mod entry;
mod handshake;
mod inbox;
mod peer;
mod received;
mod server;
mod settings;
mod socket;
mod state;
mod stream;
mod tunnel;

pub use client::{Destination, Tunnels};
pub use driver::Driver;
pub use peer::Peer;
pub use server::Server;
pub use settings::Settings;
pub use socket::{CredentialSource, Dialer, Origin, Socket, SocketSource};
pub use stream::Stream;
pub use tunnel::{Asking, Request, Requests, Tunnel};
