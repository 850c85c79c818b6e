//! What the kernel that the tests run on has.

/// The ways to attach a guard (`--guard-hook`) that it has. That it has no tcx is said by whoever knows which kernel it is
/// (`cargo xtask test --kernel`); nothing else leaves it out.
pub fn guard_hooks() -> Vec<&'static str> {
    match std::env::var_os("CULVERT_TEST_WITHOUT_TCX") {
        None => vec!["tcx", "clsact"],
        Some(_) => vec!["clsact"],
    }
}
