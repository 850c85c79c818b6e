//! Writing on tunnels.

use std::os::fd::AsFd as _;

use culvert_net::tcp_state;
use culvert_tunnel::pace;
use rustix::io::Errno;

use super::{keys::TunnelKey, loop_state::Loop, tunnel::State};

impl Loop {
    /// Writes until the kernel takes no more.
    pub(super) fn flush_tunnel(&mut self, key: TunnelKey) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        let Some(fd) = &tunnel.fd else { return };
        let result = loop {
            let handshake = !tunnel.outgoing.is_empty();
            let bytes = match &mut tunnel.state {
                _ if handshake => tunnel.outgoing.bytes(),
                State::Open(connection) => connection.output(),
                _ => break Ok(false),
            };
            if bytes.is_empty() {
                break Ok(false);
            }
            let length = bytes.len();
            match rustix::io::write(fd, bytes) {
                Ok(count) => {
                    match &mut tunnel.state {
                        _ if handshake => tunnel.outgoing.consume(count),
                        State::Open(connection) => connection.written(count),
                        _ => {}
                    }
                    if count < length {
                        break Ok(true);
                    }
                }
                Err(Errno::AGAIN) => break Ok(true),
                Err(Errno::INTR) => {}
                Err(error) => break Err(error),
            }
        };
        match result {
            Ok(blocked) => {
                let changed = blocked || tunnel.unsent > 0;
                tunnel.blocked = blocked;
                if changed {
                    self.account_unsent(key);
                }
            }
            Err(error) => {
                // What the peer said before it went may still be there to read, and says more than this error.
                tunnel.blocked = true;
                tunnel.readable = true;
                tunnel.closing = true;
                tracing::debug!(peer = %tunnel.peer, %error, "cannot write to a tunnel");
                if matches!(tunnel.state, State::Open(_)) {
                    self.read_again(key);
                }
            }
        }
    }

    /// The network is the bottleneck: bounds what waits in the kernel by what the network takes in a moment.
    pub(super) fn measure(&mut self, key: TunnelKey) {
        let Some(tunnel) = self.tunnels.get_mut(key) else {
            return;
        };
        let Some(fd) = &tunnel.fd else { return };
        if self.now.saturating_duration_since(tunnel.measured) < pace::MEASURE {
            return;
        }
        tunnel.measured = self.now;
        let Ok(state) = tcp_state::send_state(fd.as_fd()) else {
            return;
        };
        let wanted = pace::ahead(&state, tunnel.ahead);
        if wanted != tunnel.ahead && tcp_state::set_unsent_limit(fd.as_fd(), wanted as u32).is_ok() {
            tunnel.ahead = wanted;
        }
    }
}
