//! Few rounds, and what can be said after them.

/// Two-sided 95% quantiles of Student's t for 1, 2, 3, ... degrees of freedom. Beyond them the normal distribution's 1.96 is within 3%.
const STUDENT: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];
const NORMAL: f64 = 1.96;

/// The middle one, or between the two in the middle; 0 of none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.as_slice() {
        [] => 0.0,
        odd if odd.len() % 2 == 1 => odd[middle],
        even => f64::midpoint(even[middle - 1], even[middle]),
    }
}

/// What several rounds measured of one thing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The lowest.
    pub lowest: f64,
    /// The highest.
    pub highest: f64,
}

impl Spread {
    /// None of nothing.
    pub fn of(values: &[f64]) -> Option<Self> {
        let lowest = values.iter().copied().min_by(f64::total_cmp)?;
        let highest = values.iter().copied().max_by(f64::total_cmp)?;
        Some(Self {
            median: median(values.to_vec()),
            lowest,
            highest,
        })
    }
}

/// One thing by another, over rounds that measured both.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// The median of the rounds' ratios.
    pub median: f64,
    /// The 95% confidence interval: see [`Ratio::of`]. None of one round.
    pub interval: Option<(f64, f64)>,
    /// Rounds that measured both.
    pub rounds: usize,
}

/// What a ratio says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Less than 1, and the interval with it.
    Less,
    /// More than 1, and the interval with it.
    More,
    /// The interval holds 1: the spread is wider than the difference.
    NoDifference,
    /// One round, which says nothing of its spread.
    OneRound,
}

impl Ratio {
    /// Of pairs of what the same round measured, (this, by that). Pairs with anything but numbers above 0 are left out.
    ///
    /// The interval is Student's, of the logarithms: a ratio and its inverse are as far from 1, and with the few rounds of a benchmark
    /// there is too little to draw a bootstrap from (of three rounds it could not be wider than they are). Where the median lies beside
    /// it, as it can with skewed rounds, the interval is extended to it.
    pub fn of(pairs: &[(f64, f64)]) -> Option<Self> {
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let ratios = pairs.iter().filter(|(this, that)| positive(*this) && positive(*that));
        let ratios: Vec<f64> = ratios.map(|(this, that)| this / that).collect();
        let rounds = ratios.len();
        if rounds == 0 {
            return None;
        }
        let median = median(ratios.clone());
        let interval = (rounds > 1).then(|| {
            let logarithms: Vec<f64> = ratios.iter().map(|ratio| ratio.ln()).collect();
            let mean = logarithms.iter().sum::<f64>() / rounds as f64;
            let squares: f64 = logarithms.iter().map(|value| (value - mean).powi(2)).sum();
            let error = (squares / (rounds - 1) as f64 / rounds as f64).sqrt();
            let reach = error * STUDENT.get(rounds - 2).copied().unwrap_or(NORMAL);
            ((mean - reach).exp().min(median), (mean + reach).exp().max(median))
        });
        Some(Self {
            median,
            interval,
            rounds,
        })
    }

    /// What it says.
    pub fn verdict(&self) -> Verdict {
        match self.interval {
            None => Verdict::OneRound,
            Some((_, high)) if high < 1.0 => Verdict::Less,
            Some((low, _)) if low > 1.0 => Verdict::More,
            Some(_) => Verdict::NoDifference,
        }
    }
}

/// The value that this share (0 to 1) of all are at most, of buckets (upper bound, how many) in any order; 0 of none.
pub fn percentile(buckets: &[(u64, u64)], share: f64) -> u64 {
    let mut sorted: Vec<_> = buckets.iter().copied().filter(|(_, count)| *count > 0).collect();
    sorted.sort_unstable();
    let all: u64 = sorted.iter().map(|(_, count)| count).sum();
    let wanted = ((all as f64 * share).ceil() as u64).clamp(1, all.max(1));
    let mut seen = 0;
    for (bound, count) in &sorted {
        seen += count;
        if seen >= wanted {
            return *bound;
        }
    }
    0
}

