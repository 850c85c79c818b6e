//! The figures as pages with plots of how they grow.

use std::path::Path;

use anyhow::{Context as _, Result};
use culvert_report::chart::{Axis, Lines, Series};
use culvert_report::document::Document;
use culvert_report::stats::exponent;

use crate::growth::Curves;
use crate::outcome::Outcome;
use crate::targets::Target;

/// Figures that are drawn together, because they have the same unit: how their names end, whether they are of processors, and what a plot
/// of them is.
const GROUPS: [(&str, bool, &str, &str); 5] = [
    ("_ms", true, "CPU", "CPU, ms"),
    ("_s", true, "CPU of connecting and loading", "CPU, s"),
    ("_ms", false, "Time until changes arrive", "time, ms"),
    ("_s", false, "Time of connecting and loading", "time, s"),
    ("_mb", false, "Memory", "MB"),
];

/// Writes `scale.html`, `scale.md` with its plots beside it, and all figures as `scale.json` into a folder.
pub(crate) fn write(outcome: &Outcome, folder: &Path) -> Result<()> {
    let page = page(outcome)?;
    let figures = serde_json::to_string_pretty(&outcome.json())?;
    let written = page.write(folder, "scale");
    written
        .and_then(|()| std::fs::write(folder.join("scale.json"), figures + "\n"))
        .with_context(|| format!("cannot write the report into {}", folder.display()))
}

fn page(outcome: &Outcome) -> Result<Document> {
    let (curves, nodes) = (&outcome.curves(), outcome.nodes);
    let mut page = Document::new("What the size of a cluster costs");
    page.text(&format!("Measured on {} by", outcome.began));
    page.code(&outcome.command);
    let mut items = outcome.machine.items();
    items.push(format!("Version: culvert {}", env!("CARGO_PKG_VERSION")));
    page.list(items);
    let aims = outcome.targets();
    if !aims.is_empty() {
        page.heading("Targets");
        let header = ["what", "at most", "reached", "met"].map(str::to_owned);
        page.table(header.into(), aims.iter().map(aim).collect());
    }
    page.heading("Growth");
    page.text(&format!(
        "With {nodes} simulated nodes. An exponent e says that a figure grows as size^e: 0 does not grow, 1 grows as the cluster does."
    ));
    let sizes = curves.sizes().map(|size| format!("{size} pods"));
    let header = std::iter::once(String::new())
        .chain(sizes)
        .chain(["exponent".to_owned()]);
    let row = |name: &str| {
        let points = curves.points(name);
        let at = |size: usize| points.iter().find(|point| point.0 == size as f64).map(|point| point.1);
        let cell = |figure: Option<f64>, decimals: usize| {
            figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.decimals$}"))
        };
        let cells = curves.sizes().map(|size| cell(at(size), 3));
        let growth = cell(exponent(&points), 2);
        std::iter::once(name.to_owned()).chain(cells).chain([growth]).collect()
    };
    page.table(header.collect(), curves.names().into_iter().map(row).collect());
    for (end, of_processors, title, unit) in GROUPS {
        let is_in = |name: &&str| name.ends_with(end) && name.contains("cpu") == of_processors;
        let names = curves.names().into_iter().filter(is_in);
        let series: Vec<Series> = names
            .enumerate()
            .map(|(colour, name)| line(curves, colour, name))
            .collect();
        if series.is_empty() {
            continue;
        }
        let lines = Lines {
            title: title.to_owned(),
            x: Axis::logarithmic("pods in the cluster"),
            y: Axis::logarithmic(unit),
            series,
        };
        let file = format!("scale-{}.svg", title.to_lowercase().replace(' ', "-"));
        page.plot(
            &file,
            "The exponent of each curve stands in parentheses. Flatter is better.",
            lines.svg()?,
        );
    }
    Ok(page)
}

fn aim(target: &Target) -> Vec<String> {
    let figure = |value: String| format!("{value} {}", target.unit).trim_end().to_owned();
    vec![
        target.what.to_owned(),
        figure(target.wanted.to_string()),
        figure(format!("{:.2}", target.reached)),
        target.verdict().to_owned(),
    ]
}

fn line(curves: &Curves<'_>, colour: usize, name: &str) -> Series {
    let points = curves.points(name);
    let growth = exponent(&points).map_or_else(String::new, |exponent| format!(" ({exponent:.2})"));
    Series {
        name: format!("{name}{growth}"),
        colour,
        marks: points.clone(),
        points,
    }
}

#[cfg(test)]
mod tests {
    use super::write;
    use crate::outcome::Outcome;

    #[test]
    fn pages_have_each_figure_with_its_exponent_and_a_plot_for_each_unit() {
        let figures = |size: f64| serde_json::json!({"change_cpu_ms": 0.5, "last_node_ms": 3.0 * size, "controller_mb": size.sqrt(), "woken": 2});
        let rounds = serde_json::json!({"1000": figures(1e3), "100000": figures(1e5)});
        let folder = tempfile::tempdir().expect("a folder");
        let outcome = Outcome {
            command: "culvert-bench-scale --out FOLDER".to_owned(),
            began: "2026-12-02T06:00:00Z".to_owned(),
            machine: Default::default(),
            nodes: 1000,
            pods: rounds.as_object().expect("an object").clone(),
            least: 2.0,
        };
        write(&outcome, folder.path()).expect("written");
        let text = std::fs::read_to_string(folder.path().join("scale.md")).expect("a page");
        for wanted in [
            "| last_node_ms | 3000.000 | 300000.000 | 1.00 |",
            "| change_cpu_ms | 0.500 | 0.500 | 0.00 |",
            "culvert-bench-scale --out FOLDER",
            "| the same (issue 9) |",
            "(scale-cpu.svg)",
            "(scale-memory.svg)",
            "(scale-time-until-changes-arrive.svg)",
        ] {
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
        let plot = std::fs::read_to_string(folder.path().join("scale-memory.svg")).expect("a plot");
        assert!(plot.contains("controller_mb (0.50)"), "{plot}");
    }
}
