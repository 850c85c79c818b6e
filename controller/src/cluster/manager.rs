//! The name under which this program changes objects.

/// Whose the written objects are: the field manager, the label's value, the reporter of events.
pub(super) const MANAGER: &str = "culvert-controller";
