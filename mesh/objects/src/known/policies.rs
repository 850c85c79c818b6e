//! The fields of AuthorizationPolicy, PeerAuthentication and RequestAuthentication, and what holds for each. `status` is for others to write.

use super::entry::{Field, State, field, served};

use State::{Ignored, Refused, Served};

const LAYER_7: State = Refused(
    "is decided by waypoints alone, for policies with `targetRefs`. Elsewhere, and for connections that are not HTTP: a rule that has it \
     lets nobody in where it allows, and holds as without it where it denies",
);
const SERVER_NAME: State = Refused(
    "is not known, since there is no server name inside a tunnel: a rule that has it lets nobody in where it allows, and holds as without it where it denies",
);
const NAMESPACE: State =
    Refused("must be the object's own, or be left out: nobody may reach what the object names elsewhere");
const TARGET: State = Ignored("is nothing that a waypoint is for: the object binds nothing by it");
const PODS: State =
    Refused("needs layer 7, which no node proxy reads: nobody may reach the pods, until it has `targetRefs` instead");
const CUSTOM: State = Refused(
    "asks a provider of the mesh's configuration, by waypoints alone, for policies with `targetRefs`. Elsewhere, and for connections \
     that are not HTTP, what the policy matches is denied",
);
const STRICT: State = Refused("is unknown, and taken for STRICT");
const ACTION: State = Refused("is unknown: the policy denies everybody");

/// Of `spec.selector`.
const LABELS: &str = "spec.selector.matchLabels.*";

/// `security.istio.io` AuthorizationPolicy.
pub(super) const AUTHORIZATION_POLICY: &[Field] = &[
    served("spec"),
    Field {
        values: &[
            ("ALLOW", Served),
            ("DENY", Served),
            ("AUDIT", Served),
            ("CUSTOM", CUSTOM),
        ],
        other_values: Some(ACTION),
        ..served("spec.action")
    },
    field("spec.provider", CUSTOM),
    field("spec.provider.name", CUSTOM),
    served("spec.rules"),
    served("spec.rules[].from"),
    served("spec.rules[].from[].source"),
    served("spec.rules[].from[].source.ipBlocks"),
    served("spec.rules[].from[].source.namespaces"),
    served("spec.rules[].from[].source.notIpBlocks"),
    served("spec.rules[].from[].source.notNamespaces"),
    served("spec.rules[].from[].source.notPrincipals"),
    field("spec.rules[].from[].source.notRemoteIpBlocks", LAYER_7),
    field("spec.rules[].from[].source.notRequestPrincipals", LAYER_7),
    served("spec.rules[].from[].source.notServiceAccounts"),
    served("spec.rules[].from[].source.notTrustDomains"),
    served("spec.rules[].from[].source.principals"),
    field("spec.rules[].from[].source.remoteIpBlocks", LAYER_7),
    field("spec.rules[].from[].source.requestPrincipals", LAYER_7),
    served("spec.rules[].from[].source.serviceAccounts"),
    served("spec.rules[].from[].source.trustDomains"),
    served("spec.rules[].to"),
    served("spec.rules[].to[].operation"),
    field("spec.rules[].to[].operation.hosts", LAYER_7),
    field("spec.rules[].to[].operation.methods", LAYER_7),
    field("spec.rules[].to[].operation.notHosts", LAYER_7),
    field("spec.rules[].to[].operation.notMethods", LAYER_7),
    field("spec.rules[].to[].operation.notPaths", LAYER_7),
    served("spec.rules[].to[].operation.notPorts"),
    field("spec.rules[].to[].operation.paths", LAYER_7),
    served("spec.rules[].to[].operation.ports"),
    served("spec.rules[].when"),
    Field {
        values: &[
            ("source.ip", Served),
            ("source.namespace", Served),
            ("source.principal", Served),
            ("source.serviceAccount", Served),
            ("source.trustDomain", Served),
            ("destination.ip", Served),
            ("destination.port", Served),
            ("remote.ip", LAYER_7),
            ("connection.sni", SERVER_NAME),
        ],
        // request.headers[..], request.auth.claims[..], experimental.envoy.filters.. and so on.
        other_values: Some(LAYER_7),
        ..served("spec.rules[].when[].key")
    },
    served("spec.rules[].when[].notValues"),
    served("spec.rules[].when[].values"),
    served("spec.selector"),
    served("spec.selector.matchLabels"),
    served(LABELS),
    served("spec.targetRef"),
    served("spec.targetRef.group"),
    target_kind("spec.targetRef.kind"),
    served("spec.targetRef.name"),
    field("spec.targetRef.namespace", NAMESPACE),
    served("spec.targetRefs"),
    served("spec.targetRefs[].group"),
    target_kind("spec.targetRefs[].kind"),
    served("spec.targetRefs[].name"),
    field("spec.targetRefs[].namespace", NAMESPACE),
];

