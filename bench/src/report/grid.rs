//! What was measured, as tables, and those as text.

use super::measured::Measured;
use super::{figure::Kind, targets};
use crate::record::Sample;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use culvert_report::stats::{Ratio, Spread, Verdict};

/// A table; the first column names the rows.
pub(super) struct Grid {
    pub(super) title: &'static str,
    /// What a reader must know of it.
    pub(super) note: String,
    pub(super) header: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
}

/// How much of the spread is in the cells.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Cells {
    /// Medians: for terminals.
    Medians,
    /// Medians, and from where to where the rounds went.
    Spreads,
}

/// All tables that have rows.
pub(super) fn all(measured: &Measured<'_>, cells: Cells) -> Vec<Grid> {
    let grids = [
        figures(measured, cells),
        memory(measured),
        hooks(measured),
        ratios(measured, cells),
        outcomes(measured),
    ];
    grids.into_iter().filter(|grid| !grid.rows.is_empty()).collect()
}

/// As it is printed.
pub(super) fn text(measured: &Measured<'_>) -> String {
    let mut text = String::new();
    for grid in all(measured, Cells::Medians) {
        text += &format!("{}\n{}\n{}\n\n", grid.title, table(&grid), grid.note);
    }
    for remark in remarks(measured) {
        text += &format!("{remark}\n");
    }
    text.trim_end().to_owned()
}

/// What is missing and what was disturbed, in sentences.
pub(super) fn remarks(measured: &Measured<'_>) -> Vec<String> {
    let missing = measured.run.missing.iter().map(|missing| {
        let load = missing
            .load
            .as_ref()
            .map(|load| format!(", {load}"))
            .unwrap_or_default();
        format!("missing: {}{load}: {}", missing.mode, missing.why)
    });
    let (replaced, kept) = measured.disturbed();
    // On a busy machine that is each of them; the run has them all.
    let said = |samples: Vec<&Sample>, what: &'static str| {
        let of_mode = |mode: &str| {
            let mut of_mode = samples.iter().filter(|sample| sample.mode == mode);
            let last = of_mode.next_back()?;
            let times = match of_mode.count() {
                0 => ",".to_owned(),
                others => format!(" {} times, at last in", others + 1),
            };
            let why = last.disturbed.clone().unwrap_or_default();
            Some(format!(
                "{what}: {mode}{times} {}, round {}: {why}",
                last.load, last.round
            ))
        };
        let modes = measured.modes().filter_map(|mode| of_mode(&mode.name));
        modes.collect::<Vec<_>>()
    };
    let failed = measured
        .run
        .samples
        .iter()
        .filter(|sample| sample.failed > 0)
        .map(|sample| {
            format!(
                "FAILED: {}, {}, round {}: {} of its requests or connections",
                sample.mode, sample.load, sample.round, sample.failed
            )
        });
    missing
        .chain(failed)
        .chain(said(replaced, "disturbed and repeated"))
        .chain(said(kept, "disturbed each time, and counted for want of a better one"))
        .collect()
}

fn header(measured: &Measured<'_>) -> Vec<String> {
    let modes = measured.modes().map(|mode| mode.name.clone());
    std::iter::once(String::new()).chain(modes).collect()
}

/// A row of one cell a mode; none where no mode has one.
fn row(measured: &Measured<'_>, label: &str, cell: impl Fn(&str) -> Option<String>) -> Option<Vec<String>> {
    let cells: Vec<_> = measured.modes().map(|mode| cell(&mode.name)).collect();
    let any = cells.iter().any(Option::is_some);
    let cells = cells.into_iter().map(|cell| cell.unwrap_or_else(|| "-".to_owned()));
    any.then(|| std::iter::once(label.to_owned()).chain(cells).collect())
}

fn figures(measured: &Measured<'_>, cells: Cells) -> Grid {
    let mut rows = Vec::new();
    for load in measured.loads() {
        let mut name = vec![load.name.clone()];
        name.resize(header(measured).len(), String::new());
        rows.push(name);
        for figure in Kind::of(&load.name).figures() {
            let cell = |mode: &str| {
                let spread = measured.spread(mode, &load.name, figure)?;
                Some(written(&spread, figure.decimals, cells))
            };
            rows.extend(row(measured, &format!("  {}", figure.label), cell));
        }
    }
    let spread = match cells {
        Cells::Medians => "",
        Cells::Spreads => ", from the lowest to the highest in parentheses",
    };
    Grid {
        title: "Figures",
        note: format!(
            "Medians of {} rounds{spread}. CPU is user and system time, the proxies' of both ends together, and the whole machine's; client, \
             server and proxies share {} processors.",
            measured.rounds(),
            measured.run.machine.processors,
        ),
        header: header(measured),
        rows,
    }
}

