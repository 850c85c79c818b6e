//! Where a value stands in a JSON text.
//!
//! A parsed and printed document is another text: keys in another order, numbers written differently, white space gone. The
//! result that is passed through and the configurations of other CNIs shall stay what they are to the byte, so they are cut
//! and joined as text here. Every slice that comes back is part of the text that went in.

use serde::de::IgnoredAny;

/// A JSON text that is known to be valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Json<'a>(&'a str);

impl<'a> Json<'a> {
    /// Checks it; white space around the value is cut off.
    ///
    /// # Errors
    /// It is no JSON, or there is something after the value.
    pub fn parse(text: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str::<IgnoredAny>(text)?;
        Ok(Self(text.trim_matches(is_space)))
    }

    /// The value's text.
    pub fn text(self) -> &'a str {
        self.0
    }

    /// The value under a key of an object: of equal keys the last, as Go's decoder does.
    pub fn member(self, key: &str) -> Option<Json<'a>> {
        let mut found = None;
        let mut rest = self.0.strip_prefix('{')?.trim_start_matches(is_space);
        while rest.starts_with('"') {
            let (name, after) = rest.split_at(value_length(rest));
            let after = after.trim_start_matches(is_space).strip_prefix(':')?;
            let after = after.trim_start_matches(is_space);
            let (value, after) = after.split_at(value_length(after));
            if serde_json::from_str::<String>(name).is_ok_and(|name| name == key) {
                found = Some(Json(value));
            }
            rest = next(after);
        }
        found
    }

    /// The elements of an array; none when it is something else.
    pub fn elements(self) -> Option<Vec<Json<'a>>> {
        let mut found = Vec::new();
        let mut rest = self.0.strip_prefix('[')?.trim_start_matches(is_space);
        while !rest.is_empty() && !rest.starts_with(']') {
            let (value, after) = rest.split_at(value_length(rest));
            found.push(Json(value));
            rest = next(after);
        }
        Some(found)
    }

    /// The text of a string value.
    pub fn string(self) -> Option<String> {
        serde_json::from_str(self.0).ok()
    }

    /// Where this value begins in `text`, which it must have been cut from.
    pub fn offset_in(self, text: &str) -> Option<usize> {
        let offset = (self.0.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
        (offset + self.0.len() <= text.len()).then_some(offset)
    }
}

/// What follows the comma, or the end.
fn next(after: &str) -> &str {
    let after = after.trim_start_matches(is_space);
    after.strip_prefix(',').unwrap_or(after).trim_start_matches(is_space)
}

/// JSON's white space, which is less than Unicode's.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

/// How many bytes the value at the beginning of valid JSON takes.
fn value_length(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            if !in_string && depth == 0 {
                return at + 1;
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => depth += 1,
            // The end of what surrounds a number or a word.
            b'}' | b']' if depth == 0 => return at,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            b',' | b' ' | b'\t' | b'\n' | b'\r' if depth == 0 => return at,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        " {\"a\" : 1.50 ,\"b\":[ {\"x\":\"},]\\\"\"}, \"s\" ,null,[]],\r\n\"\\u0063\":{ } , \"a\":[1,2]}\n";

    #[test]
    fn values_are_found_as_they_are_written() {
        let json = Json::parse(TEXT).expect("valid");
        assert_eq!(
            json.member("a").map(Json::text),
            Some("[1,2]"),
            "of equal keys the last"
        );
        assert_eq!(
            json.member("c").map(Json::text),
            Some("{ }"),
            "keys are compared unescaped"
        );
        assert_eq!(json.member("d"), None);
        let b = json.member("b").expect("b");
        let elements: Vec<&str> = b.elements().expect("array").into_iter().map(Json::text).collect();
        assert_eq!(elements, ["{\"x\":\"},]\\\"\"}", "\"s\"", "null", "[]"]);
        assert_eq!(b.offset_in(TEXT), TEXT.find('['));
        assert_eq!(b.member("x"), None, "an array has no members");
        assert!(json.elements().is_none());
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in ["", "{", "{} {}", "\u{feff}{}", "{'a':1}", "// c\n{}"] {
            assert!(Json::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(Json::parse("{}").expect("valid").member("a"), None);
        assert_eq!(Json::parse("[]").expect("valid").elements(), Some(Vec::new()));
    }
}
