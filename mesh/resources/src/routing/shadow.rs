//! For each rule the first one before it that takes all its requests, so that it never gets any.
//!
//! Of ten thousand rules each would have to be compared with all before it. So a rule is filed by what every rule must have that it covers:
//! something of its path, and that one of its conditions which fewest rules have. A rule is compared with those alone that are filed under
//! what it has itself.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use super::model::{Match, Path, Text};

/// Of rules in their order, for each the place of the first before it of which `covers` says that it takes all its requests. That may say
/// no more than [`super::cover::covers`] does.
pub(crate) fn first_before(rules: &[&Match], mut covers: impl FnMut(&Match, &Match) -> bool) -> Vec<Option<usize>> {
    let mut frequent: HashMap<Condition<'_>, usize> = HashMap::new();
    for condition in rules.iter().flat_map(|rule| conditions(rule)) {
        *frequent.entry(condition).or_default() += 1;
    }
    let mut filed = Filed::default();
    let mut found = Vec::with_capacity(rules.len());
    for (place, rule) in rules.iter().enumerate() {
        let mut first = place;
        filed.visit(rule, |candidates| {
            let mut before = candidates.iter().take_while(|candidate| **candidate < first);
            if let Some(candidate) = before.find(|candidate| rules.get(**candidate).is_some_and(|by| covers(by, rule)))
            {
                first = *candidate;
            }
        });
        found.push((first < place).then_some(first));
        let rarest = conditions(rule).min_by_key(|condition| frequent.get(condition).copied());
        filed.add(place, rule, rarest);
    }
    found
}

/// Places of rules, in order, by what those have that they cover.
#[derive(Default)]
struct Filed<'a> {
    /// The first part is whether letters count in either case.
    places: HashMap<(bool, PathKey<'a>, Option<Condition<'a>>), Vec<usize>>,
    /// The lengths of all [`PathKey::Plain`].
    plain: BTreeSet<usize>,
}

impl<'a> Filed<'a> {
    fn add(&mut self, place: usize, rule: &'a Match, condition: Option<Condition<'a>>) {
        let text = |text: &'a str| folded(text, rule.ignores_case);
        let path = match &rule.path {
            Path::Prefix(prefix) | Path::Plain(prefix) if prefix.is_empty() => PathKey::Any,
            Path::Regex(all) if all == ".*" => PathKey::Any,
            Path::Exact(path) => PathKey::Exact(text(path)),
            Path::Prefix(prefix) => PathKey::Prefix(text(prefix)),
            Path::Plain(prefix) => {
                let prefix = text(prefix);
                self.plain.insert(prefix.len());
                PathKey::Plain(prefix)
            }
            Path::Regex(regex) => PathKey::Regex(regex),
        };
        let key = (rule.ignores_case, path, condition);
        self.places.entry(key).or_default().push(place);
    }

    /// Shows all that may cover a rule.
    fn visit(&self, rule: &Match, mut visit: impl FnMut(&[usize])) {
        let conditions: Vec<Option<Condition<'_>>> = std::iter::once(None).chain(met(rule).map(Some)).collect();
        // What tells letters apart covers nothing that does not.
        let cases = [false, true]
            .into_iter()
            .filter(|ignores| *ignores || !rule.ignores_case);
        for ignores_case in cases {
            let text = match &rule.path {
                Path::Exact(text) | Path::Prefix(text) | Path::Plain(text) => folded(text, ignores_case),
                Path::Regex(regex) => Cow::Borrowed(regex.as_str()),
            };
            for path in self.paths(&rule.path, &text) {
                for condition in &conditions {
                    let filed = self.places.get(&(ignores_case, path.clone(), *condition));
                    filed.into_iter().for_each(|places| visit(places));
                }
            }
        }
    }

    /// What of paths those are filed under that may cover a path, which is written as `text`.
    fn paths<'b>(&self, path: &Path, text: &'b str) -> Vec<PathKey<'b>> {
        let mut found = vec![PathKey::Any];
        if matches!(path, Path::Regex(_)) {
            found.push(PathKey::Regex(text));
            return found;
        }
        if matches!(path, Path::Exact(_)) {
            found.push(PathKey::Exact(Cow::Borrowed(text)));
        }
        if !matches!(path, Path::Plain(_)) {
            found.push(PathKey::Prefix(Cow::Borrowed(text)));
        }
        let above = text.match_indices('/').map(|(end, _)| &text[..end]);
        found.extend(above.map(|above| PathKey::Prefix(Cow::Borrowed(above))));
        let plain = self.plain.iter().filter_map(|length| text.get(..*length));
        found.extend(plain.map(|begin| PathKey::Plain(Cow::Borrowed(begin))));
        found
    }
}

/// What of a path every path has that is covered by it.
#[derive(Clone, PartialEq, Eq, Hash)]
enum PathKey<'a> {
    /// Nothing.
    Any,
    /// That it is this one.
    Exact(Cow<'a, str>),
    /// That it is this one or below it.
    Prefix(Cow<'a, str>),
    /// That it begins with this.
    Plain(Cow<'a, str>),
    /// That it is this expression.
    Regex(&'a str),
}

/// What every rule has that is covered by one with a condition.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Condition<'a> {
    Method(&'a str),
    Clients(&'a str),
    /// The very same text for a header or parameter of this name.
    Same(Part, &'a str, &'a Text),
    /// Some text for one of this name.
    Some(Part, &'a str),
    /// The same name among what must not be there.
    Without(&'a str),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
    Header,
    Query,
}

/// What every rule has that is covered by this one.
fn conditions(rule: &Match) -> impl Iterator<Item = Condition<'_>> {
    let of_texts = texts(rule).map(|(part, name, text)| match text {
        Text::Exact(_) | Text::Regex(_) => Condition::Same(part, name, text),
        Text::Prefix(_) | Text::Present => Condition::Some(part, name),
    });
    others(rule).chain(of_texts)
}

/// What this rule has, in all forms in which one may ask for it that covers it.
fn met(rule: &Match) -> impl Iterator<Item = Condition<'_>> {
    let of_texts = texts(rule).flat_map(|(part, name, text)| {
        let same = Condition::Same(part, name, text);
        [same, Condition::Some(part, name)]
    });
    others(rule).chain(of_texts)
}

fn others(rule: &Match) -> impl Iterator<Item = Condition<'_>> {
    let method = rule.method.as_deref().map(Condition::Method);
    let clients = rule.clients.as_deref().map(Condition::Clients);
    let without = rule.without.iter().map(|(name, _)| Condition::Without(name));
    method.into_iter().chain(clients).chain(without)
}

fn texts(rule: &Match) -> impl Iterator<Item = (Part, &str, &Text)> {
    let headers = rule.headers.iter().map(|(name, text)| (Part::Header, name, text));
    let query = rule.query.iter().map(|(name, text)| (Part::Query, name, text));
    let all = headers.chain(query);
    all.map(|(part, name, text)| (part, name.as_str(), text))
}

fn folded(text: &str, ignores_case: bool) -> Cow<'_, str> {
    if ignores_case {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests;
