//! The table, for people, and the JSON, for programs.

use crate::record::{Run, Sample};
use anyhow::Result;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// Prints the table, what is missing from it, and with `json` the whole run in one line.
pub(super) fn show(run: &Run, json: bool) -> Result<()> {
    println!("{}", table(run));
    for missing in &run.missing {
        let load = missing
            .load
            .as_deref()
            .map_or_else(String::new, |load| format!(", {load}"));
        println!("not measured: {}{load}: {}", missing.mode, missing.why);
    }
    if json {
        println!("{}", serde_json::to_string(run)?);
    }
    Ok(())
}

/// Why a sample does not count.
pub(super) fn disturbed(_sample: &Sample) -> Option<String> {
    None
}

fn table(run: &Run) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::ASCII_MARKDOWN)
        .set_content_arrangement(ContentArrangement::Disabled);
    let modes = run.modes.iter().map(|mode| mode.name.clone());
    table.set_header(std::iter::once(String::new()).chain(modes).collect::<Vec<_>>());
    let mut row = |label: String, values: Vec<Option<f64>>| {
        let cells = values
            .iter()
            .map(|value| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}")));
        table.add_row(std::iter::once(label).chain(cells).collect::<Vec<_>>());
    };
    for load in &run.loads {
        let figure = |value: &dyn Fn(&Sample) -> f64| -> Vec<Option<f64>> {
            let of = |mode: &str| -> Vec<f64> {
                let samples = run
                    .samples
                    .iter()
                    .filter(|sample| sample.mode == mode && sample.load == load.name);
                samples.map(value).collect()
            };
            let all = run.modes.iter().map(|mode| of(&mode.name));
            all.map(|values| (!values.is_empty()).then(|| median(values))).collect()
        };
        let rate = |sample: &Sample| match sample.count {
            0 => sample.bytes as f64 * 8e-9 / sample.seconds,
            count => count as f64 / sample.seconds,
        };
        let cost = |sample: &Sample| match sample.count {
            0 => sample.proxies.cpu_seconds * 1e9 / (sample.bytes as f64).max(1.0),
            count => sample.proxies.cpu_seconds * 1e5 / count as f64,
        };
        row(format!("{}, Gbit/s or 1/s", load.name), figure(&rate));
        row("  proxies' CPU, s per GB or 100,000".to_owned(), figure(&cost));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// The middle one, or between the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.as_slice() {
        [] => 0.0,
        odd if odd.len() % 2 == 1 => odd[middle],
        even => f64::midpoint(even[middle - 1], even[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_the_middle_one_or_between_the_two_in_the_middle() {
        assert_eq!(median(vec![]), 0.0);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
