//! What is wrong with a configuration, and where in it.

use std::fmt;

use crate::re2;

/// A configuration that is not served: a message that is not valid, or one with something set in it that this crate does not do.
#[derive(Debug, thiserror::Error)]
pub struct CompileError {
    place: Vec<String>,
    problem: Problem,
}

/// What is wrong with a field.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It is set, and not served.
    #[error("is not served")]
    Unserved,
    /// It is not set, and has to be.
    #[error("is missing")]
    Missing,
    /// Its value is not valid.
    #[error("{0}")]
    Invalid(String),
    /// It is a regular expression that RE2 would refuse.
    #[error(transparent)]
    Regex(#[from] re2::Error),
    /// It is a message of another type, or does not parse.
    #[error(transparent)]
    Unpack(#[from] culvert_envoy::UnpackError),
}

impl CompileError {
    /// What is wrong.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }

    /// Something is wrong with a field.
    pub(crate) fn new(field: impl Into<String>, problem: impl Into<Problem>) -> Self {
        Self {
            place: vec![field.into()],
            problem: problem.into(),
        }
    }

    /// A field is set and not served.
    pub(crate) fn unserved(field: impl Into<String>) -> Self {
        Self::new(field, Problem::Unserved)
    }

    /// A field is not set and has to be.
    pub(crate) fn missing(field: impl Into<String>) -> Self {
        Self::new(field, Problem::Missing)
    }

    /// A field has a value that is not valid.
    pub(crate) fn invalid(field: impl Into<String>, reason: impl fmt::Display) -> Self {
        Self::new(field, Problem::Invalid(reason.to_string()))
    }

    /// The same error, told from further outside.
    #[must_use]
    pub(crate) fn within(mut self, place: impl Into<String>) -> Self {
        self.place.push(place.into());
        self
    }
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for place in self.place.iter().rev() {
            write!(f, "{place}: ")?;
        }
        write!(f, "{}", self.problem)
    }
}

/// Adds the place to what went wrong there.
pub(crate) trait Within<T> {
    /// The same result; its error told from `place`.
    fn within(self, place: impl FnOnce() -> String) -> Result<T, CompileError>;
}

impl<T> Within<T> for Result<T, CompileError> {
    fn within(self, place: impl FnOnce() -> String) -> Self {
        self.map_err(|error| error.within(place()))
    }
}

/// Takes a message of Envoy's API apart into all of its fields, so that one that a later version adds does not compile until somebody
/// decides about it: `served` ones become variables, `unserved` ones are an error where they are set.
macro_rules! take {
    ($message:expr => $($Type:ident)::+ { $($served:ident),* $(,)? } unserved { $($unserved:ident),* $(,)? }) => {
        #[allow(deprecated, reason = "what Envoy deprecates can still be set, and is an error then")]
        let $($Type)::+ { $($served,)* $($unserved,)* } = $message;
        $(
            if $crate::error::is_set($unserved) {
                return Err($crate::error::CompileError::unserved(stringify!($unserved)));
            }
        )*
    };
}
pub(crate) use take;

/// Whether a field has another value than the one that stands for "not set".
pub(crate) fn is_set<T: Default + PartialEq>(value: &T) -> bool {
    *value != T::default()
}
