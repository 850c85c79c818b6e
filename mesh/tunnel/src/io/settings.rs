//! How tunnels behave on tokio.

use std::time::Duration;

use culvert_hbone::Config;

use crate::life::Limits;

/// Times and bounds of tunnels.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Windows and limits of each connection.
    pub hbone: Config,
    /// How long open tunnels may do what.
    pub limits: Limits,
    /// For TCP and TLS together, until a tunnel is open.
    pub handshake_timeout: Duration,
    /// How long a peer that was silent may take to answer, before what waits for it goes to another tunnel.
    pub doubt_timeout: Duration,
    /// How often an open tunnel is looked at. Times in [`limits`](Self::limits) are as exact as this.
    pub look: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            hbone: Config::default(),
            limits: Limits::default(),
            handshake_timeout: Duration::from_secs(10),
            doubt_timeout: Duration::from_secs(1),
            look: Duration::from_secs(5),
        }
    }
}
