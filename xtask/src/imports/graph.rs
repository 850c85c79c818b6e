//! Which file imports which, and where that goes round in a circle.

use super::source::{Crate, Segments};
use petgraph::{algo::tarjan_scc, graphmap::DiGraphMap};
use std::collections::{BTreeMap, BTreeSet};

/// How often a re-export may lead to another one.
const RE_EXPORTS: usize = 8;

/// Imports among the modules of one crate.
pub(super) struct Graph<'a> {
    krate: &'a Crate,
    /// The names that the first module takes from the second.
    arrows: BTreeMap<(&'a Segments, &'a Segments), BTreeSet<String>>,
}

impl<'a> Graph<'a> {
    /// Finds where every name that a module takes is defined.
    pub(super) fn of(krate: &'a Crate) -> Self {
        let mut graph = Self {
            krate,
            arrows: BTreeMap::new(),
        };
        for (from, module) in &krate.modules {
            for path in &module.takes {
                if let Some((to, name)) = graph.resolve(from, path, RE_EXPORTS)
                    && to != from
                {
                    graph.arrows.entry((from, to)).or_default().insert(name);
                }
            }
        }
        graph
    }

    /// Circles among files: for each, its arrows in words.
    pub(super) fn circles(&self) -> Vec<Vec<String>> {
        let modules: Vec<&Segments> = self.krate.modules.keys().collect();
        let number = |module: &Segments| modules.binary_search(&module).unwrap_or_default();
        let mut arrows = DiGraphMap::<usize, ()>::new();
        for (from, to) in self.arrows.keys() {
            arrows.add_edge(number(from), number(to), ());
        }
        let circles = tarjan_scc(&arrows).into_iter().filter(|circle| circle.len() > 1);
        circles
            .map(|circle| {
                let inside: BTreeSet<usize> = circle.into_iter().collect();
                let among = |((from, to), _): &(&(&Segments, &Segments), _)| {
                    inside.contains(&number(from)) && inside.contains(&number(to))
                };
                let among = self.arrows.iter().filter(among);
                among.map(|(ends, names)| self.said(*ends, names)).collect()
            })
            .collect()
    }

    /// Circles among top-level modules, which no single circle of files need show.
    pub(super) fn circles_of_rooms(&self) -> Vec<Vec<String>> {
        let mut arrows = DiGraphMap::<&str, ()>::new();
        let room = |module: &'a Segments| module.first().map(String::as_str);
        for (from, to) in self.arrows.keys() {
            if let (Some(from), Some(to)) = (room(from), room(to))
                && from != to
            {
                arrows.add_edge(from, to, ());
            }
        }
        let circles = tarjan_scc(&arrows).into_iter().filter(|circle| circle.len() > 1);
        circles
            .map(|circle| {
                let inside = |module: &'a Segments| room(module).is_some_and(|room| circle.contains(&room));
                let among = self
                    .arrows
                    .iter()
                    .filter(|((from, to), _)| inside(from) && inside(to) && room(from) != room(to));
                among.map(|(ends, names)| self.said(*ends, names)).collect()
            })
            .collect()
    }

    fn said(&self, (from, to): (&Segments, &Segments), names: &BTreeSet<String>) -> String {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let file = |module: &Segments| self.krate.modules[module].file.display().to_string();
        format!("{} -> {}: {}", file(from), file(to), names.join(", "))
    }

    /// The module that defines what `path` names in `from`, and the name. None for what is of another crate, and for modules as such.
    fn resolve(&self, from: &Segments, path: &[String], patience: usize) -> Option<(&'a Segments, String)> {
        let (first, mut rest) = path.split_first()?;
        let mut at: Segments = match first.as_str() {
            "crate" => Vec::new(),
            "self" => from.clone(),
            "super" => from.get(..from.len().checked_sub(1)?)?.to_vec(),
            name => {
                let mut child = from.clone();
                child.push(name.to_owned());
                if self.krate.modules.contains_key(&child) {
                    child
                } else {
                    // A module that a `use` brought.
                    let brought = self.krate.modules[from].brought.get(name)?;
                    let mut whole = brought.clone();
                    whole.extend(rest.iter().cloned());
                    let is_itself = whole.first().is_some_and(|segment| segment == name);
                    return (patience > 0 && !is_itself && !rest.is_empty())
                        .then(|| self.resolve(from, &whole, patience - 1))
                        .flatten();
                }
            }
        };
        while let Some((name, after)) = rest.split_first() {
            if name == "super" {
                at.pop()?;
            } else {
                at.push(name.clone());
                if !self.krate.modules.contains_key(&at) {
                    at.pop();
                    break;
                }
            }
            rest = after;
        }
        let name = rest.first()?;
        self.define(&at, name, rest, patience)
    }

    /// Follows a name from the module that was asked for it to the one that defines it.
    fn define(&self, at: &Segments, name: &str, rest: &[String], patience: usize) -> Option<(&'a Segments, String)> {
        let (key, module) = self.krate.modules.get_key_value(at)?;
        let here = Some((key, name.to_owned()));
        if module.defines.contains(name) || patience == 0 {
            return here;
        }
        if let Some(path) = module.brought.get(name) {
            let mut whole = path.clone();
            whole.extend(rest.iter().skip(1).cloned());
            // A name of another crate stays with the module that passes it on.
            return self.resolve(at, &whole, patience - 1).or(here);
        }
        let globs = module.globs.iter().filter_map(|glob| {
            let mut whole = glob.clone();
            whole.push(name.to_owned());
            let (found, name) = self.resolve(at, &whole, patience - 1)?;
            self.krate.modules[found]
                .defines
                .contains(&name)
                .then_some((found, name))
        });
        globs.into_iter().next().or(here)
    }
}
