//! What a header block must look like to be a request or an answer (RFC 9113 sections 8.1 to 8.3).
use crate::hpack;

/// The head of a request. Which pseudo-headers its method asks for is its owner's to check (RFC 9113 sections 8.3.1 and 8.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `:method`
    pub method: String,
    /// `:authority`
    pub authority: Option<String>,
    /// `:scheme`
    pub scheme: Option<String>,
    /// `:path`
    pub path: Option<String>,
    /// `:protocol` of an extended CONNECT (RFC 8441).
    pub protocol: Option<String>,
    /// Regular headers in order, names in lower case.
    pub headers: Vec<(String, String)>,
}

/// The head of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// 200 to 599.
    pub status: u16,
    /// Regular headers in order, names in lower case.
    pub headers: Vec<(String, String)>,
}

/// Why a request's headers cannot be used, though the connection is sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadHeaders {
    /// They break a rule of RFC 9113 section 8.
    #[error("malformed headers: {0}")]
    Malformed(&'static str),
    /// More than [`Config::max_header_list`](crate::Config::max_header_list).
    #[error("headers too large")]
    TooLarge,
}

/// Gathers the headers of one block, and what is wrong with them.
pub(crate) struct Gathered {
    method: Option<String>,
    authority: Option<String>,
    scheme: Option<String>,
    path: Option<String>,
    protocol: Option<String>,
    status: Option<String>,
    headers: Vec<(String, String)>,
    room: usize,
    too_large: bool,
    malformed: Option<&'static str>,
}

impl Gathered {
    /// `max`: size of the list, as [`hpack::size`] counts.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            method: None,
            authority: None,
            scheme: None,
            path: None,
            protocol: None,
            status: None,
            headers: Vec::new(),
            room: max,
            too_large: false,
            malformed: None,
        }
    }

    /// Takes one header. Nothing is kept beyond the bound, but the block must be decoded to its end.
    pub(crate) fn add(&mut self, name: &[u8], value: &[u8]) {
        match self.room.checked_sub(hpack::size(name, value)) {
            Some(room) => self.room = room,
            None => (self.room, self.too_large) = (0, true),
        }
        if self.too_large || self.malformed.is_some() {
            return;
        }
        let result = match name {
            [b':', pseudo @ ..] => self.add_pseudo(pseudo, value),
            _ => self.add_regular(name, value),
        };
        self.malformed = result.err();
    }

    fn add_pseudo(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if !self.headers.is_empty() {
            return Err("pseudo-header after a regular header");
        }
        let slot = match name {
            b"method" => &mut self.method,
            b"authority" => &mut self.authority,
            b"status" => &mut self.status,
            b"scheme" => &mut self.scheme,
            b"path" => &mut self.path,
            b"protocol" => &mut self.protocol,
            _ => return Err("unknown pseudo-header"),
        };
        if slot.replace(text(value)?).is_some() {
            return Err("pseudo-header given twice");
        }
        Ok(())
    }

    fn add_regular(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if name.is_empty() || !name.iter().all(|&byte| is_name_byte(byte)) {
            return Err("header name with a character that is not allowed");
        }
        let connection_specific: [&[u8]; 5] = [
            b"connection",
            b"proxy-connection",
            b"keep-alive",
            b"transfer-encoding",
            b"upgrade",
        ];
        if connection_specific.contains(&name) || (name == b"te" && value != b"trailers") {
            return Err("connection-specific header");
        }
        if value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n')) || value.trim_ascii().len() != value.len() {
            return Err("header value with a character that is not allowed");
        }
        self.headers.push((text(name)?, text(value)?));
        Ok(())
    }

    /// As a request.
    pub(crate) fn request(self) -> Result<Request, BadHeaders> {
        if self.too_large {
            return Err(BadHeaders::TooLarge);
        }
        if let Some(reason) = self.malformed {
            return Err(BadHeaders::Malformed(reason));
        }
        if self.status.is_some() {
            return Err(BadHeaders::Malformed("pseudo-header of an answer"));
        }
        Ok(Request {
            method: self.method.ok_or(BadHeaders::Malformed("no :method"))?,
            authority: self.authority,
            scheme: self.scheme,
            path: self.path,
            protocol: self.protocol,
            headers: self.headers,
        })
    }

    /// As an answer; an informational one (1xx) too.
    pub(crate) fn response(self) -> Result<Response, &'static str> {
        if self.too_large {
            return Err("headers too large");
        }
        if let Some(reason) = self.malformed {
            return Err(reason);
        }
        let others = [&self.method, &self.authority, &self.scheme, &self.path, &self.protocol];
        if others.iter().any(|pseudo| pseudo.is_some()) {
            return Err("pseudo-header of a request");
        }
        match self.status.as_deref().map(str::as_bytes) {
            Some(&[a @ b'1'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9']) => {
                let digit = |byte: u8| u16::from(byte - b'0');
                Ok(Response {
                    status: digit(a) * 100 + digit(b) * 10 + digit(c),
                    headers: self.headers,
                })
            }
            _ => Err("no valid :status"),
        }
    }
}

fn text(bytes: &[u8]) -> Result<String, &'static str> {
    String::from_utf8(bytes.to_vec()).map_err(|_| "header value that is not UTF-8")
}

/// RFC 9110 section 5.6.2, less upper case (RFC 9113 section 8.2.1).
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
