//! What goes wrong, with the code that the peer is told and whose fault it is.
/// Error codes of RFC 9113 section 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorCode {
    /// 0: not an error.
    NoError,
    /// 1: a rule of the protocol was broken.
    ProtocolError,
    /// 2: our own failure.
    InternalError,
    /// 3: more bytes than the window allowed, or a window beyond 2^31-1.
    FlowControlError,
    /// 4: SETTINGS were not acknowledged in time.
    SettingsTimeout,
    /// 5: a frame on a stream that the sender had ended.
    StreamClosed,
    /// 6: a frame of impossible size.
    FrameSizeError,
    /// 7: refused before anything was done; may be tried again.
    RefusedStream,
    /// 8: no longer wanted.
    Cancel,
    /// 9: a header block does not decode.
    CompressionError,
    /// 10: the connection behind a CONNECT failed.
    ConnectError,
    /// 11: too much of something.
    EnhanceYourCalm,
    /// 12: TLS is not good enough.
    InadequateSecurity,
    /// 13: HTTP/1.1 is required.
    Http11Required,
    /// Any other; to be treated as [`ErrorCode::InternalError`].
    Unknown(u32),
}

impl ErrorCode {
    /// The number on the wire.
    pub fn get(self) -> u32 {
        match self {
            Self::NoError => 0,
            Self::ProtocolError => 1,
            Self::InternalError => 2,
            Self::FlowControlError => 3,
            Self::SettingsTimeout => 4,
            Self::StreamClosed => 5,
            Self::FrameSizeError => 6,
            Self::RefusedStream => 7,
            Self::Cancel => 8,
            Self::CompressionError => 9,
            Self::ConnectError => 10,
            Self::EnhanceYourCalm => 11,
            Self::InadequateSecurity => 12,
            Self::Http11Required => 13,
            Self::Unknown(code) => code,
        }
    }
}

impl From<u32> for ErrorCode {
    fn from(code: u32) -> Self {
        match code {
            0 => Self::NoError,
            1 => Self::ProtocolError,
            2 => Self::InternalError,
            3 => Self::FlowControlError,
            4 => Self::SettingsTimeout,
            5 => Self::StreamClosed,
            6 => Self::FrameSizeError,
            7 => Self::RefusedStream,
            8 => Self::Cancel,
            9 => Self::CompressionError,
            10 => Self::ConnectError,
            11 => Self::EnhanceYourCalm,
            12 => Self::InadequateSecurity,
            13 => Self::Http11Required,
            code => Self::Unknown(code),
        }
    }
}

/// Why a connection cannot go on. What is queued in the output says so to the peer: flush it, then close.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The connection did not begin with HTTP/2's preface (RFC 9113 section 3.4).
    #[error("the peer does not speak HTTP/2")]
    Preface,
    /// A frame's size is wrong for its type or larger than we allow.
    #[error("frame of type {kind} has impossible size {size}")]
    FrameSize {
        /// Type of the frame.
        kind: u8,
        /// Bytes of payload that it announced.
        size: u32,
    },
    /// Padding longer than the frame.
    #[error("frame of type {0} is padded beyond its end")]
    Padding(u8),
    /// A frame that may not come now, or not from this side, or not on this stream.
    #[error("frame of type {kind} on stream {stream}: {reason}")]
    Unexpected {
        /// Type of the frame.
        kind: u8,
        /// Stream that it named.
        stream: u32,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// A setting has a value that it must not have.
    #[error("setting {setting} cannot be {value}")]
    Setting {
        /// Its number.
        setting: u16,
        /// As received.
        value: u32,
    },
    /// The connection's window, or by a change of settings a stream's, would exceed 2^31-1.
    #[error("flow-control window beyond 2^31-1")]
    WindowOverflow,
    /// More data than the connection's window allowed.
    #[error("peer sent more than the connection's window allows")]
    WindowExceeded,
    /// A header block does not decode (RFC 7541).
    #[error("header block: {0}")]
    Compression(&'static str),
    /// The peer does too much of something.
    #[error("peer exceeds a limit: {0}")]
    Limit(#[from] Limit),
}

impl ProtocolError {
    /// What a GOAWAY says about it.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Preface | Self::Padding(_) | Self::Unexpected { .. } => ErrorCode::ProtocolError,
            Self::FrameSize { .. } => ErrorCode::FrameSizeError,
            // RFC 9113 section 6.5.2: SETTINGS_INITIAL_WINDOW_SIZE has its own code.
            Self::Setting { setting: 4, .. } | Self::WindowOverflow | Self::WindowExceeded => {
                ErrorCode::FlowControlError
            }
            Self::Setting { .. } => ErrorCode::ProtocolError,
            Self::Compression(_) => ErrorCode::CompressionError,
            Self::Limit(_) => ErrorCode::EnhanceYourCalm,
        }
    }
}

/// A bound that a peer ran into. See [`Config`](crate::Config) for the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Limit {
    /// Streams opened and reset before they were answered (CVE-2023-44487).
    #[error("streams reset before they were answered")]
    EarlyResets,
    /// Frames that need an answer, faster than answers are taken.
    #[error("frames that ask for an answer, without taking the answers")]
    PendingAnswers,
    /// Frames in a row that carry nothing.
    #[error("frames that carry nothing")]
    IdleFrames,
    /// Window given in more pieces than the data that it is for (CVE-2019-9511).
    #[error("window updates that no data calls for")]
    WindowUpdates,
    /// A header block that is too long, or in too many pieces (CVE-2024-27316).
    #[error("header block too long")]
    HeaderBlock,
    /// Output that the peer does not take, while it goes on asking for more.
    #[error("output that is not taken")]
    Output,
}

impl Limit {
    /// A word for it that stays as it is, for metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::EarlyResets => "early_resets",
            Self::PendingAnswers => "pending_answers",
            Self::IdleFrames => "idle_frames",
            Self::WindowUpdates => "window_updates",
            Self::HeaderBlock => "header_block",
            Self::Output => "output",
        }
    }
}

/// Why a stream cannot be opened on this connection now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// As many streams are open as either side allows, or the output is full: later, or on another connection.
    #[error("all {0} streams of the connection are in use")]
    Busy(u32),
    /// The connection takes no new streams any more: another connection.
    #[error("the connection is going away")]
    GoingAway,
    /// The headers are larger than the peer takes.
    #[error("headers of {0} bytes are more than the peer takes")]
    TooLarge(usize),
}
