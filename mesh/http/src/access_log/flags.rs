//! Envoy's response flags: their long names, and their bits in expressions.

/// Short names, long ones, and bits.
const FLAGS: [(&str, &str, u8); 26] = [
    ("LH", "FailedLocalHealthCheck", 0),
    ("UH", "NoHealthyUpstream", 1),
    ("UT", "UpstreamRequestTimeout", 2),
    ("LR", "LocalReset", 3),
    ("UR", "UpstreamRemoteReset", 4),
    ("UF", "UpstreamConnectionFailure", 5),
    ("UC", "UpstreamConnectionTermination", 6),
    ("UO", "UpstreamOverflow", 7),
    ("NR", "NoRouteFound", 8),
    ("DI", "DelayInjected", 9),
    ("FI", "FaultInjected", 10),
    ("RL", "RateLimited", 11),
    ("UAEX", "UnauthorizedExternalService", 12),
    ("RLSE", "RateLimitServiceError", 13),
    ("DC", "DownstreamConnectionTermination", 14),
    ("URX", "UpstreamRetryLimitExceeded", 15),
    ("SI", "StreamIdleTimeout", 16),
    ("IH", "InvalidEnvoyRequestHeaders", 17),
    ("DPE", "DownstreamProtocolError", 18),
    ("UMSDR", "UpstreamMaxStreamDurationReached", 19),
    ("RFCF", "ResponseFromCacheFilter", 20),
    ("NFCF", "NoFilterConfigFound", 21),
    ("DT", "DurationTimeout", 22),
    ("UPE", "UpstreamProtocolError", 23),
    ("NC", "NoClusterFound", 24),
    ("OM", "OverloadManagerTerminated", 25),
];

/// Whether there is such a short name.
pub(super) fn is_known(short: &str) -> bool {
    FLAGS.iter().any(|(known, _, _)| *known == short)
}

/// The long name of a short one.
pub(super) fn long(short: &'static str) -> &'static str {
    let known = FLAGS.iter().find(|(known, _, _)| *known == short);
    known.map_or(short, |(_, long, _)| *long)
}

/// The bits of all of them together.
pub(super) fn bits(flags: &[&'static str]) -> i64 {
    let known = FLAGS.iter().filter(|(known, _, _)| flags.contains(known));
    known.fold(0, |bits, (_, _, bit)| bits | 1 << bit)
}
