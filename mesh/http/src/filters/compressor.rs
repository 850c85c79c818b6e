//! Compression of answers: the filters `envoy.filters.http.compressor`, one for each algorithm, of which one is chosen for an answer as
//! Envoy chooses it. The bytes are for the program to compress.

use culvert_envoy::pb::envoy::config::core::v3::TypedExtensionConfig;
use culvert_envoy::pb::envoy::extensions::compression::brotli::compressor::v3::Brotli;
use culvert_envoy::pb::envoy::extensions::compression::gzip::compressor::v3::Gzip;
use culvert_envoy::pb::envoy::extensions::compression::zstd::compressor::v3::Zstd;
use culvert_envoy::pb::envoy::extensions::filters::http::compressor::v3::Compressor as Message;
use culvert_envoy::pb::envoy::extensions::filters::http::compressor::v3::compressor::{
    CommonDirectionConfig, ResponseDirectionConfig,
};
use culvert_envoy::type_url;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::error::{CompileError, Within as _, take};

/// Envoy's default for the shortest answer that is compressed, bytes.
const MINIMUM: u32 = 30;

/// How bytes are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RFC 7932.
    Brotli,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Algorithm {
    /// Its name as a content coding.
    pub fn coding(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// The filter of one algorithm.
#[derive(Debug)]
pub struct Compressor {
    algorithm: Algorithm,
    minimum: u64,
    content_types: Vec<String>,
    /// Statuses whose answers are left alone.
    left_alone: Vec<StatusCode>,
    /// Whether it is taken before others that a client likes as much.
    is_first: bool,
}

impl Compressor {
    /// Reads the filter's configuration.
    ///
    /// # Errors
    /// Where it is not valid, or has something set that is not served: compression of requests is not.
    pub fn compile(message: &Message) -> Result<Self, CompileError> {
        take!(message => Message { compressor_library, response_direction_config, choose_first } unserved {
            content_length, content_type, disable_on_etag_header, remove_accept_encoding_header, runtime_enabled,
            request_direction_config,
        });
        let library = compressor_library
            .as_ref()
            .ok_or_else(|| CompileError::missing("compressor_library"))?;
        let response = response_direction_config.clone().unwrap_or_default();
        take!(&response => ResponseDirectionConfig {
            common_config, weaken_etag_on_compress, uncompressible_response_codes,
        } unserved { disable_on_etag_header, remove_accept_encoding_header, status_header_enabled });
        if !weaken_etag_on_compress {
            return Err(CompileError::invalid(
                "response_direction_config.weaken_etag_on_compress",
                "is not true: a strong ETag would be removed, which is not served",
            ));
        }
        let common = common_config.clone().unwrap_or_default();
        #[allow(deprecated, reason = "Envoy has nothing else for media types alone")]
        let (minimum, content_types) = {
            take!(&common => CommonDirectionConfig { min_content_length, content_type } unserved {
                enabled, content_type_matcher,
            });
            (
                min_content_length.as_ref().map_or(MINIMUM, |length| length.value),
                content_type.clone(),
            )
        };
        if content_types.is_empty() {
            return Err(CompileError::missing(
                "response_direction_config.common_config.content_type",
            ));
        }
        let status = |code: &u32| {
            u16::try_from(*code)
                .ok()
                .and_then(|code| StatusCode::from_u16(code).ok())
        };
        Ok(Self {
            algorithm: algorithm(library).within(|| "compressor_library".into())?,
            minimum: minimum.into(),
            content_types,
            left_alone: uncompressible_response_codes.iter().filter_map(status).collect(),
            is_first: *choose_first,
        })
    }

    /// Chooses who compresses an answer, and changes its head accordingly. `accepted` is what the client accepts (`accept-encoding`),
    /// `has_body` whether anything follows the head.
    pub fn choose(
        among: &[&Self],
        accepted: Option<&str>,
        status: StatusCode,
        headers: &mut HeaderMap,
        has_body: bool,
    ) -> Option<Algorithm> {
        let able: Vec<&Self> = among
            .iter()
            .copied()
            .filter(|compressor| compressor.can(status, headers))
            .collect();
        if able.is_empty() {
            return None;
        }
        vary(headers);
        let chosen = preferred(&able, accepted?).filter(|_| has_body)?;
        if let Some(tag) = headers.get_mut(header::ETAG)
            && !tag.as_bytes().starts_with(b"W/")
            && let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat())
        {
            *tag = weak;
        }
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(
            header::CONTENT_ENCODING,
            HeaderValue::from_static(chosen.algorithm.coding()),
        );
        Some(chosen.algorithm)
    }

    /// Whether it can compress an answer, whatever the client accepts.
    fn can(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let is_long_enough = match text(header::CONTENT_LENGTH) {
            Some(length) => length.parse::<u64>().is_ok_and(|length| length >= self.minimum),
            None => true,
        };
        let is_of_type = text(header::CONTENT_TYPE).is_none_or(|kind| {
            let kind = kind.split(';').next().unwrap_or_default().trim();
            self.content_types.iter().any(|known| known.eq_ignore_ascii_case(kind))
        });
        let directives = headers.get_all(header::CACHE_CONTROL).iter();
        let is_to_stay = directives.filter_map(|value| value.to_str().ok()).any(|value| {
            value
                .split(',')
                .any(|one| one.trim().eq_ignore_ascii_case("no-transform"))
        });
        is_long_enough
            && is_of_type
            && !is_to_stay
            && !headers.contains_key(header::CONTENT_ENCODING)
            && !self.left_alone.contains(&status)
    }
}

fn algorithm(library: &TypedExtensionConfig) -> Result<Algorithm, CompileError> {
    let any = library
        .typed_config
        .as_ref()
        .ok_or_else(|| CompileError::missing("typed_config"))?;
    let url = any.type_url.as_str();
    if !any.value.is_empty() {
        return Err(CompileError::invalid(
            "typed_config",
            "has something set, which is not served",
        ));
    }
    match url {
        _ if url == type_url::<Gzip>() => Ok(Algorithm::Gzip),
        _ if url == type_url::<Brotli>() => Ok(Algorithm::Brotli),
        _ if url == type_url::<Zstd>() => Ok(Algorithm::Zstd),
        _ => Err(CompileError::invalid(
            "typed_config",
            format_args!("{url:?} is not served"),
        )),
    }
}

/// The coding that a client likes best; of those that it likes as much the one that is to be first, or else the first of its list.
fn preferred<'a>(able: &[&'a Compressor], accepted: &str) -> Option<&'a Compressor> {
    let mut choice: Option<(f32, Option<&'a Compressor>)> = None;
    let codings: Vec<(&str, f32)> = accepted.split(',').map(coding).collect();
    let is_refused = |compressor: &Compressor| {
        let named = |(name, quality): &(&str, f32)| *quality <= 0.0 && *name == compressor.algorithm.coding();
        codings.iter().any(named)
    };
    for (name, quality) in &codings {
        let found = match *name {
            "identity" => None,
            "*" => Some(*able.iter().find(|compressor| !is_refused(compressor))?),
            name => match able.iter().find(|compressor| compressor.algorithm.coding() == name) {
                Some(found) => Some(*found),
                None => continue,
            },
        };
        let is_better = choice.is_none_or(|(best, other)| {
            *quality > best || *quality == best && found.is_some_and(|found| found.is_first) && other.is_some()
        });
        if *quality > 0.0 && is_better {
            choice = Some((*quality, found));
        }
    }
    choice?.1
}

