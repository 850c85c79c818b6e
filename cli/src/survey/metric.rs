//! Values of metrics in a page of OpenMetrics text.

/// The values of one metric: labels as they stand, without braces, and the number.
pub(crate) fn metric<'a>(page: &'a str, name: &str) -> Vec<(&'a str, f64)> {
    let line = |line: &'a str| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.rsplit_once('}')?,
            None => ("", rest),
        };
        // What follows the name must be a value, or this is a longer name.
        let value = value.strip_prefix(' ')?;
        Some((labels, value.split(' ').next()?.parse().ok()?))
    };
    page.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::metric;

    #[test]
    fn a_metric_is_found_by_its_whole_name() {
        let page = "# HELP a words\na 1\nab 2\nb{map=\"x\",y=\"}\"} 3\n";
        assert_eq!(metric(page, "a"), [("", 1.0)]);
        assert_eq!(metric(page, "b"), [("map=\"x\",y=\"}\"", 3.0)]);
        assert!(metric(page, "c").is_empty());
    }
}
