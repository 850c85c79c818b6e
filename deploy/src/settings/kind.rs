//! What the value of a setting may be. It is no wider than what the programs take, so that what is accepted here starts there.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    time::Duration,
};

use ipnet::IpNet;

/// What the value of a setting may be. Displays as what is allowed, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A time as the programs read it: numbers with units, the largest first by custom: `90s`, `1h30m`.
    Time {
        /// The shortest, in milliseconds.
        least: u64,
        /// The longest, in milliseconds.
        most: u64,
    },
    /// Bytes, 1 MiB or more, with or without a unit: `256Mi`.
    Size,
    /// A number.
    Number {
        /// The smallest.
        least: u32,
        /// The largest.
        most: u32,
    },
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Some of these words, with commas.
    SomeOf(&'static [&'static str]),
    /// Ranges of addresses, with commas.
    Ranges,
    /// Ports, with commas.
    Ports,
    /// Addresses, with or without a port, with commas.
    Resolvers,
    /// A name as DNS has them, in lower case.
    Name,
    /// A trust domain as SPIFFE has them: lower-case letters, digits, and `.-_`.
    TrustDomain,
    /// Letters, digits, and `-._:/@`.
    Word,
    /// An absolute path.
    Path,
    /// An image.
    Image,
    /// What to log: a level, or a filter.
    LogFilter,
}

/// Values that show what a kind allows.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Examples {
    /// Each may be given.
    pub allowed: Vec<String>,
    /// None of them may.
    pub refused: Vec<String>,
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
/// By their length in milliseconds.
const UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

impl Kind {
    /// Whether a value may be given.
    #[must_use]
    pub fn allows(&self, value: &str) -> bool {
        match self {
            Self::Time { least, most } => {
                let range = Duration::from_millis(*least)..=Duration::from_millis(*most);
                humantime::parse_duration(value).is_ok_and(|time| range.contains(&time))
            }
            Self::Size => size(value).is_some_and(|bytes| bytes >= 1 << 20),
            Self::Number { least, most } => {
                digits(value) && value.parse().is_ok_and(|number| (*least..=*most).contains(&number))
            }
            Self::OneOf(words) => words.contains(&value),
            Self::SomeOf(words) => value.split(',').all(|one| words.contains(&one.trim())),
            Self::Ranges => each::<IpNet>(value),
            Self::Ports => value.split(',').all(digits) && each::<u16>(value),
            Self::Resolvers => value
                .split(',')
                .all(|one| one.parse::<IpAddr>().is_ok() || one.parse::<SocketAddr>().is_ok()),
            Self::Name => value.len() <= 253 && value.split('.').all(is_label),
            Self::TrustDomain => {
                value.len() <= 255 && is_of(value, ".-_") && !value.bytes().any(|byte| byte.is_ascii_uppercase())
            }
            Self::Word => is_of(value, "-._:/@"),
            Self::Path => value.starts_with('/') && is_of(value, "-._/") && value.split('/').all(|part| part != ".."),
            Self::Image => {
                is_of(value, "-._:/@")
                    && value.starts_with(|c: char| c.is_ascii_alphanumeric())
                    && !value.ends_with('/')
            }
            Self::LogFilter => is_log_filter(value),
        }
    }

