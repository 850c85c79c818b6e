//! How much the kernel is given beyond what the network takes: all that is written later waits behind it.

use std::time::Duration;

use culvert_net::tcp_state::SendState;

/// How much time's worth of bytes.
const AHEAD: Duration = Duration::from_millis(10);

/// Least bytes: a loop that is busy for a moment must not leave the network idle.
const LEAST: usize = 128 << 10;

/// Most bytes, more than the kernel keeps by default: as much as it likes.
pub const UNLIMITED: usize = 4 << 20;

/// How often to measure the network.
pub const MEASURE: Duration = Duration::from_millis(50);

/// Bytes to give, by what the network took lately; `now` is what was given until now.
pub fn ahead(state: &SendState, now: usize) -> usize {
    let wanted = if state.rate_is_ours {
        now.saturating_mul(2)
    } else {
        (state.delivery_rate as f64 * AHEAD.as_secs_f64()) as usize
    };
    wanted.clamp(LEAST, UNLIMITED).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_networks_get_some_milliseconds_and_fast_ones_all() {
        let rate = |delivery_rate, rate_is_ours| SendState {
            delivery_rate,
            rate_is_ours,
            ..SendState::default()
        };
        // 10 Mbit/s, 200 Mbit/s, 10 Gbit/s.
        assert_eq!(ahead(&rate(1_250_000, false), UNLIMITED), LEAST);
        assert_eq!(ahead(&rate(25_000_000, false), UNLIMITED), 256 << 10);
        assert_eq!(ahead(&rate(1_250_000_000, false), LEAST), UNLIMITED);
        // What we did not write the network could not take.
        assert_eq!(ahead(&rate(1000, true), LEAST), 2 * LEAST);
        assert_eq!(ahead(&rate(1000, true), UNLIMITED), UNLIMITED);
    }
}
