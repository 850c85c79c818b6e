//! A page, written once and read as HTML or as Markdown.

use crate::draw::escaped;
use std::{fs, io, path::Path};

/// What stands on it, from top to bottom.
#[derive(Clone, Debug, Default)]
pub struct Document {
    title: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Heading(String),
    Text(String),
    List(Vec<String>),
    Code(String),
    Table {
        numbers: bool,
        header: Vec<String>,
        rows: Vec<Vec<String>>,
    },
    Plot {
        file: String,
        what: String,
        svg: String,
    },
}

/// The look of the HTML page, whose ground is light or dark as its reader has it.
const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1b1f24;--ground:#fff;--quiet:#5c6570;--line:#d5d9de;--head:#f4f5f7}\
@media (prefers-color-scheme:dark){:root{--ink:#e6e8eb;--ground:#14171a;--quiet:#9aa3b0;--line:#343a42;--head:#1d2126}}\
body{font:15px/1.55 system-ui,sans-serif;color:var(--ink);background:var(--ground);max-width:62rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.6rem;line-height:1.25}h2{font-size:1.2rem;margin-top:2.2rem}\
.wide{overflow-x:auto;margin:1rem 0}table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.88rem}\
th,td{border:1px solid var(--line);padding:.28rem .6rem;text-align:left}\
.numbers th,.numbers td{text-align:right;white-space:nowrap}\
.numbers th:first-child,.numbers td:first-child{text-align:left}thead th{background:var(--head)}\
pre,code{font:.85rem/1.5 ui-monospace,monospace;background:var(--head)}pre{padding:.6rem .8rem;overflow-x:auto}\
figure{margin:1.4rem 0}figure svg{max-width:100%;height:auto}figcaption{color:var(--quiet);font-size:.85rem}";

impl Document {
    /// An empty page.
    pub fn new(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            parts: Vec::new(),
        }
    }

    /// Begins a section.
    pub fn heading(&mut self, text: &str) {
        self.parts.push(Part::Heading(text.to_owned()));
    }

    /// Adds a paragraph.
    pub fn text(&mut self, text: &str) {
        self.parts.push(Part::Text(text.to_owned()));
    }

    /// Adds a list; nothing where it is empty.
    pub fn list(&mut self, items: Vec<String>) {
        if !items.is_empty() {
            self.parts.push(Part::List(items));
        }
    }

    /// Adds what one types.
    pub fn code(&mut self, text: &str) {
        self.parts.push(Part::Code(text.to_owned()));
    }

    /// Adds a table of numbers, the first column of which names the rows.
    pub fn table(&mut self, header: Vec<String>, rows: Vec<Vec<String>>) {
        let numbers = true;
        self.parts.push(Part::Table { numbers, header, rows });
    }

    /// Adds a table of words.
    pub fn words(&mut self, header: Vec<String>, rows: Vec<Vec<String>>) {
        let numbers = false;
        self.parts.push(Part::Table { numbers, header, rows });
    }

    /// Adds a plot: in a page of HTML itself, beside one of Markdown as this file, with `what` below it.
    pub fn plot(&mut self, file: &str, what: &str, svg: String) {
        self.parts.push(Part::Plot {
            file: file.to_owned(),
            what: what.to_owned(),
            svg,
        });
    }

    /// A page that needs nothing else.
    pub fn html(&self) -> String {
        let body: String = self.parts.iter().map(Part::html).collect();
        let title = escaped(&self.title);
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/><meta name=\"viewport\" content=\"width=device-width\"/>\
             <title>{title}</title><style>{STYLE}</style></head>\n<body><h1>{title}</h1>\n{body}</body></html>\n"
        )
    }

    /// A page whose plots are files beside it.
    pub fn markdown(&self) -> String {
        let body: String = self.parts.iter().map(Part::markdown).collect();
        format!("# {}\n{body}", self.title)
    }

    /// Writes `NAME.html`, `NAME.md` and the plots' files into a folder, which is made where it is missing.
    pub fn write(&self, folder: &Path, name: &str) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        for part in &self.parts {
            if let Part::Plot { file, svg, .. } = part {
                fs::write(folder.join(file), svg)?;
            }
        }
        fs::write(folder.join(format!("{name}.html")), self.html())?;
        fs::write(folder.join(format!("{name}.md")), self.markdown())
    }
}

