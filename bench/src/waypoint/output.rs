//! What is said while it is measured.

/// For who waits.
pub(super) fn say(text: &str) {
    eprintln!("==> {text}");
}
