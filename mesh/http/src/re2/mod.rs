//! RE2's regular expressions, which Envoy's configuration is written in, on the crate `regex`: [`translate`](translate::translate)
//! rewrites what the two read differently, and refuses what RE2 refuses.

mod translate;

use regex::bytes;

/// Memory of one compiled expression, in bytes. RE2 has 8 MiB by default.
const SIZE_LIMIT: usize = 8 << 20;

/// An expression that RE2 would refuse, or that is too large.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// RE2 does not take it.
    #[error("the regular expression {pattern:?} is not RE2's: {reason}")]
    Syntax {
        /// The expression.
        pattern: String,
        /// Why.
        reason: String,
    },
    /// It compiles to more than [`SIZE_LIMIT`].
    #[error("the regular expression {0:?} is too large")]
    TooLarge(String),
    /// A substitution that names a group which the expression does not have, or has a backslash before anything else than a digit or a backslash.
    #[error("the substitution {0:?} is not valid")]
    Substitution(String),
}

/// A regular expression.
#[derive(Clone, Debug)]
pub struct Regex {
    whole: bytes::Regex,
    part: bytes::Regex,
}

impl Regex {
    /// Compiles an expression.
    ///
    /// # Errors
    /// Where RE2 refuses it, and where it is too large.
    pub fn new(pattern: &str) -> Result<Self, Error> {
        let translated = translate::translate(pattern).map_err(|reason| Error::Syntax {
            pattern: pattern.to_owned(),
            reason,
        })?;
        let build = |text: &str| {
            bytes::RegexBuilder::new(text)
                .size_limit(SIZE_LIMIT)
                .build()
                .map_err(|error| match error {
                    regex::Error::CompiledTooBig(_) => Error::TooLarge(pattern.to_owned()),
                    other => Error::Syntax {
                        pattern: pattern.to_owned(),
                        reason: other.to_string(),
                    },
                })
        };
        Ok(Self {
            part: build(&translated)?,
            whole: build(&format!(r"\A(?:{translated})\z"))?,
        })
    }

    /// Whether the whole text matches: RE2's `FullMatch`.
    pub fn is_full_match(&self, text: &[u8]) -> bool {
        self.whole.is_match(text)
    }

    /// Whether some part of the text matches.
    pub fn is_partial_match(&self, text: &[u8]) -> bool {
        self.part.is_match(text)
    }

    /// The text with every match replaced: RE2's `GlobalReplace`.
    pub fn replace_all(&self, text: &[u8], by: &Substitution) -> Vec<u8> {
        self.part
            .replace_all(text, |found: &bytes::Captures<'_>| {
                let mut out = Vec::new();
                for piece in &by.0 {
                    match piece {
                        Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                        Piece::Group(number) => {
                            out.extend_from_slice(found.get(*number).map_or(&[], |group| group.as_bytes()));
                        }
                    }
                }
                out
            })
            .into_owned()
    }

    /// Reads a substitution for this expression: text with `\0` to `\9` for groups and `\\` for a backslash.
    ///
    /// # Errors
    /// Where it has another escape in it, or names a group that is not there.
    pub fn substitution(&self, text: &str) -> Result<Substitution, Error> {
        let bad = || Error::Substitution(text.to_owned());
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            if character != '\\' {
                literal.push(character);
                continue;
            }
            match characters.next() {
                Some('\\') => literal.push('\\'),
                Some(digit) => {
                    let group = digit.to_digit(10).ok_or_else(bad)? as usize;
                    if group >= self.part.captures_len() {
                        return Err(bad());
                    }
                    pieces.push(Piece::Text(std::mem::take(&mut literal)));
                    pieces.push(Piece::Group(group));
                }
                None => return Err(bad()),
            }
        }
        pieces.push(Piece::Text(literal));
        Ok(Substitution(pieces))
    }
}

/// What a match is replaced with.
#[derive(Clone, Debug)]
pub struct Substitution(Vec<Piece>);

#[derive(Clone, Debug)]
enum Piece {
    Text(String),
    Group(usize),
}

/// Text that everything which the expression matches begins with: what an index of many expressions can be made of. Empty where nothing
/// is known.
pub fn literal_prefix(pattern: &str) -> &str {
    if pattern.contains('|') {
        return "";
    }
    let pattern = pattern.strip_prefix('^').unwrap_or(pattern);
    let plain = |character: char| character.is_ascii_alphanumeric() || matches!(character, '/' | '_' | '-');
    let end = pattern.find(|character| !plain(character)).unwrap_or(pattern.len());
    let repeated = pattern[end..].starts_with(['*', '?', '{', '+']);
    &pattern[..if repeated { end.saturating_sub(1) } else { end }]
}

#[cfg(test)]
mod tests;
