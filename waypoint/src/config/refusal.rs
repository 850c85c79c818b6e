//! Why a resource is refused: by field, so that whoever wrote it finds it.

use std::fmt::Debug;

use culvert_envoy::UnpackError;
use culvert_http::CompileError;

/// What is wrong with a resource, and where in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {why}")]
pub struct Refusal {
    /// Where: fields, with the names of what they belong to.
    pub place: String,
    /// Why.
    pub why: String,
}

impl Refusal {
    /// For what is at `place`.
    pub fn new(place: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            why: why.into(),
        }
    }

    /// The same, as part of something larger.
    #[must_use]
    pub fn within(self, place: &str) -> Self {
        Self {
            place: format!("{place}: {}", self.place),
            ..self
        }
    }
}

/// For a message inside of another one that is not what it should be.
pub(crate) fn malformed(place: &str) -> impl Fn(UnpackError) -> Refusal {
    move |error| Refusal::new(place, error.to_string())
}

/// For what `culvert_http` refuses.
pub(crate) fn compiled(place: &str) -> impl Fn(CompileError) -> Refusal {
    move |error| Refusal::new(place, error.to_string())
}

/// Refuses what is still set in `rest`, a message from which everything was taken that is served.
pub(crate) fn nothing_else<M: Default + PartialEq + Debug>(place: &str, rest: &M) -> Result<(), Refusal> {
    let none = M::default();
    if *rest == none {
        return Ok(());
    }
    let (rest, none) = (format!("{rest:#?}"), format!("{none:#?}"));
    // A message's own fields are indented by four.
    let fields = |text: &str| -> Vec<(String, String)> {
        let mut fields: Vec<(String, String)> = Vec::new();
        for line in text.lines() {
            match line
                .strip_prefix("    ")
                .filter(|line| !line.starts_with([' ', '}', ')', ']']))
            {
                Some(field) => {
                    let (name, value) = field.split_once(": ").unwrap_or((field, ""));
                    fields.push((name.to_owned(), value.to_owned()));
                }
                None => {
                    if let Some((_, value)) = fields.last_mut() {
                        value.push_str(line);
                    }
                }
            }
        }
        fields
    };
    let set: Vec<String> = fields(&rest)
        .into_iter()
        .zip(fields(&none))
        .filter(|(field, default)| field != default)
        .map(|((name, _), _)| name)
        .collect();
    Err(Refusal::new(
        format!("{place}: {}", set.join(", ")),
        "is set, and is not served here",
    ))
}

#[cfg(test)]
mod tests {
    use culvert_envoy::pb::envoy::config::{cluster::v3::Cluster, core::v3::Metadata};

    use super::*;

    #[test]
    fn what_is_set_and_not_served_is_refused_by_the_names_of_its_fields() {
        let mut rest = Cluster::default();
        assert_eq!(nothing_else("cluster a", &rest), Ok(()));
        rest.alt_stat_name = "b".to_owned();
        rest.metadata = Some(Metadata::default());
        let refusal = nothing_else("cluster a", &rest).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "cluster a: alt_stat_name, metadata: is set, and is not served here"
        );
    }
}
