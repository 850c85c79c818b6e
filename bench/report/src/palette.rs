//! Colours and marks that colour-blind readers can tell apart (Okabe and Ito, "Color Universal Design", 2008), on light and dark ground.

use plotters::style::RGBColor;

/// Text and axes. Drawn in these colours, which a style replaces on dark ground: see [`STYLE`].
pub(crate) const INK: RGBColor = RGBColor(0x1b, 0x1f, 0x24);
/// Lines of the grid.
pub(crate) const GRID: RGBColor = RGBColor(0xdd, 0xdf, 0xe3);

const COLOURS: [RGBColor; 7] = [
    RGBColor(0x6b, 0x72, 0x80), // grey, for what all are compared with, in place of black
    RGBColor(0x00, 0x72, 0xb2), // blue
    RGBColor(0xe6, 0x9f, 0x00), // orange
    RGBColor(0x00, 0x9e, 0x73), // bluish green
    RGBColor(0xcc, 0x79, 0xa7), // reddish purple
    RGBColor(0xd5, 0x5e, 0x00), // vermilion
    RGBColor(0x56, 0xb4, 0xe9), // sky blue
];

/// What every plot carries with it: a page may have light or dark ground.
pub(crate) const STYLE: &str = "\
.culvert-plot{font-family:system-ui,sans-serif}\
@media (prefers-color-scheme:dark){\
.culvert-plot [fill='#1B1F24']{fill:#e6e8eb}.culvert-plot [stroke='#1B1F24']{stroke:#e6e8eb}\
.culvert-plot [stroke='#DDDFE3']{stroke:#343a42}\
.culvert-plot [fill='#0072B2']{fill:#4d7dff}.culvert-plot [stroke='#0072B2']{stroke:#4d7dff}\
.culvert-plot [fill='#6B7280']{fill:#9aa3b0}.culvert-plot [stroke='#6B7280']{stroke:#9aa3b0}}";

/// The shape that stands at a line's points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    Disc,
    Triangle,
    Cross,
    Ring,
}

/// The colour of this number.
pub(crate) fn colour(number: usize) -> RGBColor {
    COLOURS[number % COLOURS.len()]
}

/// The mark of this number. Colour and mark together come again after 28.
pub(crate) fn mark(number: usize) -> Mark {
    [Mark::Disc, Mark::Triangle, Mark::Cross, Mark::Ring][number % 4]
}
