//! What is said of a refusal.

/// How it ends.
pub(in crate::model) const STAYS: &str = "(what it had of it before stays in force)";

/// Who refuses which resource, and why: in the proxy's own message.
pub(super) fn message(who: &str, type_url: &str, name: Option<&str>, why: &str) -> String {
    let kind = type_url.rsplit(['.', '/']).next().unwrap_or_default();
    let what = match name {
        Some(name) => format!("{kind} {name}"),
        None => format!("some {kind} and does not say which"),
    };
    let why = if why.is_empty() { "it does not say why" } else { why };
    format!("{who} refuses {what}: {why} {STAYS}")
}
