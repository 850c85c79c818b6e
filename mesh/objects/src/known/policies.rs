//! The fields of AuthorizationPolicy and PeerAuthentication, and what holds for each. `status` is for others to write.

use super::entry::{Field, State, field, served};

use State::{Ignored, Refused, Served};

const LAYER_7: State = Refused(
    "needs layer 7, which no proxy of the mesh reads: a rule that has it lets nobody in where it allows, and holds as without it \
     where it denies",
);
const NOT_YET: State = Refused(
    "is not served yet: a rule that has it lets nobody in where it allows, and holds as without it where it denies",
);
const WAYPOINTS: State =
    Refused("is for waypoints, which are not there yet: nobody may reach the pods of the Services that it names");
const CUSTOM: State = Refused("nobody can be asked who is not part of the mesh: what the policy matches is denied");
const STRICT: State = Refused("is unknown, and taken for STRICT");
const ACTION: State = Refused("is unknown: the policy denies everybody");
const AUDIT: State = Ignored("nothing is audited: the policy decides nothing");

/// Of `spec.selector`.
const LABELS: &str = "spec.selector.matchLabels.*";

/// `security.istio.io` AuthorizationPolicy.
pub(super) const AUTHORIZATION_POLICY: &[Field] = &[
    served("spec"),
    Field {
        values: &[
            ("ALLOW", Served),
            ("DENY", Served),
            ("AUDIT", AUDIT),
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
    field("spec.rules[].from[].source.notTrustDomains", NOT_YET),
    served("spec.rules[].from[].source.principals"),
    field("spec.rules[].from[].source.remoteIpBlocks", LAYER_7),
    field("spec.rules[].from[].source.requestPrincipals", LAYER_7),
    served("spec.rules[].from[].source.serviceAccounts"),
    field("spec.rules[].from[].source.trustDomains", NOT_YET),
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
            ("destination.ip", Served),
            ("destination.port", Served),
            ("remote.ip", LAYER_7),
            ("connection.sni", NOT_YET),
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
    field("spec.targetRef", WAYPOINTS),
    field("spec.targetRef.group", WAYPOINTS),
    field("spec.targetRef.kind", WAYPOINTS),
    field("spec.targetRef.name", WAYPOINTS),
    field("spec.targetRef.namespace", WAYPOINTS),
    field("spec.targetRefs", WAYPOINTS),
    field("spec.targetRefs[].group", WAYPOINTS),
    field("spec.targetRefs[].kind", WAYPOINTS),
    field("spec.targetRefs[].name", WAYPOINTS),
    field("spec.targetRefs[].namespace", WAYPOINTS),
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