fn memory(measured: &Measured<'_>) -> Grid {
    let mut connections: Vec<u64> = measured.run.memory.iter().map(|memory| memory.connections).collect();
    connections.sort_unstable();
    connections.dedup();
    let rows = connections.into_iter().filter_map(|connections| {
        let label = match connections {
            0 => "idle".to_owned(),
            some => format!("{some} connections"),
        };
        row(measured, &label, |mode| {
            Some(format!("{:.1}", measured.memory(mode, connections)?))
        })
    });
    Grid {
        title: "Memory, PSS in MB",
        note: "Of the proxies of the end that holds most; what processes share counts once.".to_owned(),
        header: header(measured),
        rows: rows.collect(),
    }
}

fn hooks(measured: &Measured<'_>) -> Grid {
    let rows = measured.run.hooks.iter().map(|hook| {
        let name = format!("{}, {}", hook.mode, hook.name);
        vec![name, format!("{:.0}", hook.nanoseconds), hook.calls.to_string()]
    });
    Grid {
        title: "Kernel programs",
        note: "Counted by the kernel, which costs some 20 ns a call by itself.".to_owned(),
        header: ["", "ns a call", "calls"].map(str::to_owned).to_vec(),
        rows: rows.collect(),
    }
}

fn ratios(measured: &Measured<'_>, cells: Cells) -> Grid {
    let reference = measured.reference().unwrap_or_default();
    let others = || measured.modes().filter(move |mode| mode.name != reference);
    let mut rows = Vec::new();
    for load in measured.loads() {
        for figure in Kind::of(&load.name).compared() {
            let ratio = |mode: &str| measured.ratio(reference, mode, &load.name, figure);
            let ratios: Vec<_> = others().map(|mode| ratio(&mode.name)).collect();
            if ratios.iter().any(Option::is_some) {
                let written = |ratio: &Ratio| compared(ratio, cells);
                let cells = ratios
                    .iter()
                    .map(|ratio| ratio.as_ref().map_or_else(|| "-".to_owned(), written));
                let label = format!("{}: {}", load.name, figure.label);
                rows.push(std::iter::once(label).chain(cells).collect());
            }
        }
    }
    let by = others().map(|mode| format!("by {}", mode.name));
    let header = std::iter::once(format!("{reference} ...")).chain(by).collect();
    Grid {
        title: "Ratios",
        note: "The median of the rounds' ratios, with its 95% confidence interval (Student's, of logarithms). \"No difference\": the interval \
               holds 1, so that the spread is wider than the difference."
            .to_owned(),
        header,
        rows,
    }
}

fn outcomes(measured: &Measured<'_>) -> Grid {
    let rows = targets::outcomes(measured).into_iter().map(|outcome| {
        let interval = outcome.interval.map(|(low, high)| format!(" ({low:.2} to {high:.2})"));
        let reached = format!(
            "{:.2}{} {}",
            outcome.reached,
            interval.unwrap_or_default(),
            outcome.unit
        );
        vec![
            outcome.what,
            format!("{} {}", outcome.wanted, outcome.unit),
            reached,
            outcome.met.to_string(),
        ]
    });
    Grid {
        title: "Targets",
        note: "Of issue 12, as far as their modes are in this run; scale has a run of its own (--scale). \"Within the spread\": the median \
               misses it by less than the rounds differ."
            .to_owned(),
        header: ["", "wanted", "this run", "reached"].map(str::to_owned).to_vec(),
        rows: rows.collect(),
    }
}

fn written(spread: &Spread, decimals: usize, cells: Cells) -> String {
    let Spread {
        median,
        lowest,
        highest,
    } = spread;
    match cells {
        Cells::Medians => format!("{median:.decimals$}"),
        Cells::Spreads => format!("{median:.decimals$} ({lowest:.decimals$} to {highest:.decimals$})"),
    }
}

/// A ratio as it is read.
pub(super) fn compared(ratio: &Ratio, cells: Cells) -> String {
    let interval = ratio
        .interval
        .map(|(low, high)| format!(" ({low:.2} to {high:.2})"))
        .unwrap_or_default();
    match (ratio.verdict(), cells) {
        (Verdict::Less | Verdict::More, _) => format!("{:.2}{interval}", ratio.median),
        (Verdict::NoDifference, Cells::Medians) => "no difference".to_owned(),
        (Verdict::NoDifference, Cells::Spreads) => format!("no difference{interval}"),
        (Verdict::OneRound, _) => format!("{:.2} (one round)", ratio.median),
    }
}

fn table(grid: &Grid) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::ASCII_MARKDOWN)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(&grid.header)
        .add_rows(&grid.rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
