//! What benchmarks have in common once they have measured: statistics, plots and pages.
//!
//! | file | what |
//! |---|---|
//! | `stats` | medians, percentiles of histograms, ratios with their confidence intervals, the exponent of growth |
//! | `chart` | what is to be drawn, in data: bars with their spread, lines on linear and logarithmic axes |
//! | `draw` | that as SVG, by `plotters`, readable on light and dark ground |
//! | `axis` | where an axis begins and ends, and which of its values are written |
//! | `palette` | colours and marks that colour-blind readers can tell apart |
//! | `machine` | the machine that something was measured on |
//! | `document` | headings, paragraphs, tables and plots as one page of HTML or Markdown |
//!
//! Nothing here measures, and nothing knows what was measured. To show how something grows, make [`chart::Lines`] with both axes
//! logarithmic and put [`stats::exponent`] beside it: 1 is linear, 0 does not grow.
#![forbid(unsafe_code)]

mod axis;
pub mod chart;
pub mod document;
mod draw;
pub mod machine;
mod palette;
pub mod stats;

pub use draw::Error;
