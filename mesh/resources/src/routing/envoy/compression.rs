//! Compression of answers: a filter of Envoy's for each algorithm.

use culvert_envoy::pack;
use culvert_envoy::pb::envoy::config::core::v3::TypedExtensionConfig;
use culvert_envoy::pb::envoy::extensions::compression::brotli::compressor::v3::Brotli;
use culvert_envoy::pb::envoy::extensions::compression::gzip::compressor::v3::Gzip;
use culvert_envoy::pb::envoy::extensions::compression::zstd::compressor::v3::Zstd;
use culvert_envoy::pb::envoy::extensions::filters::http::compressor::v3::Compressor;
use culvert_envoy::pb::envoy::extensions::filters::http::compressor::v3::compressor::{
    CommonDirectionConfig, ResponseDirectionConfig,
};

use super::super::policy::{Algorithm, Compression};
use super::parts;

const NAME: &str = "envoy.filters.http.compressor";
/// A part of something would no longer be the part that it says it is (RFC 9110, section 14.4).
const PARTIAL_CONTENT: u32 = 206;

/// The names of the filters, in the order of the algorithms.
pub(super) fn names(compression: &Compression) -> impl Iterator<Item = String> {
    compression
        .algorithms
        .iter()
        .map(|algorithm| format!("{NAME}.{}", word(*algorithm)))
}

/// The filters.
pub(super) fn filters(compression: &Compression) -> Vec<Compressor> {
    let filter = |(index, algorithm): (usize, &Algorithm)| Compressor {
        compressor_library: Some(library(*algorithm)),
        response_direction_config: Some(ResponseDirectionConfig {
            common_config: Some(common(compression)),
            weaken_etag_on_compress: true,
            uncompressible_response_codes: vec![PARTIAL_CONTENT],
            ..ResponseDirectionConfig::default()
        }),
        // Of those that a client likes as much.
        choose_first: index == 0,
        ..Compressor::default()
    };
    compression.algorithms.iter().enumerate().map(filter).collect()
}

#[allow(
    deprecated,
    reason = "there is no other way to compare media types without their parameters"
)]
fn common(compression: &Compression) -> CommonDirectionConfig {
    CommonDirectionConfig {
        min_content_length: parts::number(compression.minimum),
        content_type: compression.content_types.clone(),
        ..CommonDirectionConfig::default()
    }
}

fn library(algorithm: Algorithm) -> TypedExtensionConfig {
    let word = word(algorithm);
    TypedExtensionConfig {
        name: format!("envoy.compression.{word}.compressor"),
        typed_config: Some(match algorithm {
            Algorithm::Brotli => pack(&Brotli::default()),
            Algorithm::Gzip => pack(&Gzip::default()),
            Algorithm::Zstd => pack(&Zstd::default()),
        }),
    }
}

fn word(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Brotli => "brotli",
        Algorithm::Gzip => "gzip",
        Algorithm::Zstd => "zstd",
    }
}