/// The exponent of y = c x^e that fits points best, by least squares of their logarithms: 1 is linear, 0 does not grow. Points with
/// anything but numbers above 0 are left out; none of fewer than two different x.
pub fn exponent(points: &[(f64, f64)]) -> Option<f64> {
    let positive = |value: f64| value.is_finite() && value > 0.0;
    let points = points.iter().filter(|(x, y)| positive(*x) && positive(*y));
    let points: Vec<(f64, f64)> = points.map(|(x, y)| (x.ln(), y.ln())).collect();
    let count = points.len() as f64;
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / count;
    let along: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    let together: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    (along > 1e-9).then(|| together / along)
}

#[cfg(test)]
mod tests {
    use super::{Ratio, Spread, Verdict, exponent, median, percentile};

    #[test]
    fn the_median_is_the_middle_one_or_between_the_two_in_the_middle() {
        assert_eq!(median(vec![]), 0.0);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(Spread::of(&[]), None);
        let spread = Spread::of(&[3.0, 1.0, 2.0]);
        assert_eq!(spread.map(|spread| (spread.lowest, spread.highest)), Some((1.0, 3.0)));
    }

    #[test]
    fn rounds_that_agree_show_a_difference_and_rounds_that_do_not_show_none() {
        let close = Ratio::of(&[(50.0, 100.0), (52.0, 100.0), (49.0, 100.0)]).unwrap();
        assert_eq!((close.median, close.verdict()), (0.5, Verdict::Less));
        let inverse = Ratio::of(&[(100.0, 50.0), (100.0, 52.0), (100.0, 49.0)]).unwrap();
        assert_eq!((inverse.median, inverse.verdict()), (2.0, Verdict::More));
        let wide = Ratio::of(&[(50.0, 100.0), (130.0, 100.0), (70.0, 100.0)]).unwrap();
        assert_eq!(wide.verdict(), Verdict::NoDifference);
    }

    #[test]
    fn a_slow_round_that_is_slow_for_both_does_not_hide_the_difference() {
        let ratio = Ratio::of(&[(50.0, 100.0), (500.0, 1000.0), (5.1, 10.0)]).unwrap();
        assert_eq!(ratio.verdict(), Verdict::Less);
    }

    #[test]
    fn the_interval_is_students() {
        // Of logarithms -0.1, 0 and 0.1: 4.303 * 0.1 / sqrt(3).
        let ratio = Ratio::of(&[((-0.1f64).exp(), 1.0), (1.0, 1.0), (0.1f64.exp(), 1.0)]).unwrap();
        let (low, high) = ratio.interval.unwrap();
        assert!(
            (low.ln() + 0.24843).abs() < 1e-4 && (high.ln() - 0.24843).abs() < 1e-4,
            "{low} {high}"
        );
    }

    #[test]
    fn one_round_says_nothing_and_zeros_are_no_rounds() {
        assert_eq!(
            Ratio::of(&[(1.0, 2.0), (0.0, 2.0), (1.0, f64::NAN)]).unwrap().verdict(),
            Verdict::OneRound
        );
        assert_eq!(Ratio::of(&[(0.0, 0.0)]), None);
    }

    #[test]
    fn percentiles_are_bounds_of_buckets() {
        let buckets = [(300, 1), (100, 90), (200, 9), (50, 0)];
        assert_eq!(percentile(&buckets, 0.5), 100);
        assert_eq!(percentile(&buckets, 0.99), 200);
        assert_eq!(percentile(&buckets, 0.999), 300);
        assert_eq!(percentile(&buckets, 0.0), 100);
        assert_eq!(percentile(&[], 0.5), 0);
    }

    #[test]
    fn the_exponent_of_growth_is_a_slope_of_logarithms() {
        let of = |power: f64| exponent(&[1e3, 1e4, 1e5].map(|x: f64| (x, 3.0 * x.powf(power)))).unwrap();
        for power in [0.0, 0.5, 1.0, 2.0] {
            assert!((of(power) - power).abs() < 1e-9);
        }
        assert_eq!(exponent(&[(10.0, 1.0), (10.0, 2.0)]), None);
        assert_eq!(exponent(&[(10.0, 1.0), (20.0, 0.0)]), None);
    }
}
