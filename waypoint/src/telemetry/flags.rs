//! What went wrong with a request, in Envoy's words.

use std::fmt;

/// Response flags, in the order in which they were set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags(Vec<&'static str>);

impl Flags {
    /// Adds one.
    pub fn set(&mut self, flag: &'static str) {
        if !self.0.contains(&flag) {
            self.0.push(flag);
        }
    }

    /// Whether it was set.
    pub fn has(&self, flag: &str) -> bool {
        self.0.contains(&flag)
    }

    /// All of them.
    pub fn as_slice(&self) -> &[&'static str] {
        &self.0
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Flags {
    /// `-` for none, else a list with commas.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("-");
        }
        f.write_str(&self.0.join(","))
    }
}
