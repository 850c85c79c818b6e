//! Names in what a proxy says of resources that it has refused.

use std::ops::Range;

/// Where `name` is in `message`, if it is there as a whole and not as a part of a longer name.
pub fn place_of(message: &str, name: &str) -> Option<Range<usize>> {
    if name.is_empty() {
        return None;
    }
    let mut places = message
        .match_indices(name)
        .map(|(start, found)| start..start + found.len());
    places.find(|place| {
        let before = message.get(..place.start).and_then(|text| text.chars().next_back());
        let mut after = message.get(place.end..).unwrap_or_default().chars();
        let is_longer = match after.next() {
            // At the end of a sentence, or inside of a longer name.
            Some('.' | ':') => after.next().is_some_and(|next| next.is_ascii_alphanumeric()),
            next => next.is_some_and(is_of_name),
        };
        !before.is_some_and(|before| is_of_name(before) || before == '.') && !is_longer
    })
}

/// Whether `name` is there.
pub(in crate::model) fn is_named(message: &str, name: &str) -> bool {
    place_of(message, name).is_some()
}

fn is_of_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '/')
}

#[cfg(test)]
mod tests {
    use super::is_named;

    #[test]
    fn a_name_is_not_taken_for_another_that_begins_or_ends_with_it() {
        let web = "shop/wp/shop/web.shop.svc:80";
        for there in [
            "shop/wp/shop/web.shop.svc:80: no",
            "Error adding/updating cluster(s) shop/wp/shop/web.shop.svc:80",
            "it is `shop/wp/shop/web.shop.svc:80`.",
            "of shop/wp/shop/web.shop.svc:80. Nothing else",
            "shop/wp/shop/web.shop.svc:8080: x; shop/wp/shop/web.shop.svc:80: y",
            "filter chain `shop/wp/shop/web.shop.svc:80 tcp`",
        ] {
            assert!(is_named(there, web), "{there}");
        }
        for other in [
            "shop/wp/shop/web.shop.svc:8080: no",
            "shop/wp/shop/web.shop.svc:80/v1: no",
            "x-shop/wp/shop/web.shop.svc:80: no",
            "",
        ] {
            assert!(!is_named(other, web), "{other}");
        }
        assert!(is_named("route `HTTPRoute shop/a[0]`", "HTTPRoute shop/a"));
        assert!(!is_named("route `HTTPRoute shop/a.b[0]`", "HTTPRoute shop/a"));
        assert!(!is_named("anything", ""));
    }
}
