//! Every test that `docs/testing.md`, `docs/waypoint-and-envoy.md` and `docs/envoy-behaviour/` name in a column "shown by" exists, where it is
//! said to be.
//!
//! A name is what stands in backticks: `file::test`, `folder/file::{a,b}`, `package: test`, a path, or a test or a file by its
//! name alone. Braces are expanded; a last part that ends in `…`, `...` or `*` is the beginning of a name. What holds a test may be
//! named by any consecutive part of its path; `src`, `tests`, `it` and `mod` count for nothing, as tests of a file may be inside it or beside it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// A source file, or another file or folder (which defines nothing).
struct File {
    /// The parts of its path that count.
    parts: Vec<String>,
    path: String,
    functions: BTreeSet<String>,
}

impl File {
    fn is_within(&self, parts: &[String]) -> bool {
        parts.is_empty() || self.parts.windows(parts.len()).any(|some| some == parts)
    }

    fn has(&self, function: &str) -> bool {
        match function.strip_suffix(['…', '*']).or(function.strip_suffix("...")) {
            Some(beginning) => self.functions.iter().any(|name| name.starts_with(beginning)),
            None => self.functions.contains(function),
        }
    }
}

#[test]
fn every_test_that_the_documentation_names_exists_where_it_is_said_to_be() {
    let root = crate::shell::root();
    let files = files(&root);
    let mut wrong = Vec::new();
    for document in documents(&root) {
        let text = fs::read_to_string(root.join(&document)).expect("a document is text");
        let missing = named(&text)
            .into_iter()
            .filter(|(_, name)| !exists(&root, &files, name));
        wrong.extend(missing.map(|(line, name)| format!("{document}:{line}: {name}")));
    }
    assert!(wrong.is_empty(), "no such test, file or folder:\n{}", wrong.join("\n"));
}

/// A line of what Envoy does has a test that shows it of both proxies, or says what of Envoy nobody can ask Culvert for.
#[test]
fn every_line_of_what_envoy_does_has_a_test_or_says_why_there_is_none() {
    let root = crate::shell::root();
    let behaviour = documents(&root).into_iter().filter(|path| path.starts_with(BEHAVIOUR));
    let mut wrong = Vec::new();
    for document in behaviour {
        let text = fs::read_to_string(root.join(&document)).expect("a document is text");
        let unshown = rows(&text).filter(|(_, cell)| cell.is_empty());
        let lines: Vec<&str> = text.lines().collect();
        let unshown = unshown.filter(|(number, _)| !lines[number - 1].contains("| no object"));
        wrong.extend(unshown.map(|(number, _)| format!("{document}:{number}")));
    }
    assert!(wrong.is_empty(), "neither a test nor a reason:\n{}", wrong.join("\n"));
}

/// What Envoy does, line by line.
const BEHAVIOUR: &str = "docs/envoy-behaviour";

/// Those whose names of tests are held.
fn documents(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root.join(BEHAVIOUR)).expect("a folder of documents");
    let names = entries.map(|entry| entry.expect("an entry of it").file_name());
    let behaviour = names.map(|name| format!("{BEHAVIOUR}/{}", name.to_string_lossy()));
    let mut all: Vec<String> = behaviour.collect();
    all.extend(["docs/testing.md", "docs/waypoint-and-envoy.md"].map(str::to_owned));
    all.sort();
    all
}

#[test]
fn names_are_read_from_the_column_that_shows_and_braces_are_expanded() {
    let text = "| what | shown by | commit |\n|---|---|---|\n| `no` | `a::{b,c{,_d}}_e`, `cargo xtask x` | `f00` |\n\n`no::no`\n";
    let names: Vec<String> = named(text).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["a::b_e", "a::c_e", "a::c_d_e"]);
}

