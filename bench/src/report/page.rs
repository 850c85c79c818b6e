//! The pages of a run.

use super::grid::{self, Cells};
use super::measured::Measured;
use super::plots;
use anyhow::Result;
use culvert_report::document::Document;

/// All of it.
pub(super) fn page(measured: &Measured<'_>) -> Result<Document> {
    let run = measured.run;
    let mut page = Document::new("What carrying traffic costs, with and without a mesh");
    page.text(&format!("Measured on {} by", run.began));
    page.code(&run.command);
    about(measured, &mut page);
    let remarks = grid::remarks(measured);
    if !remarks.is_empty() {
        page.heading("Missing, failed, disturbed");
        page.list(remarks);
    }
    // The targets first, because that is what most readers come for; then the plots; then every figure.
    let grids = grid::all(measured, Cells::Spreads);
    let (first, rest): (Vec<_>, Vec<_>) = grids
        .into_iter()
        .partition(|grid| matches!(grid.title, "Targets" | "Ratios"));
    for grid in first.into_iter().rev() {
        add(&mut page, grid);
    }
    page.heading("Plots");
    for plot in plots::all(measured)? {
        page.plot(&plot.file, &plot.what, plot.svg);
    }
    for grid in rest {
        add(&mut page, grid);
    }
    Ok(page)
}

fn add(page: &mut Document, grid: grid::Grid) {
    page.heading(grid.title);
    page.text(&grid.note);
    page.table(grid.header, grid.rows);
}

/// Machine, versions, modes and loads.
fn about(measured: &Measured<'_>, page: &mut Document) {
    let run = measured.run;
    let (replaced, kept) = measured.disturbed();
    let disturbed = replaced.len() + kept.len();
    let versions: Vec<_> = run
        .versions
        .iter()
        .map(|(program, version)| format!("{program} {version}"))
        .collect();
    page.heading("What was measured");
    let mut items = run.machine.items();
    items.extend([
        format!("Versions: {}", versions.join(", ")),
        format!(
            "{} rounds, all modes and loads in turns; {disturbed} of {} measurements were disturbed",
            measured.rounds(),
            run.samples.len()
        ),
    ]);
    page.list(items);
    let named = |named: &crate::record::Named| vec![named.name.clone(), named.what.clone()];
    let header = |what: &str| vec![what.to_owned(), "what it is".to_owned()];
    page.words(header("mode"), measured.modes().map(named).collect());
    page.words(header("load"), measured.loads().map(named).collect());
}
