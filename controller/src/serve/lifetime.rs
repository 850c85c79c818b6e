//! How long a stream lasts: no longer than its token, nor so long that nodes stay where they once connected.

use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};

/// By how much, in hundredths, a time is shortened at random, so that streams that began together do not end together.
const SPREAD: u32 = 15;

/// How long a stream lasts whose token is good for `left`.
pub(super) fn lifetime(longest: Duration, left: Option<Duration>) -> Duration {
    let mut random = [0; 4];
    // Without randomness all end together, which is no reason to serve nobody.
    let _ = SystemRandom::new().fill(&mut random);
    shortened(longest.min(left.unwrap_or(longest)), u32::from_be_bytes(random))
}

fn shortened(time: Duration, random: u32) -> Duration {
    time - time * (random % (SPREAD * 100)) / 10_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_ends_before_its_token_and_before_its_time_and_not_with_all_others() {
        let (half, hour) = (Duration::from_secs(1800), Duration::from_secs(3600));
        for _ in 0..1000 {
            assert!(lifetime(half, Some(hour)) <= half);
            assert!(lifetime(hour, Some(half)) <= half);
            assert!(lifetime(half, None) > half * 4 / 5);
        }
        let (first, last) = (shortened(half, 0), shortened(half, SPREAD * 100 - 1));
        assert!(first == half && last < half * 9 / 10, "{last:?}");
        assert_eq!(lifetime(half, Some(Duration::ZERO)), Duration::ZERO);
    }
}
