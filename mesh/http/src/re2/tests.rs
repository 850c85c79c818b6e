//! The table of differences that was seen between google-re2 1.1.20251105 and regex 1.13.1, as tests.

use super::*;

fn full(pattern: &str, text: &str) -> bool {
    Regex::new(pattern).unwrap().is_full_match(text.as_bytes())
}

#[test]
fn classes_are_those_of_ascii_and_the_dot_and_case_are_unicodes() {
    assert!(full(r"\d\w\s", "1a ") && !full(r"\d", "٣") && !full(r"\w", "é") && !full(r"\s", "\u{a0}"));
    assert!(!full(r"\s", "\u{b}") && !full(r"\s", "\u{85}"));
    assert!(full(".", "é") && full("(?i)k", "\u{212a}") && full("(?i)s", "ſ"));
    assert!(full(r"a\b-\bb", "a-b") && full(r"é\b.a", "é a") == full(r"é\B.a", "éxa"));
}

#[test]
fn a_brace_that_opens_no_repetition_is_a_character() {
    for pattern in ["/users/{id}", "x{", "a{,5}", "a{1", "{a}", "a{1, 2}", "a{ 1 }", "a{01}"] {
        assert!(full(pattern, pattern), "{pattern}");
    }
    assert!(full("a{2}", "aa") && full("a{2,}", "aaa") && full("a{1,2}", "a"));
}

#[test]
fn brackets_within_brackets_are_characters() {
    assert!(full("[[]", "[") && full("[^[]+", "ab") && full("[a[b]", "[") && full("[[a]]", "[]"));
    assert!(full("[[:alpha:]]", "x") && full("[[:^alpha:]]", "1") && full("[]a]", "]") && full("[^]a]", "b"));
}

#[test]
fn members_of_classes_are_no_operators() {
    assert!(
        full("[a&&b]", "&") && full("[a&&b]", "a") && full("[a~~b]", "~") && full("[+--]", ",") && full("[!--]", "#")
    );
    assert!(full(r"[\w-.]+", "a-.") && !full(r"[\w-.]", ",") && full(r"[\d-z]+", "1-z"));
}

#[test]
fn escapes_that_only_re2_has_are_translated() {
    assert!(
        full(r"\<a\>", "<a>")
            && full(r"\Q.*\E+", ".**")
            && full(r"\07", "\x07")
            && full(r"\101", "A")
            && full(r"\0", "\0")
    );
    assert!(full(r"\p{^Greek}", "a") && full(r"\p{Greek}", "α") && full(r"\pL", "é") && full(r"\P{^Lu}", "A"));
    assert!(Regex::new(r"a\Cb").unwrap().is_full_match(b"a\xffb"));
}

#[test]
fn what_re2_refuses_is_refused() {
    for pattern in [
        "a**",
        "a*+",
        "a+*",
        "a???",
        "(?x)a",
        r"\u0041",
        r"\p{Letter}",
        r"\p{Grek}",
        "a{1001}",
        "(a{100}){100}",
        "(?P<a.b>x)",
        "(?P<>x)",
        "[a--b]",
        "[[:foo:]]",
        "a{2}{3}",
        "*",
        "(*)",
        "|*",
        r"\1",
        r"\Z",
        r"\8",
        "[z-a]",
        "(?R)",
        "a)",
        "(a",
        "[a",
        r"\E",
        "a{2,1}",
        r"(?=a)",
        r"(?<!a)",
        r"\h",
        r"[\b]",
        r"\x{110000}",
        r"\xg0",
        r"\",
        "(?i-)",
        "(?)",
    ] {
        assert!(Regex::new(pattern).is_err(), "{pattern}");
    }
}

#[test]
fn long_repetitions_of_classes_fit() {
    assert!(full(r"[\w.-]{1,253}", "a.b-c") && full(r"\w{1,255}", "abc"));
}

#[test]
fn two_groups_may_have_one_name() {
    assert!(full("(?P<a>x)(?P<a>y)", "xy") && full("(?<a>x)", "x"));
}

#[test]
fn the_whole_text_has_to_match() {
    assert!(full("a|ab", "ab") && !full("a", "ab") && !full("b", "ab") && !full("(?m)^a$", "a\nb"));
    assert!(!full("a$", "a\n"));
    assert!(!Regex::new("caf.").unwrap().is_full_match(b"caf\xe9"));
}

#[test]
fn substitutions_take_groups_and_replace_every_match() {
    let regex = Regex::new("^/c(/?)(.*)").unwrap();
    let by = regex.substitution(r"/\2").unwrap();
    assert_eq!(regex.replace_all(b"/c/x", &by), b"/x");
    assert_eq!(regex.replace_all(b"/c", &by), b"/");
    let regex = Regex::new("a").unwrap();
    assert_eq!(
        regex.replace_all(b"banana", &regex.substitution("$\\\\").unwrap()),
        b"b$\\n$\\n$\\"
    );
    assert!(
        regex.substitution(r"\1").is_err() && regex.substitution(r"\n").is_err() && regex.substitution("\\").is_err()
    );
    let regex = Regex::new("a*").unwrap();
    assert_eq!(regex.replace_all(b"baac", &regex.substitution("x").unwrap()), b"xbxcx");
}

#[test]
fn a_literal_prefix_is_in_front_of_everything_that_matches() {
    assert_eq!(literal_prefix("/item/[0-9]+"), "/item/");
    assert_eq!(literal_prefix("^/ab*"), "/a");
    assert_eq!(literal_prefix("/a|/b"), "");
    assert_eq!(literal_prefix("/shop.Cart"), "/shop");
    assert_eq!(literal_prefix("(?i)/a"), "");
}
