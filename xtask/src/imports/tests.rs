use super::{graph::Graph, source::Crate};
use std::fs;

/// The circles of a crate of these files.
fn circles(files: &[(&str, &str)]) -> (Vec<Vec<String>>, Vec<Vec<String>>) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let file = folder.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    let krate = Crate::read(&folder.path().join("lib.rs")).unwrap();
    let graph = Graph::of(&krate);
    let short = |circles: Vec<Vec<String>>| {
        let prefix = format!("{}/", folder.path().display());
        let lines = |lines: Vec<String>| lines.iter().map(|line| line.replace(&prefix, "")).collect();
        circles.into_iter().map(lines).collect()
    };
    (short(graph.circles()), short(graph.circles_of_rooms()))
}

#[test]
fn two_files_that_import_each_other_are_a_circle_with_the_names_that_tie_it() {
    let (files, rooms) = circles(&[
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", "use crate::b::B; pub struct A(B);"),
        ("b.rs", "pub struct B; fn f() { let _ = vec![super::a::A::new()]; }"),
    ]);
    assert_eq!(files, [["a.rs -> b.rs: B", "b.rs -> a.rs: A"]]);
    assert_eq!(rooms.len(), 1);
}

#[test]
fn a_name_is_followed_through_re_exports_to_the_file_that_defines_it() {
    let (files, rooms) = circles(&[
        ("lib.rs", "mod a; mod b;"),
        ("a/mod.rs", "mod one; mod two; pub(crate) use one::One;"),
        ("a/one.rs", "pub struct One;"),
        ("a/two.rs", "use super::One; use crate::b; fn f(_: One) { b::g() }"),
        ("b.rs", "pub fn g() {}"),
    ]);
    assert!(files.is_empty() && rooms.is_empty(), "{files:?} {rooms:?}");
}

#[test]
fn a_folder_that_uses_its_file_and_is_used_by_it_is_a_circle() {
    let (files, _) = circles(&[
        ("lib.rs", "mod a;"),
        ("a/mod.rs", "mod one; use one::One; pub struct All(One);"),
        ("a/one.rs", "use super::All; pub struct One; impl From<All> for One {}"),
    ]);
    assert_eq!(files.len(), 1);
}

#[test]
fn rooms_whose_files_form_no_circle_may_still_form_one() {
    let (files, rooms) = circles(&[
        ("lib.rs", "mod a; mod b;"),
        ("a/mod.rs", "mod one; mod two;"),
        ("a/one.rs", "use crate::b::one::X;"),
        ("a/two.rs", "pub struct Y;"),
        ("b/mod.rs", "pub mod one; mod two;"),
        ("b/one.rs", "pub struct X;"),
        ("b/two.rs", "use crate::a::two::Y;"),
    ]);
    assert!(files.is_empty());
    assert_eq!(rooms, [["a/one.rs -> b/one.rs: X", "b/two.rs -> a/two.rs: Y"]]);
}

#[test]
fn what_tests_import_is_no_import() {
    let (files, _) = circles(&[
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", "use crate::b::B; pub struct A(B);"),
        (
            "b.rs",
            "pub struct B; #[cfg(test)] mod tests { use crate::a::A; } #[cfg(test)] use crate::a::A;",
        ),
    ]);
    assert!(files.is_empty(), "{files:?}");
}

#[test]
fn the_workspace_has_no_circle_and_no_program_that_imports_another() {
    super::check().unwrap();
}
