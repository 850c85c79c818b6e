//! Durations, shares and texts, as Istio's fields have them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::super::super::model::Text;
use super::super::values::{self, Bad};

/// A share in percent.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Percent {
    #[serde(default)]
    value: f64,
}

/// How a text is compared. Without anything it is only to be there.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StringMatch {
    exact: Option<String>,
    prefix: Option<String>,
    regex: Option<String>,
}

/// Headers by name.
pub(super) type Map = BTreeMap<String, String>;

impl Percent {
    pub(super) fn of(value: f64) -> Self {
        Self { value }
    }

    /// Of a million.
    pub(super) fn share(self) -> Result<u32, Bad> {
        if !(0.0..=100.0).contains(&self.value) {
            return Err(Bad::at("value", format!("{} is no percentage", self.value)));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is from 0 to a million"
        )]
        Ok((self.value * 10_000.0).round() as u32)
    }
}

impl StringMatch {
    /// What it says.
    pub(super) fn text(&self) -> Result<Text, Bad> {
        match (&self.exact, &self.prefix, &self.regex) {
            (None, None, None) => Ok(Text::Present),
            (Some(exact), None, None) => Ok(Text::Exact(exact.clone())),
            (None, Some(prefix), None) if prefix.is_empty() => Ok(Text::Present),
            (None, Some(prefix), None) => Ok(Text::Prefix(prefix.clone())),
            (None, None, Some(regex)) => values::regex(regex)
                .map(Text::Regex)
                .map_err(|message| Bad::at("regex", message)),
            _ => Err(Bad::at("", "it must have one of exact, prefix and regex")),
        }
    }
}

/// A duration as Istio writes it: `1h`, `1m30s`, `1.5s`, `20ms`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is no duration: it must be like 1h, 1m, 1.5s or 20ms");
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let (number, unit) = rest.split_at(digits);
        let number: f64 = number.parse().map_err(|_| bad())?;
        let letters = unit
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(unit.len());
        let (unit, next) = unit.split_at(letters);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" => 1e-6,
            "ns" => 1e-9,
            _ => return Err(bad()),
        };
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| bad())?;
        total = total.checked_add(part).ok_or_else(bad)?;
        rest = next;
    }
    // More than Envoy takes is none.
    if total > Duration::from_secs(315_576_000) {
        return Err(bad());
    }
    Ok(total)
}

/// A duration that may be left out, at `field`.
pub(super) fn optional(text: Option<&String>, field: &str) -> Result<Option<Duration>, Bad> {
    let read = text.map(|text| duration(text)).transpose();
    read.map_err(|message| Bad::at(field, message))
}

/// The same, which is more than nothing.
pub(super) fn positive(text: Option<&String>, field: &str) -> Result<Option<Duration>, Bad> {
    match optional(text, field)? {
        Some(time) if time.is_zero() => Err(Bad::at(field, "must be more than 0")),
        found => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_numbers_with_units_and_nothing_else() {
        assert_eq!(duration("1h1m1.5s"), Ok(Duration::from_millis(3_661_500)));
        assert_eq!(duration("20ms"), Ok(Duration::from_millis(20)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        for bad in ["", "1", "1d", "-1s", "s", ".s", "1..5s", "1e9s", "99999999999h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_share_is_exact_to_a_millionth_and_within_the_whole() {
        assert_eq!(Percent { value: 12.5 }.share(), Ok(125_000));
        assert_eq!(Percent { value: 0.0001 }.share(), Ok(1));
        for bad in [-1.0, 100.1, f64::NAN] {
            assert!(Percent { value: bad }.share().is_err(), "{bad}");
        }
    }
}
