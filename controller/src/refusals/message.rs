//! What a proxy says, cut to what a status can hold.

use culvert_envoy::SECRET_TYPE;

/// The longest that is kept of what a proxy says of one resource, bytes.
const LONGEST: usize = 512;

/// Behind this and what is in brackets Envoy prints the whole message, values of headers among it.
const VALIDATION: &str = "Proto constraint validation failed (";

/// In one line, not too long, and without the contents of the resource.
pub(super) fn cleaned(type_url: &str, said: &str) -> String {
    if type_url == SECRET_TYPE {
        return "its own log says why".to_owned();
    }
    let mut text: String = without_contents(said)
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect();
    text.truncate(text.trim_end().len());
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST));
        text.push('…');
    }
    text
}

fn without_contents(said: &str) -> &str {
    let Some(start) = said.find(VALIDATION).map(|at| at + VALIDATION.len()) else {
        return said;
    };
    let mut depth = 1;
    for (place, letter) in said.get(start..).unwrap_or_default().char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return said.get(..=start + place).unwrap_or(said);
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use culvert_envoy::{ROUTE_TYPE, SECRET_TYPE};

    use super::{LONGEST, cleaned};

    #[test]
    fn no_contents_of_a_resource_get_into_a_status_and_no_more_than_it_can_hold() {
        let said = "Proto constraint validation failed (RouteValidationError.Name: value (x) must be): name: \"a\"\nvalue: \"secret\"";
        let text = cleaned(ROUTE_TYPE, said);
        assert_eq!(
            text,
            "Proto constraint validation failed (RouteValidationError.Name: value (x) must be)"
        );
        assert_eq!(cleaned(ROUTE_TYPE, "a\nb\t \n"), "a b");
        assert!(!cleaned(SECRET_TYPE, "key abc").contains("abc"));
        let long = cleaned(ROUTE_TYPE, &"ä".repeat(LONGEST));
        assert!(long.len() <= LONGEST + '…'.len_utf8() && long.ends_with('…'), "{long}");
    }
}