/// The names with their lines.
fn named(text: &str) -> Vec<(usize, String)> {
    let of_row = |(number, cell): (usize, &str)| -> Vec<(usize, String)> {
        let spans = cell.split('`').skip(1).step_by(2).filter(|span| is_name(span));
        spans.flat_map(expanded).map(|name| (number, name)).collect()
    };
    rows(text).flat_map(of_row).collect()
}

/// What the rows of tables say in a column "shown by", with the numbers of their lines.
fn rows(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut column = None;
    text.lines().enumerate().filter_map(move |(number, line)| {
        if line.starts_with('#') {
            column = None;
        }
        if !line.starts_with('|') || line.starts_with("|--") {
            return None;
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let Some(shows) = cells.iter().position(|cell| *cell == "shown by") {
            column = Some(shows);
            return None;
        }
        Some((number + 1, *cells.get(column?)?))
    })
}

/// A command, a flag, a setting and a type are no names of tests. A test may be named with the package or the folder that it is in.
fn is_name(span: &str) -> bool {
    let name = span.split_once(": ").filter(|(place, _)| !place.contains(' '));
    let name = name.map_or(span, |(_, name)| name);
    !name.contains([' ', '=', '"', '(']) && !name.starts_with(|first: char| first == '-' || first.is_uppercase())
}

fn expanded(name: &str) -> Vec<String> {
    let Some(open) = name.find('{') else {
        return vec![name.to_owned()];
    };
    let mut depth = 0;
    let mut choices = Vec::new();
    let mut from = open + 1;
    for (at, byte) in name.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b',' if depth == 1 => {
                choices.push(&name[from..at]);
                from = at + 1;
            }
            b'}' if depth == 1 => {
                choices.push(&name[from..at]);
                from = at + 1;
                break;
            }
            b'}' => depth -= 1,
            _ => {}
        }
    }
    let one = |choice: &&str| expanded(&format!("{}{choice}{}", &name[..open], &name[from..]));
    choices.iter().flat_map(one).collect()
}

fn exists(root: &Path, files: &[File], name: &str) -> bool {
    let (package, name) = name.split_once(": ").unwrap_or(("", name));
    let package = package.trim_start_matches("culvert-");
    if package.is_empty() && !name.is_empty() && root.join(name).exists() {
        return true;
    }
    let mut place = parts(&format!("{package}/{}", name.replace("::", "/")));
    if name.ends_with(".rs") {
        return files.iter().any(|file| file.path.ends_with(name));
    }
    if files.iter().any(|file| file.is_within(&place)) {
        return true;
    }
    let function = place.pop().unwrap_or_default();
    files.iter().any(|file| file.is_within(&place) && file.has(&function))
}

fn parts(path: &str) -> Vec<String> {
    path.trim_end_matches(".rs")
        .split('/')
        .filter(|part| !matches!(*part, "" | "src" | "tests" | "it" | "mod"))
        .map(str::to_owned)
        .collect()
}

fn files(root: &Path) -> Vec<File> {
    let mut found = Vec::new();
    let mut left = vec![root.to_path_buf()];
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the workspace") {
            let path: PathBuf = entry.expect("an entry of it").path();
            let is_hidden = path
                .file_name()
                .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if is_hidden || path.ends_with("target") || path.is_symlink() {
                continue;
            }
            let inside = path
                .strip_prefix(root)
                .expect("below the root")
                .to_string_lossy()
                .into_owned();
            let mut functions = BTreeSet::new();
            if path.is_dir() {
                left.push(path);
            } else if inside.ends_with(".rs") {
                functions = functions_of(&fs::read_to_string(&path).expect("source is text"));
            }
            found.push(File {
                parts: parts(&inside),
                path: inside,
                functions,
            });
        }
    }
    found
}

fn functions_of(text: &str) -> BTreeSet<String> {
    let is_of_a_name = |letter: char| letter.is_alphanumeric() || letter == '_';
    text.match_indices("fn ")
        .filter_map(|(at, _)| text[at + 3..].split(|letter| !is_of_a_name(letter)).next())
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}
