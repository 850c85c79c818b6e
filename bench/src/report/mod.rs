//! What becomes of a run: a table, one line of JSON, and pages with plots.
//!
//! | file | what |
//! |---|---|
//! | `noise` | whether a sample counts |
//! | `figure` | what is made of a sample: rates, costs per unit of work, percentiles |
//! | `measured` | figures of a mode and a load over the rounds, and their ratios |
//! | `targets` | what the project wants to reach, beside what was reached |
//! | `grid` | all of that as tables: [`show`] prints them, `page` puts them into pages |
//! | `plots` | the plots of the pages |
//! | `page` | the pages |
//! | `json` | the line of JSON |
//! | `synthetic` | tests: runs that nobody measured |

mod figure;
mod grid;
mod json;
mod measured;
mod noise;
mod page;
mod plots;
#[cfg(test)]
mod synthetic;
mod targets;
#[cfg(test)]
mod tests;

use crate::record::Run;
use anyhow::{Context, Result};
use measured::Measured;
pub(crate) use noise::disturbed;
use std::path::{Path, PathBuf};

/// The files that are written into a folder: `report.html`, `report.md` with its plots beside it, and the run itself, from which the
/// others can be made again.
const NAME: &str = "report";
const RUN: &str = "run.json";

/// Options of `culvert-bench report`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// A run, as `run.json` of an earlier report has it
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// End with one line of JSON
    #[arg(long)]
    json: bool,
    /// Write the report with its plots into this folder
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

/// Shows a run that was kept.
pub(crate) fn again(options: &Options) -> Result<()> {
    let file = || options.file.display().to_string();
    let text = std::fs::read_to_string(&options.file).with_context(file)?;
    let run = serde_json::from_str(&text).with_context(|| format!("{} is no run of this program", file()))?;
    show(&run, options.json, options.out.as_deref())
}

/// Prints what was measured, writes pages into the folder if there is one, and ends with a line of JSON if that is asked for.
///
/// A folder that cannot be written is an error, after everything has been printed.
pub(crate) fn show(run: &Run, json: bool, folder: Option<&Path>) -> Result<()> {
    let measured = Measured::of(run);
    println!("{}", grid::text(&measured));
    let written = folder.map(|folder| write(&measured, folder).map(|()| folder));
    if let Some(Ok(folder)) = &written {
        eprintln!("==> the report: {}", folder.join(format!("{NAME}.html")).display());
    }
    if json {
        println!("{}", serde_json::to_string(&json::object(&measured))?);
    }
    written.transpose().map(|_| ())
}

fn write(measured: &Measured<'_>, folder: &Path) -> Result<()> {
    let why = || format!("cannot write the report into {}", folder.display());
    page::page(measured)?.write(folder, NAME).with_context(why)?;
    std::fs::write(folder.join(RUN), serde_json::to_vec(measured.run)?).with_context(why)
}
