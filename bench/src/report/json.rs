//! A run as one object of JSON: every sample, and what was made of them.
//!
//! `modes.MODE.LOAD.FIGURE` is the median over the rounds, `modes.MODE.LOAD.spread.FIGURE` the lowest and the highest. Beside its loads a
//! mode has `pss_mb` by connections, and figures by names that older versions of this program gave them.

use super::figure::{CPU, CPU_GB, Figure, GBIT, Kind, P50, P99, RATE};
use super::measured::Measured;
use super::targets;
use culvert_report::stats::Verdict;
use serde_json::{Map, Value, json};

/// All of it.
pub(super) fn object(measured: &Measured<'_>) -> Value {
    let modes = measured
        .modes()
        .map(|mode| (mode.name.clone(), of_mode(measured, &mode.name)));
    json!({
        "modes": modes.collect::<Map<_, _>>(),
        "ratios": ratios(measured),
        "targets": targets::outcomes(measured),
        "run": measured.run,
    })
}

fn of_mode(measured: &Measured<'_>, mode: &str) -> Value {
    let mut object = Map::new();
    for load in measured.loads() {
        let (mut figures, mut spreads) = (Map::new(), Map::new());
        for figure in Kind::of(&load.name).figures() {
            if let Some(spread) = measured.spread(mode, &load.name, figure) {
                figures.insert(figure.key.to_owned(), rounded(spread.median));
                spreads.insert(
                    figure.key.to_owned(),
                    json!([rounded(spread.lowest), rounded(spread.highest)]),
                );
            }
        }
        if !figures.is_empty() {
            figures.insert("spread".to_owned(), spreads.into());
            object.insert(load.name.clone(), figures.into());
        }
    }
    let memory = measured.run.memory.iter().filter(|memory| memory.mode == mode);
    let memory: Map<_, _> = memory
        .map(|memory| (memory.connections.to_string(), rounded(memory.pss_mb)))
        .collect();
    object.insert("pss_mb".to_owned(), memory.into());
    for (key, load, figure) in by_old_names(measured) {
        if let Some(spread) = measured.spread(mode, load, figure) {
            object.insert(key.to_owned(), rounded(spread.median));
        }
    }
    object.into()
}

/// The first load of each kind, for requests the one of 16 connections.
fn by_old_names<'run>(measured: &Measured<'run>) -> Vec<(&'static str, &'run str, &'static Figure)> {
    let stream = measured.first_load(|kind| kind == Kind::Streams);
    let mut requests = measured
        .loads()
        .filter(|load| Kind::of(&load.name) == Kind::Requests)
        .map(|load| load.name.as_str());
    let requests = measured
        .loads()
        .map(|load| load.name.as_str())
        .find(|load| *load == "requests-16")
        .or_else(|| requests.next());
    let connections = measured.first_load(|kind| kind == Kind::Connections);
    let names = [
        ("gbit_per_s", stream, &GBIT),
        ("cpu_s_per_gb", stream, &CPU_GB),
        ("requests_per_s", requests, &RATE),
        ("cpu_s_per_100k_requests", requests, &CPU),
        ("p50_us", requests, &P50),
        ("p99_us", requests, &P99),
        ("connections_per_s", connections, &RATE),
        ("cpu_s_per_100k_connections", connections, &CPU),
    ];
    names
        .into_iter()
        .filter_map(|(key, load, figure)| Some((key, load?, figure)))
        .collect()
}

/// `ratios.MODE.LOAD.FIGURE`: the reference's figure by that of this mode.
fn ratios(measured: &Measured<'_>) -> Value {
    let reference = measured.reference().unwrap_or_default();
    let mut modes = Map::new();
    for mode in measured.modes().filter(|mode| mode.name != reference) {
        let mut loads = Map::new();
        for load in measured.loads() {
            let ratio = |figure: &&&Figure| {
                let ratio = measured.ratio(reference, &mode.name, &load.name, figure)?;
                let verdict = match ratio.verdict() {
                    Verdict::Less => "less",
                    Verdict::More => "more",
                    Verdict::NoDifference => "no difference",
                    Verdict::OneRound => "one round",
                };
                let interval = ratio.interval.map(|(low, high)| [rounded(low), rounded(high)]);
                let value = json!({
                    "median": rounded(ratio.median), "interval": interval, "rounds": ratio.rounds, "verdict": verdict,
                });
                Some((figure.key.to_owned(), value))
            };
            let figures: Map<_, _> = Kind::of(&load.name)
                .compared()
                .iter()
                .filter_map(|figure| ratio(&figure))
                .collect();
            if !figures.is_empty() {
                loads.insert(load.name.clone(), figures.into());
            }
        }
        modes.insert(mode.name.clone(), loads.into());
    }
    json!({ "of": reference, "by": modes })
}

/// Six digits are more than a measurement carries.
fn rounded(value: f64) -> Value {
    let text = format!("{value:.5e}");
    text.parse::<f64>().map_or(Value::Null, |value| json!(value))
}