/// A coding and how much a client likes it (RFC 9110, section 12.4.2); 0 is not at all.
fn coding(text: &str) -> (&str, f32) {
    let (name, parameters) = text.split_once(';').unwrap_or((text, ""));
    let quality = parameters
        .trim()
        .strip_prefix("q=")
        .or_else(|| parameters.trim().strip_prefix("Q="));
    let quality = quality.map_or(1.0, |quality| quality.trim().parse().unwrap_or(0.0));
    (name.trim(), quality)
}

/// Says that an answer would be another for clients that accept something else.
fn vary(headers: &mut HeaderMap) {
    const NAME: &str = "Accept-Encoding";
    let lines: Vec<&str> = headers
        .get_all(header::VARY)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    let mut names = lines.iter().flat_map(|line| line.split(',')).map(str::trim);
    if names.any(|name| name == "*" || name.eq_ignore_ascii_case(NAME)) {
        return;
    }
    let value = [lines.as_slice(), &[NAME]].concat().join(", ");
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(header::VARY, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compressor(algorithm: Algorithm, is_first: bool) -> Compressor {
        Compressor {
            algorithm,
            minimum: 100,
            content_types: vec!["text/plain".to_owned()],
            left_alone: vec![StatusCode::PARTIAL_CONTENT],
            is_first,
        }
    }

    fn head(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    /// Which coding is chosen, of zstd, brotli and gzip.
    fn choose(accepted: &str, headers: &mut HeaderMap) -> Option<&'static str> {
        let all = [
            compressor(Algorithm::Zstd, true),
            compressor(Algorithm::Brotli, false),
            compressor(Algorithm::Gzip, false),
        ];
        let all: Vec<&Compressor> = all.iter().collect();
        Compressor::choose(&all, Some(accepted), StatusCode::OK, headers, true).map(Algorithm::coding)
    }

    #[test]
    fn the_coding_is_the_one_that_the_client_likes_best() {
        for (accepted, expected) in [
            ("gzip, deflate, br, zstd", Some("zstd")),
            ("gzip, deflate, br", Some("gzip")),
            ("br;q=1.0, gzip;q=0.8", Some("br")),
            ("gzip;q=0.5, zstd;q=0.4", Some("gzip")),
            ("gzip;q=0, *", Some("zstd")),
            ("zstd;q=0, *", Some("br")),
            ("identity, gzip;q=0.5", None),
            ("identity;q=0.5, gzip", Some("gzip")),
            ("deflate", None),
            ("gzip;q=0", None),
            ("gzip;q=nonsense", None),
            ("", None),
        ] {
            assert_eq!(choose(accepted, &mut head(&[])), expected, "{accepted:?}");
        }
    }

    #[test]
    fn what_is_compressed_says_so_and_what_could_be_says_that_it_varies() {
        let mut headers = head(&[("content-length", "200"), ("etag", "\"a\""), ("vary", "origin")]);
        assert_eq!(choose("gzip", &mut headers), Some("gzip"));
        assert_eq!(headers["content-encoding"], "gzip");
        assert_eq!(headers["etag"], "W/\"a\"");
        assert_eq!(headers["vary"], "origin, Accept-Encoding");
        assert!(!headers.contains_key("content-length"));
        let mut headers = head(&[("vary", "origin"), ("vary", "x-who")]);
        assert_eq!(choose("gzip", &mut headers), Some("gzip"));
        assert_eq!(headers["vary"], "origin, x-who, Accept-Encoding");
        assert_eq!(headers.get_all("vary").iter().count(), 1);
        let mut headers = head(&[("content-type", "text/plain; charset=utf-8")]);
        assert_eq!(choose("deflate", &mut headers), None);
        assert_eq!(headers["vary"], "Accept-Encoding");
    }

    #[test]
    fn what_is_not_to_be_compressed_is_left_as_it_is() {
        for headers in [
            head(&[("content-length", "99")]),
            head(&[("content-type", "image/png")]),
            head(&[("content-type", "application/grpc")]),
            head(&[("content-encoding", "br")]),
            head(&[("cache-control", "max-age=1, no-transform")]),
        ] {
            let mut after = headers.clone();
            assert_eq!(choose("gzip", &mut after), None);
            assert_eq!(after, headers);
        }
        let gzip = compressor(Algorithm::Gzip, false);
        let mut headers = head(&[]);
        let part = Compressor::choose(&[&gzip], Some("gzip"), StatusCode::PARTIAL_CONTENT, &mut headers, true);
        assert_eq!((part, headers.is_empty()), (None, true));
    }
}
