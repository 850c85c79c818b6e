//! Small values of Envoy's API: numbers that may be absent, times.

use std::time::Duration;

use culvert_envoy::pb::google::protobuf::{Duration as ProtoDuration, UInt32Value};
use culvert_http::LONGEST_SECONDS;

use super::refusal::Refusal;

/// A number, if it is said.
pub(super) fn value(message: Option<UInt32Value>) -> Option<u32> {
    message.map(|UInt32Value { value }| value)
}

/// A time that is not negative.
pub(super) fn duration(place: &str, message: &ProtoDuration) -> Result<Duration, Refusal> {
    let seconds = u64::try_from(message.seconds)
        .ok()
        .filter(|&seconds| seconds <= LONGEST_SECONDS);
    let nanos = u32::try_from(message.nanos).ok().filter(|&nanos| nanos < 1_000_000_000);
    match (seconds, nanos) {
        (Some(seconds), Some(nanos)) => Ok(Duration::new(seconds, nanos)),
        _ => Err(Refusal::new(
            place,
            format!("{} s and {} ns is no time", message.seconds, message.nanos),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_no_clock_can_be_asked_for_is_refused_by_name() {
        let read = |seconds: i64| duration("idle_timeout", &ProtoDuration { seconds, nanos: 0 });
        assert_eq!(read(3), Ok(Duration::from_secs(3)));
        for seconds in [-1, i64::MAX] {
            let refusal = read(seconds).unwrap_err().to_string();
            assert!(refusal.contains("idle_timeout"), "{refusal}");
        }
    }
}
