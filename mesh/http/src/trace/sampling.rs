//! Which requests are traced. As in Envoy, a request's id decides, so that all proxies on its way agree without a word: its first 32
//! bits are the random number, and the digit that says the version of the UUID says what was decided.

use http::{HeaderMap, HeaderName, HeaderValue};

/// By which a request is found in the logs of all that saw it.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// By which a client asks for a trace.
const CLIENT_TRACE_ID: HeaderName = HeaderName::from_static("x-client-trace-id");

/// Where in a UUID the digit of its version is.
const VERSION: usize = 14;
const SAMPLED: u8 = b'9';
const FORCED: u8 = b'a';
const CLIENT: u8 = b'b';
const NOT_TRACED: u8 = b'4';

/// Shares of requests, in ten thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// Of those whose clients ask for a trace.
    pub client: u32,
    /// Of all others.
    pub random: u32,
    /// Of both together.
    pub overall: u32,
}

impl Sampling {
    /// Whether a request is traced, which is noted in its id. One whose id is no UUID is not: nobody could note it.
    pub fn decide(&self, headers: &mut HeaderMap) -> bool {
        let Some(id) = headers.get(REQUEST_ID).filter(|id| is_uuid(id.as_bytes())) else {
            return false;
        };
        let id = id.as_bytes();
        let decided = id[VERSION];
        if [SAMPLED, FORCED, CLIENT].contains(&decided) {
            return true;
        }
        let digits = std::str::from_utf8(&id[..8]).unwrap_or_default();
        let random = u32::from_str_radix(digits, 16).unwrap_or_default() % 10_000;
        let mut reason = NOT_TRACED;
        if headers.contains_key(CLIENT_TRACE_ID) && random < self.client {
            reason = CLIENT;
        } else if random < self.random {
            reason = SAMPLED;
        }
        if random >= self.overall {
            reason = NOT_TRACED;
        }
        let mut id = id.to_vec();
        id[VERSION] = reason;
        if let Ok(id) = HeaderValue::from_bytes(&id) {
            headers.insert(REQUEST_ID, id);
        }
        reason != NOT_TRACED
    }
}

fn is_uuid(id: &[u8]) -> bool {
    let is_right = |(at, byte): (usize, &u8)| match at {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    id.len() == 36 && id.iter().enumerate().all(is_right)
}
