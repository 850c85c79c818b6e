//! `docs/objects.md`, from the table and the CRDs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use culvert_objects::known::{self, Field, Known, Restricts, State};

use super::schema::{Crd, Crds};

const HEAD: &str = "\
# Objects of Istio, of the Gateway API and of Culvert

<!-- Written by a test, from mesh/objects/src/known and the CRDs: BLESS=1 cargo test -p culvert-objects --test crds -->

No object that the mesh should obey is passed over in silence. Each object of a kind below that is not served is a finding: at the
controller's `/findings`, in `culvert status`, in its log, and as an event on the object (`kubectl describe`), whether its namespace is in
the mesh or not. The same holds for fields of served kinds that are not served, and for fields that no version of the CRDs has. Without
a cluster, kinds and versions of these groups that nobody knows are findings, too; in a cluster the controller's log names them.

In a cluster the controller asks every 10 s which of these kinds there are, and follows each in the newest version that both know.

| state | means |
|---|---|
| served | it means what its own documentation says |
| refused | it cannot be obeyed: the object keeps out whom it might have kept out, as said beside it |
| ignored | the object holds as without it, as said beside it |
| not served | nothing follows from the field or the kind |
";

/// The page.
pub(crate) fn page(crds: &Crds) -> String {
    let mut page = format!(
        "{HEAD}\nThe CRDs are those of {}.\n\n## Kinds\n",
        crds.modules.join(" and ")
    );
    page.push_str("| kind | group | versions | what happens instead | restricts |\n|---|---|---|---|---|\n");
    for known in known::ALL {
        let instead = if known.is_served() {
            format!("served: see [its fields](#{})", known.kind.to_lowercase())
        } else {
            format!("not served: {}", known.instead)
        };
        let (kind, group, versions) = (known.kind, known.group, known.versions.join(", "));
        let _ = writeln!(
            page,
            "| {kind} | {group} | {versions} | {instead} | {} |",
            restricts(known.restricts)
        );
    }
    page.push_str(
        "\nAn object that restricts would keep somebody out of what it binds. Where one is of a kind that is not served, nobody may reach that\n\
     until it is removed: [policies.md](policies.md).\n",
    );
    for known in known::ALL.iter().filter(|known| known.is_served()) {
        served(&mut page, known);
    }
    page.push_str(
        "\n## Fields of the kinds that are not served\nNone of these is served. A line has the fields of one object; `[]` is any item of a \
         list, `*` any key of a map, and after `=` stand the values of an enumeration.\n",
    );
    for known in known::ALL.iter().filter(|known| !known.is_served()) {
        if let Some(crd) = crds.of(known) {
            listed(&mut page, crd);
        }
    }
    page
}

fn restricts(restricts: Restricts) -> String {
    match restricts {
        Restricts::Never => "never".to_owned(),
        Restricts::Always => "always".to_owned(),
        Restricts::Where { field, one_of } => format!("where `spec.{field}` is {}", one_of.join(" or ")),
        Restricts::Mentioning(words) => format!("where it mentions {}", words.join(", ")),
    }
}

fn served(page: &mut String, known: &Known) {
    let _ = write!(
        page,
        "\n## {}\n| field | state | what happens instead |\n|---|---|---|\n",
        known.kind
    );
    for Field {
        path,
        state,
        values,
        other_values,
    } in known.fields
    {
        row(page, path, *state);
        for (value, state) in *values {
            row(page, &format!("{path}: {value}"), *state);
        }
        if let Some(state) = other_values {
            row(page, &format!("{path}: any other value"), *state);
        }
    }
}

fn row(page: &mut String, what: &str, state: State) {
    let name = match state {
        State::Served => "served",
        State::Refused(_) => "refused",
        State::Ignored(_) => "ignored",
    };
    let _ = writeln!(page, "| `{what}` | {name} | {} |", state.instead().unwrap_or_default());
}

/// A line for each object in it, with its fields.
fn listed(page: &mut String, crd: &Crd) {
    let mut lines: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (path, values) in &crd.fields {
        let Some((parent, name)) = path.rsplit_once('.') else {
            continue;
        };
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let values = if values.is_empty() {
            String::new()
        } else {
            format!("={}", values.join("|"))
        };
        lines.entry(parent).or_default().push(format!("{name}{values}"));
    }
    let _ = write!(page, "\n### {} ({})\n```text\n", crd.kind, crd.group);
    for (parent, fields) in lines {
        let _ = writeln!(page, "{parent}: {}", fields.join(", "));
    }
    page.push_str("```\n");
}

/// The fields and values that a page lists as not served, with the kinds that they are of.
pub(crate) fn not_served(page: &str) -> BTreeSet<String> {
    let (mut found, mut kind, mut inside) = (BTreeSet::new(), "", false);
    for line in page.lines() {
        if let Some(title) = line.strip_prefix("### ") {
            kind = title;
        } else if line.starts_with("```") {
            inside = !inside;
        } else if let Some((parent, fields)) = line.split_once(": ").filter(|_| inside) {
            for field in fields.split(", ") {
                let (name, values) = field.split_once('=').unwrap_or((field, ""));
                found.insert(format!("{kind}: {parent}.{name}"));
                let values = values.split('|').filter(|value| !value.is_empty());
                found.extend(values.map(|value| format!("{kind}: {parent}.{name}={value}")));
            }
        }
    }
    found
}
