//! The plots of the pages.

use super::figure::{Figure, Kind, P50, P99};
use super::measured::Measured;
use culvert_report::Error;
use culvert_report::chart::{Axis, Bar, Bars, Lines, Series};

/// A plot, and the file that it is when it is not inside of a page.
pub(super) struct Plot {
    pub(super) file: String,
    /// What its reader must know.
    pub(super) what: String,
    pub(super) svg: String,
}

/// All that this run has data for.
pub(super) fn all(measured: &Measured<'_>) -> Result<Vec<Plot>, Error> {
    let mut plots = Vec::new();
    for load in measured.loads() {
        plots.extend(costs(measured, &load.name, &load.what)?);
    }
    for load in measured.loads() {
        plots.extend(times(measured, &load.name, &load.what)?);
    }
    for figure in [&P50, &P99] {
        plots.extend(rates(measured, figure)?);
    }
    plots.extend(memory(measured)?);
    Ok(plots)
}

/// What a unit of a load costs the proxies of each mode.
fn costs(measured: &Measured<'_>, load: &str, what: &str) -> Result<Option<Plot>, Error> {
    let figure = Kind::of(load).cost();
    let bars: Vec<Bar> = measured
        .modes()
        .enumerate()
        .filter_map(|(colour, mode)| {
            let spread = measured.spread(&mode.name, load, figure)?;
            Some(Bar {
                name: mode.name.clone(),
                colour,
                value: spread.median,
                spread: (spread.lowest, spread.highest),
            })
        })
        .collect();
    if bars.iter().all(|bar| bar.value <= 0.0) {
        return Ok(None);
    }
    let bars = Bars {
        title: format!("Proxies' CPU, {load}"),
        value: Axis::linear(figure.label),
        bars,
    };
    Ok(Some(Plot {
        file: format!("cpu-{load}.svg"),
        what: format!("{what}: medians; the line goes from the lowest round to the highest. Less is better."),
        svg: bars.svg()?,
    }))
}

/// The share of a load that took longer than a time, down to one in ten thousand.
fn times(measured: &Measured<'_>, load: &str, what: &str) -> Result<Option<Plot>, Error> {
    let series: Vec<Series> = measured
        .modes()
        .enumerate()
        .map(|(colour, mode)| {
            let buckets = measured.times(&mode.name, load);
            let points = tail(&buckets);
            Series {
                name: mode.name.clone(),
                colour,
                marks: marks(&points),
                points,
            }
        })
        .filter(|series| !series.points.is_empty())
        .collect();
    if series.is_empty() {
        return Ok(None);
    }
    let lines = Lines {
        title: format!("How long it takes, {load}"),
        x: Axis::logarithmic("time, us"),
        y: Axis::logarithmic("% that take longer"),
        series,
    };
    Ok(Some(Plot {
        file: format!("latency-{load}.svg"),
        what: format!(
            "{what}: all rounds together. Where a line crosses 50, 1 and 0.1% are p50, p99 and p99.9. Further left is better."
        ),
        svg: lines.svg()?,
    }))
}

/// Points (time, percent that take longer) of a histogram; one in ten thousand is the last, and needs as many.
fn tail(buckets: &[(u64, u64)]) -> Vec<(f64, f64)> {
    let all: u64 = buckets.iter().map(|(_, count)| count).sum();
    let lowest = 100.0 * (10.0 / all.max(1) as f64).max(1e-4);
    let mut left = all;
    let mut points = Vec::new();
    for (bound, count) in buckets.iter().filter(|(_, count)| *count > 0) {
        left -= count;
        let share = 100.0 * left as f64 / all as f64;
        if share < lowest {
            break;
        }
        points.push((*bound as f64, share));
    }
    points
}

/// The first points at or below a half, a tenth, a hundredth and a thousandth.
fn marks(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let shares = [50.0, 10.0, 1.0, 0.1];
    let at = |share: &f64| points.iter().copied().find(|point| point.1 <= *share);
    shares.iter().filter_map(at).collect()
}

/// A percentile at each fixed rate.
fn rates(measured: &Measured<'_>, figure: &Figure) -> Result<Option<Plot>, Error> {
    let loads: Vec<(f64, &str)> = measured
        .loads()
        .filter_map(|load| match Kind::of(&load.name) {
            Kind::Rate(rate) => Some((rate, load.name.as_str())),
            _ => None,
        })
        .collect();
    if loads.len() < 2 {
        return Ok(None);
    }
    let series = measured.modes().enumerate().map(|(colour, mode)| {
        let points: Vec<(f64, f64)> = loads
            .iter()
            .filter_map(|(rate, load)| Some((*rate, measured.spread(&mode.name, load, figure)?.median)))
            .collect();
        Series {
            name: mode.name.clone(),
            colour,
            marks: points.clone(),
            points,
        }
    });
    let lines = Lines {
        title: format!("{} at fixed rates", figure.label.trim_end_matches(", us")),
        x: Axis::logarithmic("requests/s, offered"),
        y: Axis::logarithmic(figure.label),
        series: series.filter(|series| !series.points.is_empty()).collect(),
    };
    Ok(Some(Plot {
        file: format!("rates-{}.svg", figure.key.trim_end_matches("_us")),
        what: "Time counts from when a request was due, so that one that waits for others is not forgotten. Lower is better.".to_owned(),
        svg: lines.svg()?,
    }))
}

/// Memory by open connections.
fn memory(measured: &Measured<'_>) -> Result<Option<Plot>, Error> {
    let of = |mode: &str| {
        let memory = measured.run.memory.iter().filter(|memory| memory.mode == mode);
        let mut points: Vec<(f64, f64)> = memory
            .map(|memory| (memory.connections as f64, memory.pss_mb))
            .collect();
        points.sort_by(|left, right| left.0.total_cmp(&right.0));
        points
    };
    let series = measured.modes().enumerate().map(|(colour, mode)| Series {
        name: mode.name.clone(),
        colour,
        points: of(&mode.name),
        marks: of(&mode.name),
    });
    let series: Vec<_> = series.filter(|series| series.points.len() > 1).collect();
    if series.is_empty() {
        return Ok(None);
    }
    let lines = Lines {
        title: "Memory of the proxies of one end".to_owned(),
        x: Axis::linear("open connections"),
        y: Axis::linear("PSS, MB"),
        series,
    };
    Ok(Some(Plot {
        file: "memory.svg".to_owned(),
        what: "What a process shares with others counts in parts. Lower is better.".to_owned(),
        svg: lines.svg()?,
    }))
}

#[cfg(test)]
mod tests {
    use super::tail;
    use culvert_report::stats::percentile;

    #[test]
    fn the_tail_of_a_histogram_crosses_a_percent_at_the_99th_percentile() {
        let buckets: Vec<(u64, u64)> = (1..=1000).map(|time| (time, 100)).collect();
        let points = tail(&buckets);
        let at_one = points.iter().find(|(_, share)| *share <= 1.0).unwrap();
        assert_eq!(at_one.0, percentile(&buckets, 0.99) as f64);
        assert!(points.iter().all(|(_, share)| *share >= 0.01), "{points:?}");
        assert!(tail(&[]).is_empty());
        assert!(tail(&[(7, 1)]).is_empty());
    }
}
