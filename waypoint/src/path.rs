//! Normal forms of paths, as Envoy's `normalize_path` has them.

/// Dot segments removed (also those with `%2e`, and with parameters behind them), `\` made `/`, `|` escaped, escapes of unreserved
/// characters decoded, `%2f` kept. None where it has `%00` in it.
pub(crate) fn normalize(path: &str) -> Option<String> {
    let decoded = decode(path)?;
    let mut segments: Vec<&str> = Vec::new();
    let all: Vec<&str> = decoded.split('/').skip(1).collect();
    let last = all.len().saturating_sub(1);
    for (at, segment) in all.iter().enumerate() {
        let bare = segment.split(';').next().unwrap_or_default();
        match bare {
            "." | ".." => {
                // Above the root there is nothing (RFC 3986 section 5.2.4).
                if bare == ".." {
                    segments.pop();
                }
                // What a dot segment at the end leads to is a folder.
                if at == last {
                    segments.push("");
                }
            }
            _ => segments.push(segment),
        }
    }
    Some(format!("/{}", segments.join("/")))
}

fn decode(path: &str) -> Option<String> {
    let mut out = String::with_capacity(path.len());
    let bytes = path.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%').then(|| path.get(at + 1..at + 3)).flatten();
        let value = escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match value {
            Some(0) => return None,
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                out.push(char::from(byte));
                at += 3;
            }
            _ => {
                let character = path[at..].chars().next()?;
                match character {
                    '\\' => out.push('/'),
                    '|' => out.push_str("%7C"),
                    other => out.push(other),
                }
                at += character.len_utf8();
            }
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::normalize;

    #[test]
    fn paths_that_mean_the_same_become_the_same() {
        for (path, normal) in [
            ("/", Some("/")),
            ("/a/b", Some("/a/b")),
            ("/a/../b", Some("/b")),
            ("/a/./b", Some("/a/b")),
            ("/a/%2e%2E/b", Some("/b")),
            ("/a/..;x=1/b", Some("/b")),
            ("/a\\..\\b", Some("/b")),
            ("/a/..", Some("/")),
            ("/a/b/.", Some("/a/b/")),
            ("/%61dmin", Some("/admin")),
            ("/a%2fb", Some("/a%2fb")),
            ("/a//b", Some("/a//b")),
            ("/a|b", Some("/a%7Cb")),
            ("/..", Some("/")),
            ("/a/../../b", Some("/b")),
            ("/a%00", None),
            ("/a%", Some("/a%")),
        ] {
            assert_eq!(normalize(path).as_deref(), normal, "{path}");
        }
    }
}
