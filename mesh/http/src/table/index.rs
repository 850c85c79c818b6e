//! An index over the routes of a virtual host. It narrows them down and keeps their order: the first route that matches is the one
//! that counts, so of each list of candidates only those in front of the best one so far are tried.

use rustc_hash::FxHashMap;

use crate::matching::path::Key;

/// Numbers of routes by what is known of the paths that they match.
#[derive(Debug, Default)]
pub(super) struct Index {
    exact: FxHashMap<String, Vec<usize>>,
    exact_ignoring_case: FxHashMap<String, Vec<usize>>,
    prefixes: Prefixes,
    prefixes_ignoring_case: Prefixes,
    others: Vec<usize>,
}

/// Prefixes in order, each with the next shorter one that it begins with.
#[derive(Debug, Default)]
struct Prefixes {
    building: FxHashMap<String, Vec<usize>>,
    sorted: Vec<Prefix>,
}

#[derive(Debug)]
struct Prefix {
    text: Box<str>,
    routes: Vec<usize>,
    shorter: Option<usize>,
}

impl Index {
    /// Adds a route; their numbers go up.
    pub(super) fn add(&mut self, key: Key<'_>, route: usize) {
        let list = match key {
            Key::Exact {
                path,
                ignore_case: false,
            } => self.exact.entry(path.to_owned()).or_default(),
            Key::Exact {
                path,
                ignore_case: true,
            } => self.exact_ignoring_case.entry(path.to_ascii_lowercase()).or_default(),
            Key::Prefix {
                prefix,
                ignore_case: false,
            } => self.prefixes.building.entry(prefix.to_owned()).or_default(),
            Key::Prefix {
                prefix,
                ignore_case: true,
            } => self
                .prefixes_ignoring_case
                .building
                .entry(prefix.to_ascii_lowercase())
                .or_default(),
            Key::Any => &mut self.others,
        };
        list.push(route);
    }

    /// Makes the index usable, after the last route.
    pub(super) fn finish(&mut self) {
        self.prefixes.finish();
        self.prefixes_ignoring_case.finish();
    }

    /// The first route that may match the path and `fits`.
    pub(super) fn first(&self, path: &str, fits: impl Fn(usize) -> bool) -> Option<usize> {
        let mut best = usize::MAX;
        let mut look = |routes: &[usize]| {
            let ahead = routes.iter().copied().take_while(|route| *route < best);
            if let Some(route) = { ahead }.find(|route| fits(*route)) {
                best = route;
            }
        };
        if let Some(routes) = self.exact.get(path) {
            look(routes);
        }
        self.prefixes.each(path, &mut look);
        if !self.exact_ignoring_case.is_empty() || !self.prefixes_ignoring_case.sorted.is_empty() {
            let lower = path.to_ascii_lowercase();
            if let Some(routes) = self.exact_ignoring_case.get(&lower) {
                look(routes);
            }
            self.prefixes_ignoring_case.each(&lower, &mut look);
        }
        look(&self.others);
        (best != usize::MAX).then_some(best)
    }
}

impl Prefixes {
    fn finish(&mut self) {
        let mut sorted: Vec<(String, Vec<usize>)> = std::mem::take(&mut self.building).into_iter().collect();
        sorted.sort_unstable();
        for (text, routes) in sorted {
            // In order, a prefix of this one is the one before it or one that that one begins with.
            let mut shorter = self.sorted.len().checked_sub(1);
            while let Some(number) = shorter
                && !text.starts_with(&*self.sorted[number].text)
            {
                shorter = self.sorted[number].shorter;
            }
            self.sorted.push(Prefix {
                text: text.into(),
                routes,
                shorter,
            });
        }
    }

    /// Calls for the routes of every prefix that the path begins with, the longest first.
    fn each(&self, path: &str, look: &mut impl FnMut(&[usize])) {
        let after = self.sorted.partition_point(|prefix| *prefix.text <= *path);
        let mut at = after.checked_sub(1);
        let mut begins = false;
        while let Some(number) = at {
            let prefix = &self.sorted[number];
            begins = begins || path.starts_with(&*prefix.text);
            if begins {
                look(&prefix.routes);
            }
            at = prefix.shorter;
        }
    }
}
