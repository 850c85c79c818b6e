//! Who may, at each port: our filters beside those that Istio recorded. Both are reduced to the same writing: of lists that mean the same in any
//! order the order goes, and matchers that mean the same by an identity's form have Istio's words.

mod ours;
mod recorded;

use serde_json::json;

use super::{cases, golden};
use ours::chains;
use recorded::recorded;

/// Where ours differs: case, chain, and why.
const DIFFERENCES: &[(&str, &str, &str)] = &[
    (
        "26-authz-attributes",
        "web.shop:80",
        "there is no server name inside a tunnel: the rule that denies by one denies whoever meets its other conditions; and a name with a \
         wildcard at its end ends with the name",
    ),
    (
        "27-jwt",
        "web.shop:80",
        "a wildcard behind a slash is the end of any issuer or subject that it may be",
    ),
    (
        "28-authz-custom-audit",
        "web-v2.shop:80",
        "the policy is called as others are",
    ),
];

#[test]
fn who_may_is_what_istio_recorded_or_stricter_for_a_reason() {
    let base = super::json(&golden().join("base.json"));
    let mut wrong = Vec::new();
    let mut unused: Vec<_> = DIFFERENCES.iter().map(|(case, chain, _)| (*case, *chain)).collect();
    for case in cases() {
        let name = case.file_name().unwrap().to_str().unwrap();
        let ours = chains(&case);
        let expected = super::json(&case.join("expected.json"));
        let recorded = recorded(&base, &expected);
        for (chain, made) in &ours {
            let istios = recorded.get(chain).cloned().unwrap_or_else(|| json!([]));
            if *made == istios {
                continue;
            }
            match DIFFERENCES
                .iter()
                .find(|(of, at, _)| (*of, *at) == (name, chain.as_str()))
            {
                Some((of, at, _)) => unused.retain(|entry| entry != &(*of, *at)),
                None => wrong.push(format!("{name} {chain}:\nrecorded {istios}\nours {made}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(unused.is_empty(), "these do not differ: {unused:?}");
}

/// Who is asked, and what nobody can be asked about, word for word where it is not what Istio makes.
#[test]
fn what_differs_denies_more_and_no_less() {
    let web = |case: &str, chain: &str| chains(&golden().join(case)).remove(chain).unwrap();
    let custom = web("28-authz-custom-audit", "web.shop:80");
    let path = |path: &str| json!({"permissions": [{"urlPath": {"path": {"exact": path}}}], "principals": ["any"]});
    assert_eq!(
        custom[0]["rbac"]["shadowRules"]["policies"]["istio-ext-authz-door-http-ns[shop]-policy[ask]-rule[0]"],
        path("/ask")
    );
    assert_eq!(custom[1]["ext_authz"]["service"], "door.bank:8000");
    assert_eq!(
        custom[2]["rbac"],
        json!({"action": "LOG", "policies": {"shop/audit[0]": path("/audited")}})
    );
    assert_eq!(
        custom[3]["rbac"],
        json!({"action": "DENY", "policies": {"shop/deny[0]": path("/denied")}})
    );
    assert_eq!(
        custom[4]["rbac"],
        json!({"action": "ALLOW", "policies": {"shop/allow[0]": path("/allowed")}})
    );
    let unknown = web("28-authz-custom-audit", "web-v2.shop:80");
    assert_eq!(
        unknown,
        json!([{"rbac": {"action": "DENY", "policies": {"shop/unknown[0]": path("/x")}}}])
    );
    let attributes = web("26-authz-attributes", "web.shop:80").to_string();
    assert!(attributes.contains("shop/when[0]") && !attributes.contains("requestedServerName"));
}
