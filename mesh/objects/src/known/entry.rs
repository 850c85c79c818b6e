//! What is known of a kind and of a field.

use super::restricts::Restricts;
use crate::severity::Severity;

/// A kind of Istio or of the Gateway API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// API group.
    pub group: &'static str,
    /// As in YAML.
    pub kind: &'static str,
    /// As findings call it: the kind, with its group where another kind has the same name.
    pub title: &'static str,
    /// As in the API server's paths.
    pub plural: &'static str,
    /// All that there are; the one to ask for first.
    pub versions: &'static [&'static str],
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// All fields of a kind that is served, parents before children. Empty where nothing of it is served.
    pub fields: &'static [Field],
    /// What happens instead of what an object asks for.
    pub instead: &'static str,
    /// Whether an object would restrict who reaches what it binds.
    pub restricts: Restricts,
    /// The field of the spec that names its parents, of a kind that is not served and in whose status each of them is to hear that.
    pub parents: Option<&'static str>,
}

/// A field of a kind that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its path: `[]` is any item of a list, `*` any key of a map.
    pub path: &'static str,
    /// What holds for it.
    pub state: State,
    /// What holds for its values. Empty where a value is as good as another.
    pub values: &'static [(&'static str, State)],
    /// What holds for all other values of a field whose values are listed, if there may be any.
    pub other_values: Option<State>,
}

/// What holds for a field or a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It means what its documentation says.
    Served,
    /// It cannot be obeyed: the object keeps out whom it might have kept out. Why, and what that comes to.
    Refused(&'static str),
    /// The object holds as without it. What happens instead.
    Ignored(&'static str),
}

/// What findings say of a field that no table names.
pub const UNKNOWN_FIELD: &str = "is a field that Culvert does not know: nothing follows from it";
/// What findings add where an object of a kind that is not served would keep somebody out.
const WOULD_RESTRICT: &str = "it would restrict who reaches what it binds: nobody may, until it is removed";

impl Known {
    /// A kind whose objects live in namespaces and restrict nobody, and of which nothing is served.
    pub(super) const fn of(
        group: &'static str,
        kind: &'static str,
        plural: &'static str,
        versions: &'static [&'static str],
        instead: &'static str,
    ) -> Self {
        Self {
            group,
            kind,
            title: kind,
            plural,
            versions,
            namespaced: true,
            fields: &[],
            instead,
            restricts: Restricts::Never,
            parents: None,
        }
    }

    /// The same kind, whose objects may restrict somebody.
    pub(super) const fn restricting(self, restricts: Restricts) -> Self {
        Self { restricts, ..self }
    }

    /// The same kind, whose objects live in no namespace.
    pub(super) const fn of_cluster(self) -> Self {
        Self {
            namespaced: false,
            ..self
        }
    }

    /// The same kind, whose objects name their parents in a field of their spec.
    pub(super) const fn with_parents(self, field: &'static str) -> Self {
        Self {
            parents: Some(field),
            ..self
        }
    }

    /// Whether any of it is served.
    pub const fn is_served(&self) -> bool {
        !self.fields.is_empty()
    }

    /// Whether no object of it can restrict anybody.
    pub(crate) const fn never_restricts(&self) -> bool {
        matches!(self.restricts, Restricts::Never)
    }

    /// Whether its metadata is all that there is to read of its objects.
    pub(crate) const fn is_metadata_enough(&self) -> bool {
        self.never_restricts() && self.parents.is_none()
    }

    /// What is said of an object of a kind that is not served, which would restrict somebody or not.
    pub(crate) fn not_served(&self, restricts: bool) -> String {
        let said = format!("{} is not served: {}", self.kind, self.instead);
        if restricts {
            return format!("{said}; {WOULD_RESTRICT}");
        }
        said
    }
}

impl State {
    /// How much it matters that an object says something of which this holds.
    pub fn severity(self) -> Severity {
        match self {
            Self::Served => Severity::Info,
            Self::Ignored(_) => Severity::Warning,
            Self::Refused(_) => Severity::Error,
        }
    }

    /// What happens instead of what is not served.
    pub fn instead(self) -> Option<&'static str> {
        match self {
            Self::Served => None,
            Self::Refused(why) | Self::Ignored(why) => Some(why),
        }
    }
}

/// A field without listed values.
pub(super) const fn field(path: &'static str, state: State) -> Field {
    Field {
        path,
        state,
        values: &[],
        other_values: None,
    }
}

/// A field that is served, whatever its value.
pub(super) const fn served(path: &'static str) -> Field {
    field(path, State::Served)
}
