//! Whether a rule takes all the requests of another one, so that the other never gets any.

use super::model::{Match, Path, Text};

/// Whether every request that `b` matches is one that `a` matches. False where that cannot be told.
pub(crate) fn covers(a: &Match, b: &Match) -> bool {
    let is_same_case = a.ignores_case || !b.ignores_case;
    is_same_case
        && covers_path(&a.path, &b.path, a.ignores_case)
        && a.method.as_ref().is_none_or(|method| b.method.as_ref() == Some(method))
        && covers_all(&a.headers, &b.headers)
        && covers_all(&a.query, &b.query)
        && a.without.iter().all(|wanted| b.without.contains(wanted))
        && a.clients
            .as_ref()
            .is_none_or(|clients| b.clients.as_ref() == Some(clients))
}

fn covers_path(a: &Path, b: &Path, ignores_case: bool) -> bool {
    let folded = |text: &str| {
        if ignores_case {
            text.to_ascii_lowercase()
        } else {
            text.to_owned()
        }
    };
    match (a, b) {
        (Path::Prefix(prefix) | Path::Plain(prefix), _) if prefix.is_empty() => true,
        (Path::Regex(a), _) if a == ".*" => true,
        (Path::Exact(a), Path::Exact(b)) => folded(a) == folded(b),
        (Path::Prefix(a), Path::Exact(b) | Path::Prefix(b)) => is_below(&folded(a), &folded(b)),
        // What begins with `/a/b` is below `/a`; what begins with `/ab` or `/a` may not be.
        (Path::Prefix(a), Path::Plain(b)) => folded(b).starts_with(&(folded(a) + "/")),
        (Path::Plain(a), Path::Exact(b) | Path::Prefix(b) | Path::Plain(b)) => folded(b).starts_with(&folded(a)),
        (Path::Regex(a), Path::Regex(b)) => a == b,
        (Path::Exact(_) | Path::Prefix(_) | Path::Plain(_) | Path::Regex(_), _) => false,
    }
}

fn is_below(prefix: &str, path: &str) -> bool {
    path == prefix || path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
}

/// Whether whoever meets all of `b` meets all of `a`.
fn covers_all(a: &[(String, Text)], b: &[(String, Text)]) -> bool {
    a.iter().all(|(name, wanted)| {
        let mut same = b.iter().filter(|(other, _)| other == name);
        same.any(|(_, text)| implies(text, wanted))
    })
}

/// Whether whatever `text` fits `wanted` fits as well.
fn implies(text: &Text, wanted: &Text) -> bool {
    match (wanted, text) {
        (Text::Present, _) => true,
        (Text::Prefix(wanted), Text::Exact(text) | Text::Prefix(text)) => text.starts_with(wanted),
        _ => wanted == text,
    }
}

#[cfg(test)]
mod tests;
