//! Plots as SVG.

use crate::axis::{Scale, number};
use crate::chart::{Axis, Bars, Lines, Series};
use crate::palette::{GRID, INK, Mark, STYLE, colour, mark};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Width of every plot, pixels of SVG, which a page scales.
const WIDTH: u32 = 860;
const LINES_HEIGHT: u32 = 380;
/// Of a legend, with its marks.
const LEGEND_WIDTH: std::ops::RangeInclusive<u32> = 140..=400;
const BAR_HEIGHT: u32 = 28;
/// Of one letter, where room is made for names: no fonts are at hand to measure them.
const LETTER_WIDTH: u32 = 7;
/// `plotters` divides by 1.24 what it is asked for.
const TEXT: (&str, f64) = ("system-ui, sans-serif", 15.5);
const TITLE: (&str, f64) = ("system-ui, sans-serif", 18.5);

/// Why something could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("cannot draw \"{title}\": {why}")]
pub struct Error {
    title: String,
    why: String,
}

type Area<'svg> = DrawingArea<SVGBackend<'svg>, Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

impl Bars {
    /// As SVG that can be in a page or a file of its own.
    pub fn svg(&self) -> Result<String, Error> {
        let height = 96 + BAR_HEIGHT * self.bars.len().max(1) as u32;
        let spoken = self
            .bars
            .iter()
            .map(|bar| format!("{} {}", bar.name, number(bar.value)));
        let spoken: Vec<_> = spoken.collect();
        let text = format!("{}, {}: {}", self.title, self.value.label, spoken.join("; "));
        draw(&self.title, &text, height, |area| self.draw(area))
    }

    fn draw(&self, area: &Area<'_>) -> Drawn {
        let count = self.bars.len().max(1);
        let ends = self.bars.iter().flat_map(|bar| [bar.value, bar.spread.1]);
        let mut scale = Scale::of(&self.value, ends);
        // Room for what is written behind a bar.
        scale.range.1 += (scale.range.1 - scale.range.0) * 0.10;
        let names = self
            .bars
            .iter()
            .map(|bar| bar.name.chars().count() as u32)
            .max()
            .unwrap_or(0);
        let mut chart = ChartBuilder::on(area)
            .margin_right(12)
            .x_label_area_size(46)
            .y_label_area_size(16 + LETTER_WIDTH * names)
            .build_cartesian_2d(scale.clone(), Scale::rows(count))?;
        let name = |row: &f64| {
            let from_top = count.saturating_sub(1 + row.floor() as usize);
            self.bars.get(from_top).map_or_else(String::new, |bar| bar.name.clone())
        };
        chart
            .configure_mesh()
            .disable_y_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(GRID)
            .label_style(text(TEXT))
            .x_label_formatter(&|at| scale.label(*at))
            .y_label_formatter(&name)
            .x_desc(&self.value.label)
            .draw()?;
        for (number_of, bar) in self.bars.iter().enumerate() {
            let middle = (count - number_of) as f64 - 0.5;
            let place = |value: f64| scale.position(value).unwrap_or(scale.range.0).max(scale.range.0);
            let end = place(bar.value);
            let corners = [(scale.range.0, middle - 0.34), (end, middle + 0.34)];
            chart.draw_series([Rectangle::new(corners, colour(bar.colour).filled())])?;
            let (low, high) = (place(bar.spread.0), place(bar.spread.1));
            if high > low {
                chart.draw_series([PathElement::new(
                    vec![(low, middle), (high, middle)],
                    INK.stroke_width(1),
                )])?;
                for end in [low, high] {
                    let tick = vec![(end, middle - 0.14), (end, middle + 0.14)];
                    chart.draw_series([PathElement::new(tick, INK.stroke_width(1))])?;
                }
            }
            let style = text(TEXT).pos(Pos::new(HPos::Left, VPos::Center));
            let written = EmptyElement::at((high.max(end), middle)) + Text::new(number(bar.value), (6, 0), style);
            chart.draw_series([written])?;
        }
        Ok(())
    }
}

