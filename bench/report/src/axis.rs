//! Where an axis begins and ends, and which of its values are written.
//!
//! All drawing is on linear axes: a logarithmic one is linear in the logarithm of its values, with labels of our own, so that both kinds
//! are one type.

use crate::chart::Axis;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use std::ops::Range;

/// An axis made for its values.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scale {
    logarithmic: bool,
    /// Where it begins and ends, as positions.
    pub(crate) range: (f64, f64),
    /// Positions that have a label, and a line of the grid.
    pub(crate) labels: Vec<f64>,
}

impl Ranged for Scale {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, position: &f64, (from, to): (i32, i32)) -> i32 {
        let share = (position - self.range.0) / (self.range.1 - self.range.0);
        // `as` keeps what is far outside of the plot at its edge of the number's range.
        from + (share * f64::from(to - from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // The lighter lines between, of which there are none, are asked for the same way.
        if hint.weight().allow_light_points() {
            Vec::new()
        } else {
            self.labels.clone()
        }
    }

    fn range(&self) -> Range<f64> {
        self.range.0..self.range.1
    }
}

impl ValueFormatter<f64> for Scale {
    fn format(position: &f64) -> String {
        // Labels are written by `label`, which knows the axis.
        number(*position)
    }
}

impl Scale {
    /// From 0, or from the power of ten below, to a little more than the highest.
    pub(crate) fn of(axis: &Axis, values: impl Iterator<Item = f64>) -> Self {
        let drawable: Vec<f64> = values.filter(|value| is_drawable(axis.logarithmic, *value)).collect();
        let highest = drawable.iter().copied().max_by(f64::total_cmp).unwrap_or(1.0);
        let lowest = drawable.iter().copied().min_by(f64::total_cmp).unwrap_or(1.0);
        if axis.logarithmic {
            Self::logarithmic(lowest, highest)
        } else {
            Self::linear(highest)
        }
    }

    /// As many rows, with a label in the middle of each.
    pub(crate) fn rows(count: usize) -> Self {
        Self {
            logarithmic: false,
            range: (0.0, count as f64),
            labels: (0..count).map(|row| row as f64 + 0.5).collect(),
        }
    }

    fn linear(highest: f64) -> Self {
        let highest = if highest > 0.0 { highest } else { 1.0 };
        let step = step(highest);
        let end = highest * 1.08;
        let labels = (0..)
            .map(|number| f64::from(number) * step)
            .take_while(|value| *value <= end);
        Self {
            logarithmic: false,
            range: (0.0, end),
            labels: labels.collect(),
        }
    }

    fn logarithmic(lowest: f64, highest: f64) -> Self {
        let (begin, end) = (lowest.log10() - 0.04, highest.log10() + 0.06);
        // Few decades have room for more labels.
        let factors: &[f64] = match end - begin {
            few if few < 1.2 => &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0],
            some if some < 3.2 => &[1.0, 2.0, 5.0],
            _ => &[1.0],
        };
        let decades = (begin.floor() as i32)..=(end.ceil() as i32);
        let labels = decades.flat_map(|decade| factors.iter().map(move |factor| f64::from(decade) + factor.log10()));
        Self {
            logarithmic: true,
            range: (begin, end),
            labels: labels.filter(|at| (begin..=end).contains(at)).collect(),
        }
    }

    /// Where a value is. None of what a logarithmic axis does not have.
    pub(crate) fn position(&self, value: f64) -> Option<f64> {
        is_drawable(self.logarithmic, value).then(|| if self.logarithmic { value.log10() } else { value })
    }

    /// What is written at a position.
    pub(crate) fn label(&self, position: f64) -> String {
        number(if self.logarithmic {
            10f64.powf(position)
        } else {
            position
        })
    }
}

fn is_drawable(logarithmic: bool, value: f64) -> bool {
    value.is_finite() && (!logarithmic || value > 0.0)
}

/// 1, 2 or 5 times a power of ten, of which four to nine make this.
fn step(highest: f64) -> f64 {
    let rough = highest / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let factors = [1.0, 2.0, 5.0, 10.0];
    factors
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= rough)
        .unwrap_or(rough)
}

/// A number as short as its digits allow: 1,500 as 1.5k, three digits at most of what is not whole.
pub(crate) fn number(value: f64) -> String {
    let (value, unit) = match value.abs() {
        millions if millions >= 999_999.5 => (value / 1e6, "M"),
        thousands if thousands >= 999.95 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let decimals = match value.abs() {
        0.0 => 0,
        large if large >= 100.0 => 0,
        some if some >= 1.0 => 2,
        small => (2.0 - small.log10().floor()).clamp(0.0, 9.0) as usize,
    };
    let digits = format!("{value:.decimals$}");
    let digits = if digits.contains('.') {
        digits.trim_end_matches('0').trim_end_matches('.')
    } else {
        &digits
    };
    format!("{digits}{unit}")
}

#[cfg(test)]
mod tests {
    use super::{Scale, number};
    use crate::chart::Axis;

    #[test]
    fn labels_are_round_numbers_within_the_axis() {
        let scale = Scale::of(&Axis::linear("s"), [0.73, 1.14].into_iter());
        let labels: Vec<_> = scale.labels.iter().map(|at| scale.label(*at)).collect();
        assert_eq!(labels, ["0", "0.5", "1"]);
        let scale = Scale::of(&Axis::logarithmic("us"), [90.0, 30_000.0].into_iter());
        let labels: Vec<_> = scale.labels.iter().map(|at| scale.label(*at)).collect();
        assert_eq!(labels, ["100", "200", "500", "1k", "2k", "5k", "10k", "20k"]);
    }

    #[test]
    fn a_logarithmic_axis_has_no_place_for_zero_and_nothing_at_all_still_makes_an_axis() {
        let scale = Scale::of(&Axis::logarithmic("us"), [0.0, 10.0, 100.0].into_iter());
        assert_eq!((scale.position(0.0), scale.position(f64::NAN)), (None, None));
        assert_eq!(scale.position(100.0), Some(2.0));
        for axis in [Axis::linear("x"), Axis::logarithmic("x")] {
            let scale = Scale::of(&axis, [].into_iter());
            assert!(scale.range.0 < scale.range.1 && !scale.labels.is_empty(), "{scale:?}");
        }
    }

    #[test]
    fn numbers_are_short() {
        let said = [0.0, 0.05, 0.125, 1.5, 20.0, 150.0, 1500.0, 20_000.0, 1e6, 0.000_02].map(number);
        assert_eq!(
            said,
            ["0", "0.05", "0.125", "1.5", "20", "150", "1.5k", "20k", "1M", "0.00002"]
        );
    }
}