impl Part {
    fn html(&self) -> String {
        match self {
            Self::Heading(text) => format!("<h2>{}</h2>\n", escaped(text)),
            Self::Text(text) => format!("<p>{}</p>\n", escaped(text)),
            Self::List(items) => {
                let items: String = items.iter().map(|item| format!("<li>{}</li>", escaped(item))).collect();
                format!("<ul>{items}</ul>\n")
            }
            Self::Code(text) => format!("<pre>{}</pre>\n", escaped(text)),
            Self::Table { numbers, header, rows } => {
                let row = |tag: &str, cells: &[String]| {
                    let cells: String = cells
                        .iter()
                        .map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell)))
                        .collect();
                    format!("<tr>{cells}</tr>\n")
                };
                let rows: String = rows.iter().map(|cells| row("td", cells)).collect();
                let head = row("th", header);
                let class = if *numbers { "wide numbers" } else { "wide" };
                format!("<div class=\"{class}\"><table><thead>{head}</thead><tbody>{rows}</tbody></table></div>\n")
            }
            Self::Plot { what, svg, .. } => {
                format!("<figure>{svg}<figcaption>{}</figcaption></figure>\n", escaped(what))
            }
        }
    }

    fn markdown(&self) -> String {
        match self {
            Self::Heading(text) => format!("\n## {text}\n"),
            Self::Text(text) => format!("\n{text}\n"),
            Self::List(items) => {
                let items: String = items.iter().map(|item| format!("- {item}\n")).collect();
                format!("\n{items}")
            }
            Self::Code(text) => format!("\n```text\n{text}\n```\n"),
            Self::Table { numbers, header, rows } => {
                let row = |cells: &[String]| {
                    let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
                    format!("| {} |\n", cells.join(" | "))
                };
                let line = header
                    .iter()
                    .enumerate()
                    .map(|(column, _)| if column == 0 || !numbers { "---|" } else { "--:|" });
                let line: String = line.collect();
                let rows: String = rows.iter().map(|cells| row(cells)).collect();
                format!("\n{}|{line}\n{rows}", row(header))
            }
            Self::Plot { file, what, .. } => format!("\n![{what}]({file})\n\n{what}\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Document;

    fn page() -> Document {
        let mut page = Document::new("A < B & \"C\"");
        page.heading("Section");
        page.text("1 < 2");
        page.list(vec!["one".to_owned(), "two & three".to_owned()]);
        page.list(Vec::new());
        page.code("run --a <b>");
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        page.table(row(["what", "a|b"]), vec![row(["p50", "1"])]);
        page.plot(
            "cpu.svg",
            "CPU & more",
            "<svg xmlns=\"http://www.w3.org/2000/svg\"></svg>".to_owned(),
        );
        page
    }

    #[test]
    fn a_page_is_well_formed_and_fetches_nothing() {
        let html = page().html();
        let without_type = html.replacen("<!DOCTYPE html>", "", 1);
        let document =
            roxmltree::Document::parse(without_type.trim()).unwrap_or_else(|error| panic!("{error}: {html}"));
        assert_eq!(document.descendants().filter(|node| node.has_tag_name("li")).count(), 2);
        let fetched = document
            .descendants()
            .find(|node| node.attribute("src").is_some() || node.attribute("href").is_some());
        assert!(fetched.is_none(), "{fetched:?}");
    }

    #[test]
    fn markdown_refers_to_plots_that_are_written_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("made");
        page().write(&inner, "report").unwrap();
        let markdown = std::fs::read_to_string(inner.join("report.md")).unwrap();
        assert!(
            markdown.contains("| what | a\\|b |\n|---|--:|\n| p50 | 1 |"),
            "{markdown}"
        );
        assert!(markdown.contains("![CPU & more](cpu.svg)"), "{markdown}");
        assert!(inner.join("cpu.svg").is_file() && inner.join("report.html").is_file());
    }
}