/// `security.istio.io` PeerAuthentication.
pub(super) const PEER_AUTHENTICATION: &[Field] = &[
    served("spec"),
    served("spec.mtls"),
    mode("spec.mtls.mode"),
    served("spec.portLevelMtls"),
    served("spec.portLevelMtls.*"),
    mode("spec.portLevelMtls.*.mode"),
    served("spec.selector"),
    served("spec.selector.matchLabels"),
    served(LABELS),
];

/// `security.istio.io` RequestAuthentication. One without `targetRefs` binds pods, at which nobody reads tokens.
pub(super) const REQUEST_AUTHENTICATION: &[Field] = &[
    served("spec"),
    served("spec.jwtRules"),
    served("spec.jwtRules[].audiences"),
    served("spec.jwtRules[].forwardOriginalToken"),
    served("spec.jwtRules[].fromCookies"),
    served("spec.jwtRules[].fromHeaders"),
    served("spec.jwtRules[].fromHeaders[].name"),
    served("spec.jwtRules[].fromHeaders[].prefix"),
    served("spec.jwtRules[].fromParams"),
    served("spec.jwtRules[].issuer"),
    served("spec.jwtRules[].jwks"),
    served("spec.jwtRules[].jwksUri"),
    served("spec.jwtRules[].jwks_uri"),
    served("spec.jwtRules[].outputClaimToHeaders"),
    served("spec.jwtRules[].outputClaimToHeaders[].claim"),
    served("spec.jwtRules[].outputClaimToHeaders[].header"),
    served("spec.jwtRules[].outputPayloadToHeader"),
    Field {
        values: &[("OPTIONAL", Served), ("REQUIRED", Served)],
        other_values: Some(Refused("is unknown, and taken for REQUIRED")),
        ..served("spec.jwtRules[].presence")
    },
    served("spec.jwtRules[].spaceDelimitedClaims"),
    field(
        "spec.jwtRules[].timeout",
        Ignored("is for keys that are fetched, and none are"),
    ),
    field("spec.selector", PODS),
    field("spec.selector.matchLabels", PODS),
    field("spec.selector.matchLabels.*", PODS),
    served("spec.targetRef"),
    served("spec.targetRef.group"),
    target_kind("spec.targetRef.kind"),
    served("spec.targetRef.name"),
    field("spec.targetRef.namespace", NAMESPACE),
    served("spec.targetRefs"),
    served("spec.targetRefs[].group"),
    target_kind("spec.targetRefs[].kind"),
    served("spec.targetRefs[].name"),
    field("spec.targetRefs[].namespace", NAMESPACE),
];

/// What a waypoint may be for.
const fn target_kind(path: &'static str) -> Field {
    Field {
        values: &[
            ("Service", Served),
            ("ServiceEntry", Served),
            ("Gateway", Served),
            ("GatewayClass", Served),
        ],
        other_values: Some(TARGET),
        ..served(path)
    }
}

/// How a peer proves who it is.
const fn mode(path: &'static str) -> Field {
    Field {
        values: &[
            ("UNSET", Served),
            ("DISABLE", Served),
            ("PERMISSIVE", Served),
            ("STRICT", Served),
        ],
        other_values: Some(STRICT),
        ..served(path)
    }
}