impl Lines {
    /// As SVG that can be in a page or a file of its own.
    pub fn svg(&self) -> Result<String, Error> {
        let names: Vec<_> = self.series.iter().map(|series| series.name.as_str()).collect();
        let text = format!(
            "{}: {} by {}, of {}",
            self.title,
            self.y.label,
            self.x.label,
            names.join(", ")
        );
        let height = LINES_HEIGHT.max(70 + 22 * names.len() as u32);
        draw(&self.title, &text, height, |area| self.draw(area))
    }

    fn draw(&self, area: &Area<'_>) -> Drawn {
        let names = self.series.iter().map(|series| series.name.chars().count() as u32);
        let legend = 48 + LETTER_WIDTH * names.max().unwrap_or(0);
        let legend = legend.clamp(*LEGEND_WIDTH.start(), *LEGEND_WIDTH.end());
        let (plot, legend) = area.split_horizontally(WIDTH - legend);
        let of = |axis: &Axis, value: fn(&(f64, f64)) -> f64| {
            Scale::of(
                axis,
                self.series.iter().flat_map(|series| series.points.iter().map(value)),
            )
        };
        let (x, y) = (of(&self.x, |point| point.0), of(&self.y, |point| point.1));
        let mut chart = ChartBuilder::on(&plot)
            .margin_right(14)
            .margin_top(8)
            .x_label_area_size(46)
            .y_label_area_size(70)
            .build_cartesian_2d(x.clone(), y.clone())?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(GRID)
            .label_style(text(TEXT))
            .x_label_formatter(&|at| x.label(*at))
            .y_label_formatter(&|at| y.label(*at))
            .x_desc(&self.x.label)
            .y_desc(&self.y.label)
            .draw()?;
        let origin = plot.get_base_pixel();
        for (row, series) in self.series.iter().enumerate() {
            let place = |point: &(f64, f64)| x.position(point.0).zip(y.position(point.1));
            let points: Vec<_> = series.points.iter().filter_map(place).collect();
            let style = colour(series.colour).stroke_width(2);
            chart.draw_series([PathElement::new(points, style)])?;
            for point in series.marks.iter().filter_map(place) {
                let (x, y) = chart.plotting_area().map_coordinate(&point);
                shape(&plot, series, (x - origin.0, y - origin.1))?;
            }
            let at = (22, 20 + 22 * row as i32);
            legend.draw(&PathElement::new(vec![(at.0 - 12, at.1), (at.0 + 12, at.1)], style))?;
            if !series.marks.is_empty() {
                shape(&legend, series, at)?;
            }
            let style = text(TEXT).pos(Pos::new(HPos::Left, VPos::Center));
            legend.draw(&Text::new(series.name.clone(), (at.0 + 20, at.1), style))?;
        }
        Ok(())
    }
}

/// The mark of a series at a pixel of the area.
fn shape(area: &Area<'_>, series: &Series, at: (i32, i32)) -> Drawn {
    let ink = colour(series.colour);
    match mark(series.colour) {
        Mark::Disc => area.draw(&Circle::new(at, 4, ink.filled())),
        Mark::Triangle => area.draw(&TriangleMarker::new(at, 5, ink.filled())),
        Mark::Cross => area.draw(&Cross::new(at, 4, ink.stroke_width(2))),
        Mark::Ring => area.draw(&Circle::new(at, 4, ink.stroke_width(2))),
    }
}

fn text<'text>((family, size): (&'text str, f64)) -> TextStyle<'text> {
    (family, size).into_font().color(&INK)
}

