//! What is to be drawn.

/// What runs along an axis.
#[derive(Clone, Debug, Default)]
pub struct Axis {
    /// What it is, with its unit.
    pub label: String,
    /// Logarithmic: values of 0 and below are left out.
    pub logarithmic: bool,
}

impl Axis {
    /// An axis from 0.
    pub fn linear(label: &str) -> Self {
        Self {
            label: label.to_owned(),
            logarithmic: false,
        }
    }

    /// An axis of powers of ten.
    pub fn logarithmic(label: &str) -> Self {
        Self {
            label: label.to_owned(),
            logarithmic: true,
        }
    }
}

/// One bar a name, from 0, each with its spread.
#[derive(Clone, Debug, Default)]
pub struct Bars {
    /// What is shown.
    pub title: String,
    /// Along the bars.
    pub value: Axis,
    /// From top to bottom.
    pub bars: Vec<Bar>,
}

/// One of them.
#[derive(Clone, Debug, Default)]
pub struct Bar {
    /// What stands before it.
    pub name: String,
    /// Which colour it has: the same number has the same one in all plots.
    pub colour: usize,
    /// How long it is.
    pub value: f64,
    /// From where to where the rounds went.
    pub spread: (f64, f64),
}

/// Lines through points.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    /// What is shown.
    pub title: String,
    /// Along the bottom.
    pub x: Axis,
    /// Along the left side.
    pub y: Axis,
    /// In the order of the legend.
    pub series: Vec<Series>,
}

/// One of them.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// What the legend says.
    pub name: String,
    /// Which colour and mark it has: the same number has the same ones in all plots.
    pub colour: usize,
    /// In the order of the line.
    pub points: Vec<(f64, f64)>,
    /// Where its mark stands: on each of few points, on some of a curve of hundreds.
    pub marks: Vec<(f64, f64)>,
}
