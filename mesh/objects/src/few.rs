//! A list that mostly has one member.

/// One, which takes no room of its own, or several.
#[derive(Clone, Debug)]
pub enum Few<T> {
    /// The one.
    One(T),
    /// Two or more, or what is left of them.
    Many(Vec<T>),
}

impl<T> Few<T> {
    /// All of them.
    pub fn as_slice(&self) -> &[T] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }

    /// Adds one.
    pub fn push(&mut self, new: T) {
        let many = match std::mem::replace(self, Self::Many(Vec::new())) {
            Self::One(one) => vec![one, new],
            Self::Many(mut many) => {
                many.push(new);
                many
            }
        };
        *self = Self::Many(many);
    }

    /// Keeps what is wanted. Whether anything is: else the list itself is to be dropped, and may still hold the one.
    #[must_use]
    pub fn retain(&mut self, wanted: impl Fn(&T) -> bool) -> bool {
        match self {
            Self::One(one) => wanted(one),
            Self::Many(many) => {
                many.retain(wanted);
                !many.is_empty()
            }
        }
    }
}
