//! Header fields that are set and removed ([`mutations`]), and texts with commands in them that they are set to ([`format`]).

pub(crate) mod format;
pub(crate) mod mutations;
