//! How figures grow with the size of the cluster.

use std::fmt::Write as _;

use culvert_report::stats::exponent;
use serde_json::{Map, Value};

/// The figures of all sizes.
pub(crate) struct Curves<'f> {
    sizes: Vec<(usize, &'f Value)>,
}

impl<'f> Curves<'f> {
    /// Of rounds that are named by their sizes.
    pub(crate) fn of(rounds: &'f Map<String, Value>) -> Self {
        let mut sizes: Vec<_> = rounds
            .iter()
            .filter_map(|(size, figures)| Some((size.parse().ok()?, figures)))
            .collect();
        sizes.sort_unstable_by_key(|(size, _)| *size);
        Self { sizes }
    }

    /// All sizes, from the smallest.
    pub(crate) fn sizes(&self) -> impl Iterator<Item = usize> {
        self.sizes.iter().map(|(size, _)| *size)
    }

    /// The figures' names.
    pub(crate) fn names(&self) -> Vec<&'f str> {
        let first = self.sizes.first().and_then(|(_, figures)| figures.as_object());
        first
            .map(|figures| figures.keys().map(String::as_str).collect())
            .unwrap_or_default()
    }

    /// A figure by size.
    pub(crate) fn points(&self, name: &str) -> Vec<(f64, f64)> {
        let figure = |(size, figures): &(usize, &Value)| Some((*size as f64, figures[name].as_f64()?));
        self.sizes.iter().filter_map(figure).collect()
    }

    /// The exponent of each figure that has one.
    pub(crate) fn exponents(&self) -> Map<String, Value> {
        let of = |name: &str| Some((name.to_owned(), Value::from(rounded(exponent(&self.points(name))?))));
        self.names().into_iter().filter_map(of).collect()
    }

    /// A line for each figure: what it is at each size, and how it grows.
    pub(crate) fn table(&self) -> String {
        let names = self.names();
        let width = names.iter().map(|name| name.len()).max().unwrap_or_default();
        let mut text = format!("{:width$}", "pods");
        for (size, _) in &self.sizes {
            let _ = write!(text, " {size:>12}");
        }
        text.push_str("   exponent\n");
        for name in names {
            let _ = write!(text, "{name:width$}");
            for (_, figures) in &self.sizes {
                let figure = figures[name].as_f64();
                let _ = write!(
                    text,
                    " {:>12}",
                    figure.map_or("-".to_owned(), |figure| format!("{figure:.3}"))
                );
            }
            let exponent = exponent(&self.points(name));
            let _ = writeln!(
                text,
                " {:>10}",
                exponent.map_or("-".to_owned(), |exponent| format!("{exponent:.2}"))
            );
        }
        text
    }
}

/// To a thousandth: what is below is noise.
pub(crate) fn rounded(figure: f64) -> f64 {
    (figure * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_line_for_each_figure_and_a_column_for_each_size_in_order() {
        let rounds = serde_json::json!({"10000": {"b": 20.0}, "1000": {"b": 2.0}});
        let curves = Curves::of(rounds.as_object().expect("an object"));
        let table = curves.table();
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            lines,
            [["pods", "1000", "10000", "exponent"], ["b", "2.000", "20.000", "1.00"]]
        );
        assert_eq!(curves.exponents()["b"], 1.0);
    }
}
