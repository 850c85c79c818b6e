//! Which answers a TrafficPolicy has compressed.

use serde::Deserialize;

use super::super::super::policy::{Algorithm, Compression};
use super::super::values::Bad;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CompressionSpec {
    algorithms: Option<Vec<AlgorithmSpec>>,
    minimum_size: Option<u32>,
    content_types: Option<Vec<String>>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum AlgorithmSpec {
    Br,
    Gzip,
    Zstd,
}

/// What is compressed where nothing is said: what is text.
const CONTENT_TYPES: [&str; 12] = [
    "text/html",
    "text/plain",
    "text/css",
    "text/csv",
    "text/xml",
    "text/javascript",
    "application/javascript",
    "application/json",
    "application/problem+json",
    "application/xml",
    "application/xhtml+xml",
    "image/svg+xml",
];

/// Reads it.
///
/// # Errors
/// Where a value is none that can be meant.
pub(super) fn read(spec: CompressionSpec) -> Result<Compression, Bad> {
    let all = || vec![AlgorithmSpec::Zstd, AlgorithmSpec::Br, AlgorithmSpec::Gzip];
    let mut algorithms = Vec::new();
    for asked in spec.algorithms.unwrap_or_else(all) {
        let algorithm = match asked {
            AlgorithmSpec::Br => Algorithm::Brotli,
            AlgorithmSpec::Gzip => Algorithm::Gzip,
            AlgorithmSpec::Zstd => Algorithm::Zstd,
        };
        if !algorithms.contains(&algorithm) {
            algorithms.push(algorithm);
        }
    }
    if algorithms.is_empty() {
        return Err(Bad::at("algorithms", "there is none"));
    }
    let minimum = spec.minimum_size.unwrap_or(1024);
    if !(30..=1 << 30).contains(&minimum) {
        return Err(Bad::at(
            "minimumSize",
            format!("{minimum} is not between 30 and {}", 1 << 30),
        ));
    }
    let types = spec
        .content_types
        .unwrap_or_else(|| CONTENT_TYPES.map(str::to_owned).into());
    for (index, name) in types.iter().enumerate() {
        let is_token = |text: &str| {
            let byte = |b: u8| b.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&b);
            !text.is_empty() && text.bytes().all(byte)
        };
        if !name
            .split_once('/')
            .is_some_and(|(kind, rest)| is_token(kind) && is_token(rest))
        {
            return Err(Bad::at(
                format!("contentTypes[{index}]"),
                format!("{name:?} is no media type"),
            ));
        }
        if name.to_ascii_lowercase().starts_with("application/grpc") {
            return Err(Bad::at(
                format!("contentTypes[{index}]"),
                "gRPC compresses its messages itself",
            ));
        }
    }
    if types.is_empty() {
        return Err(Bad::at("contentTypes", "there is none"));
    }
    Ok(Compression {
        algorithms,
        minimum,
        content_types: types.iter().map(|name| name.to_ascii_lowercase()).collect(),
    })
}