/// Draws below a title; `text` is for who cannot see it.
fn draw(
    title: &str,
    text_for_readers: &str,
    height: u32,
    content: impl FnOnce(&Area<'_>) -> Drawn,
) -> Result<String, Error> {
    let mut svg = String::new();
    let drawn = (|| {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        let (head, body) = area.split_vertically(34);
        head.draw(&Text::new(title.to_owned(), (8, 8), text(TITLE)))?;
        content(&body)?;
        area.present()
    })();
    drawn.map_err(|error| Error {
        title: title.to_owned(),
        why: error.to_string(),
    })?;
    let attributes = format!(
        "<svg class=\"culvert-plot\" role=\"img\" aria-label=\"{}\" ",
        escaped(text_for_readers)
    );
    let svg = svg.replacen("<svg ", &attributes, 1);
    Ok(svg.replacen(">\n", &format!(">\n<style>{STYLE}</style>\n"), 1))
}

/// For an attribute or a text of XML.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use crate::chart::{Axis, Bar, Bars, Lines, Series};

    /// The texts of a plot, which is well-formed.
    fn texts(svg: &str) -> Vec<String> {
        let document = roxmltree::Document::parse(svg).unwrap_or_else(|error| panic!("{error}: {svg}"));
        let texts = document
            .descendants()
            .filter(|node| node.has_tag_name(("http://www.w3.org/2000/svg", "text")));
        texts
            .filter_map(|node| node.text().map(|text| text.trim().to_owned()))
            .collect()
    }

    fn bars(names: &[&str]) -> Bars {
        let bar = |(colour, name): (usize, &&str)| Bar {
            name: (*name).to_owned(),
            colour,
            value: 1.5 * colour as f64,
            spread: (colour as f64, 2.0 * colour as f64),
        };
        Bars {
            title: "Proxies' CPU <per GB>".to_owned(),
            value: Axis::linear("s per GB"),
            bars: names.iter().enumerate().map(bar).collect(),
        }
    }

    #[test]
    fn bars_say_their_names_values_and_unit() {
        let texts = texts(&bars(&["direct", "culvert", "sidecar & \"more\""]).svg().unwrap());
        for wanted in [
            "direct",
            "culvert",
            "sidecar & \"more\"",
            "1.5",
            "3",
            "s per GB",
            "Proxies' CPU <per GB>",
        ] {
            assert!(texts.iter().any(|text| text == wanted), "{wanted}: {texts:?}");
        }
    }

    #[test]
    fn names_stand_from_top_to_bottom() {
        let svg = bars(&["first", "second"]).svg().unwrap();
        let document = roxmltree::Document::parse(&svg).unwrap();
        let y = |name: &str| {
            let node = document
                .descendants()
                .find(|node| node.text().is_some_and(|text| text.trim() == name));
            node.and_then(|node| node.attribute("y")?.parse::<f64>().ok()).unwrap()
        };
        assert!(y("first") < y("second"));
    }

    #[test]
    fn lines_say_their_axes_and_are_drawn_where_a_logarithm_is() {
        let series = |name: &str, colour| Series {
            name: name.to_owned(),
            colour,
            points: vec![(0.0, 0.0), (1000.0, 100.0), (5000.0, 300.0), (f64::NAN, 2.0)],
            marks: vec![(1000.0, 100.0), (0.0, 1.0)],
        };
        let lines = Lines {
            title: "p99 by rate".to_owned(),
            x: Axis::logarithmic("requests/s"),
            y: Axis::logarithmic("us"),
            series: (0..12)
                .map(|colour| series(&format!("mode {colour}"), colour))
                .collect(),
        };
        let texts = texts(&lines.svg().unwrap());
        for wanted in ["requests/s", "us", "mode 0", "mode 11", "1k", "5k", "100", "200"] {
            assert!(texts.iter().any(|text| text == wanted), "{wanted}: {texts:?}");
        }
    }

    #[test]
    fn nothing_to_draw_is_an_empty_plot() {
        assert!(!texts(&bars(&[]).svg().unwrap()).is_empty());
        assert!(!texts(&Lines::default().svg().unwrap()).is_empty());
    }
}