    /// Values that may be given, and such that may not.
    #[must_use]
    pub fn examples(&self) -> Examples {
        let (allowed, refused): (Vec<String>, &[&str]) = match self {
            Self::Time { least, most } => {
                let edges = [format!("{least}ms"), format!("{most}ms")];
                let mut refused: Vec<String> = ["10", "s", "-1s", "soon"].map(str::to_owned).into();
                refused.push(format!("{}ms", most.saturating_add(1)));
                refused.extend(least.checked_sub(1).map(|less| format!("{less}ms")));
                return Examples {
                    allowed: edges.into(),
                    refused,
                };
            }
            Self::Number { least, most } => {
                let mut refused: Vec<String> = ["-1", "1.5", "many"].map(str::to_owned).into();
                refused.push((u64::from(*most) + 1).to_string());
                return Examples {
                    allowed: vec![least.to_string(), most.to_string()],
                    refused,
                };
            }
            Self::Size => (
                owned(&["1Mi", "256Mi", "1073741824"]),
                &["1", "1023Ki", "1.5Gi", "-1Mi", "12K"],
            ),
            Self::OneOf(words) => (owned(words), &["other"]),
            Self::SomeOf(words) => (
                vec![words.join(","), words.first().copied().unwrap_or_default().to_owned()],
                &["other"],
            ),
            Self::Ranges => (
                owned(&["198.18.0.0/15", "fd00:c01e::/64,198.18.0.0/15"]),
                &["198.18.0.0/33", "all"],
            ),
            Self::Ports => (owned(&["53", "53,9100"]), &["65536", "-1", "http"]),
            Self::Resolvers => (
                owned(&["198.18.0.53", "198.18.0.53:5353,fd00:c01e::53,[fd00:c01e::53]:5353"]),
                &["dns.example", "198.18.0.53:dns"],
            ),
            Self::Name => (owned(&["mesh", "a-1.example"]), &["a b", "-a", "a..b"]),
            Self::TrustDomain => (owned(&["mesh.example", "my_mesh"]), &["a b", "Mesh", "a/b"]),
            Self::Word => (
                owned(&["east", "arn:aws:eks:zone-1:42:cluster/a_b.c"]),
                &["a b", "a,b", "\"a\""],
            ),
            Self::Path => (
                owned(&["/etc/culvert/jwks-ca/roots.pem"]),
                &["roots.pem", "/etc/../roots.pem"],
            ),
            Self::Image => (
                owned(&["envoy", "registry.example:5000/envoyproxy/envoy:v1.40.0"]),
                &["a b", "registry.example/"],
            ),
            Self::LogFilter => (
                owned(&["debug", "info, culvert_agent=debug,kernel=TRACE", "warn,hyper=0"]),
                &["info,agent=loud"],
            ),
        };
        Examples {
            allowed,
            refused: owned(refused),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time { least, most } => {
                write!(
                    f,
                    "a time from {} to {}, such as 90s or 1m30s",
                    in_words(*least),
                    in_words(*most)
                )
            }
            Self::Size => f.write_str("a size of 1Mi or more, such as 256Mi or 1Gi"),
            Self::Number { least, most } => write!(f, "a number from {least} to {most}"),
            Self::OneOf(words) => f.write_str(&words.join(" or ")),
            Self::SomeOf(words) => write!(f, "a list, with commas, of {}", words.join(", ")),
            Self::Ranges => f.write_str("a list of ranges, with commas, such as 198.18.0.0/15"),
            Self::Ports => f.write_str("a list of ports, with commas"),
            Self::Resolvers => f.write_str("a list, with commas, of addresses, or of addresses with ports"),
            Self::Name => f.write_str("a name in lower case, such as cluster.local"),
            Self::TrustDomain => f.write_str("a trust domain, of lower-case letters, digits, and .-_"),
            Self::Word => f.write_str("a name of letters, digits, and -._:/@"),
            Self::Path => f.write_str("an absolute path"),
            Self::Image => f.write_str("an image, such as registry.example/envoy:v1"),
            Self::LogFilter => write!(
                f,
                "a level ({}), or a filter such as info,culvert_agent=debug",
                LEVELS.join(", ")
            ),
        }
    }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn each<T: FromStr>(list: &str) -> bool {
    list.split(',').all(|one| one.parse::<T>().is_ok())
}

fn is_of(text: &str, more: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
}

fn is_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty() && text.len() <= 63 && text.chars().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// With the largest unit that leaves nothing over.
fn in_words(time: u64) -> String {
    let fits = UNITS
        .iter()
        .rev()
        .find(|(_, length)| time > 0 && time.is_multiple_of(*length));
    fits.map_or("0s".to_owned(), |(name, length)| format!("{}{name}", time / length))
}

fn size(text: &str) -> Option<u64> {
    let units = [("Ki", 10), ("Mi", 20), ("Gi", 30)];
    let unit = units
        .iter()
        .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)));
    let (number, shift) = unit.unwrap_or((text, 0));
    digits(number).then_some(())?;
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Spans and their fields, in brackets, are left to the program.
fn is_log_filter(text: &str) -> bool {
    let is_level = |level: &str| {
        LEVELS.contains(&level.to_ascii_lowercase().as_str()) || matches!(level.as_bytes(), [b'0'..=b'5'])
    };
    let is_directive = |one: &str| match one.split_once('=') {
        Some((target, level)) => is_of(target, "-_:.") && is_level(level),
        None => is_of(one, "-_:."),
    };
    match text.contains('[') {
        true => !text.chars().any(char::is_control),
        false => text.replace(", ", ",").split(',').all(is_directive),
    }
}
