//! Small values of Envoy's API: durations, fractions.

use std::time::Duration;

use culvert_envoy::pb::envoy::config::core::v3::RuntimeFractionalPercent;
use culvert_envoy::pb::envoy::r#type::v3::{FractionalPercent, fractional_percent::DenominatorType};
use culvert_envoy::pb::google::protobuf;

use crate::error::CompileError;

/// Seconds at most, as protobuf's `Duration` has it (about ten thousand years): a moment that is so far away can be reckoned with.
pub const LONGEST_SECONDS: u64 = 315_576_000_000;

/// Reads a duration, which is not negative.
pub(crate) fn duration(field: &str, value: &protobuf::Duration) -> Result<Duration, CompileError> {
    let bad = || {
        CompileError::invalid(
            field,
            format_args!("{}s {}ns is not a duration that is served", value.seconds, value.nanos),
        )
    };
    let seconds = u64::try_from(value.seconds)
        .ok()
        .filter(|seconds| *seconds <= LONGEST_SECONDS)
        .ok_or_else(bad)?;
    let nanos = u32::try_from(value.nanos)
        .ok()
        .filter(|nanos| *nanos < 1_000_000_000)
        .ok_or_else(bad)?;
    Ok(Duration::new(seconds, nanos))
}

/// Reads a duration that may not be set.
pub(crate) fn optional_duration(
    field: &str,
    value: &Option<protobuf::Duration>,
) -> Result<Option<Duration>, CompileError> {
    value.as_ref().map(|value| duration(field, value)).transpose()
}

/// A share of all requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fraction {
    numerator: u32,
    denominator: u32,
}

impl Fraction {
    /// Every request.
    pub const ALL: Self = Self {
        numerator: 1,
        denominator: 1,
    };

    /// No request.
    pub const NONE: Self = Self {
        numerator: 0,
        denominator: 1,
    };

    pub(crate) fn compile(value: &FractionalPercent) -> Result<Self, CompileError> {
        let denominator = match DenominatorType::try_from(value.denominator) {
            Ok(DenominatorType::Hundred) => 100,
            Ok(DenominatorType::TenThousand) => 10_000,
            Ok(DenominatorType::Million) => 1_000_000,
            Err(_) => {
                return Err(CompileError::invalid(
                    "denominator",
                    format_args!("there is no {}", value.denominator),
                ));
            }
        };
        Ok(Self {
            numerator: value.numerator,
            denominator,
        })
    }

    /// The default value; runtime keys are not served, there is no runtime.
    pub(crate) fn compile_runtime(value: &RuntimeFractionalPercent) -> Result<Self, CompileError> {
        if !value.runtime_key.is_empty() {
            return Err(CompileError::unserved("runtime_key"));
        }
        value
            .default_value
            .as_ref()
            .map_or(Err(CompileError::missing("default_value")), Self::compile)
    }

    /// Whether a request is among them, by a random number that is evenly distributed.
    pub fn hit(&self, random: u64) -> bool {
        random % u64::from(self.denominator) < u64::from(self.numerator)
    }

    /// The share scaled to `percent` hundredths of the requests instead, never above what it was.
    pub(crate) fn at_most(self, percent: u32) -> Self {
        let percent = u64::from(percent) * u64::from(self.denominator) / 100;
        Self {
            numerator: self.numerator.min(u32::try_from(percent).unwrap_or(u32::MAX)),
            denominator: self.denominator,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_that_no_clock_can_be_asked_for_is_refused_by_name() {
        let read = |seconds: i64, nanos: i32| duration("timeout", &protobuf::Duration { seconds, nanos });
        assert_eq!(read(1, 5).ok(), Some(Duration::new(1, 5)));
        assert!(read(LONGEST_SECONDS as i64, 0).is_ok());
        for (seconds, nanos) in [
            (-1, 0),
            (0, -1),
            (0, 1_000_000_000),
            (LONGEST_SECONDS as i64 + 1, 0),
            (i64::MAX, 0),
        ] {
            let error = read(seconds, nanos).unwrap_err().to_string();
            assert!(error.contains("timeout"), "{error}");
        }
    }
}
