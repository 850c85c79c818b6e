//! RequestAuthentication: which tokens of people count.

use culvert_http::filters::jwt::Keys;
use http::HeaderName;
use serde::Deserialize;
use serde_json::Value;

use super::super::model::TokenRule;
use super::notes::Notes;
use super::values::{self, Bad, list};

/// Keys by which no token is signed: the private key was never kept. So every token of an issuer whose keys are not known is refused.
const NOBODYS: &str = concat!(
    r#"{"keys":[{"kty":"RSA","kid":"none","e":"AQAB","n":""#,
    "zY1edrEvDFbjKDoUxVKQa7WfuenEGtzsxYHoVWr11CgD8VBWu-5WHAaL_zO5sc2vSTPl330WeU-OJqmMUpfRBdE2P3jh6h6XiAjmcRGM4xEI-R",
    "7ltgxa_O9trTd9XfVfmJOhyS8kbyZQRM5WbSirGp3fZGFVrfMfTSahlPrNHg9kbVSeDdqlXuYNdBr-PtsREMtwfucRRLViRb0ssqscTdfKy9EB",
    "9vJm8ljsBcET67yhw79kGn_a5K0rJPZk5epCoZ2P-oeBu_XuRtm_Go-7Mmk0NIz2uwRYyNV_zNtpF2rKdJ3-2-HqcqTKIYD0yrihbkjA4yAZ51",
    "vptUvLHPhJjw",
    r#""}]}"#
);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RuleSpec {
    #[serde(default)]
    issuer: String,
    #[serde(default, deserialize_with = "list")]
    audiences: Vec<String>,
    #[serde(alias = "jwks_uri")]
    jwks_uri: Option<String>,
    jwks: Option<String>,
    #[serde(default, deserialize_with = "list")]
    from_headers: Vec<FromHeader>,
    #[serde(default, deserialize_with = "list")]
    from_params: Vec<String>,
    #[serde(default, deserialize_with = "list")]
    from_cookies: Vec<String>,
    output_payload_to_header: Option<String>,
    #[serde(default)]
    forward_original_token: bool,
    #[serde(default, deserialize_with = "list")]
    output_claim_to_headers: Vec<ClaimToHeader>,
    #[serde(rename = "timeout")]
    _timeout: Option<Value>,
    #[serde(default, deserialize_with = "list")]
    space_delimited_claims: Vec<String>,
    presence: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FromHeader {
    name: String,
    #[serde(default)]
    prefix: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClaimToHeader {
    header: String,
    claim: String,
}

/// The rules of a RequestAuthentication. One that cannot be read refuses every token of its issuer, which is noted; what is no list of
/// rules refuses every token.
pub(crate) fn rules(spec: &Value, notes: &mut Notes) -> Vec<TokenRule> {
    let rules = match &spec["jwtRules"] {
        Value::Null => return Vec::new(),
        Value::Array(rules) => rules,
        _ => {
            notes.refuse("spec.jwtRules", "not a list: every token is refused");
            return vec![refusing(String::new())];
        }
    };
    let one = |(index, value): (usize, &Value)| {
        let at = format!("spec.jwtRules[{index}]");
        rule(value).unwrap_or_else(|bad| {
            let bad = bad.below(&at);
            notes.refuse(
                bad.field,
                format!("{}: every token of the issuer is refused", bad.message),
            );
            let required = value["presence"]
                .as_str()
                .is_some_and(|presence| presence != "OPTIONAL");
            TokenRule {
                required,
                ..refusing(value["issuer"].as_str().unwrap_or_default().to_owned())
            }
        })
    };
    rules.iter().enumerate().map(one).collect()
}

fn rule(value: &Value) -> Result<TokenRule, Bad> {
    let spec: RuleSpec = values::read(value)?;
    if spec.issuer.is_empty() {
        return Err(Bad::at("issuer", "it is missing"));
    }
    let keys = match (spec.jwks, spec.jwks_uri) {
        (Some(keys), _) if !keys.is_empty() => {
            Keys::parse(keys.as_bytes()).map_err(|error| Bad::at("jwks", error.to_string()))?;
            keys
        }
        (_, Some(_)) => return Err(Bad::at("jwksUri", "keys are not fetched, write them into `jwks`")),
        _ => return Err(Bad::at("jwks", "it is missing")),
    };
    let header = |at: String, name: &str| match HeaderName::from_bytes(name.as_bytes()) {
        Ok(name) => Ok(name.to_string()),
        Err(_) => Err(Bad::at(at, format!("{name:?} is no name of a header field"))),
    };
    let mut from_headers = Vec::new();
    for (index, from) in spec.from_headers.into_iter().enumerate() {
        let name = header(format!("fromHeaders[{index}].name"), &from.name)?;
        from_headers.push((name, from.prefix.unwrap_or_default()));
    }
    let mut claim_headers = Vec::new();
    for (index, to) in spec.output_claim_to_headers.into_iter().enumerate() {
        let name = header(format!("outputClaimToHeaders[{index}].header"), &to.header)?;
        if to.claim.is_empty() {
            return Err(Bad::at(format!("outputClaimToHeaders[{index}].claim"), "it is empty"));
        }
        claim_headers.push((name, to.claim));
    }
    let payload_header = spec.output_payload_to_header.filter(|name| !name.is_empty());
    let payload_header = payload_header.map(|name| header("outputPayloadToHeader".to_owned(), &name));
    Ok(TokenRule {
        issuer: spec.issuer,
        audiences: spec.audiences,
        keys,
        from_headers,
        from_parameters: spec.from_params,
        from_cookies: spec.from_cookies,
        forward: spec.forward_original_token,
        payload_header: payload_header.transpose()?,
        claim_headers,
        space_delimited: spec.space_delimited_claims,
        required: match spec.presence.as_deref() {
            None | Some("" | "OPTIONAL") => false,
            Some("REQUIRED") => true,
            Some(other) => return Err(Bad::at("presence", format!("{other:?} is unknown"))),
        },
    })
}

/// A rule by which no token of an issuer counts; of any where it is empty.
fn refusing(issuer: String) -> TokenRule {
    TokenRule {
        issuer,
        keys: NOBODYS.to_owned(),
        ..TokenRule::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(rule: Value) -> (Vec<TokenRule>, Vec<String>) {
        let mut notes = Notes::default();
        let rules = rules(&json!({"jwtRules": [rule]}), &mut notes);
        let fields = notes.all().iter().map(|note| note.field.clone()).collect();
        (rules, fields)
    }

    #[test]
    fn a_rule_that_cannot_be_read_refuses_every_token_of_its_issuer() {
        for (rule, field) in [
            (
                json!({"issuer": "a", "jwksUri": "https://a/keys"}),
                "spec.jwtRules[0].jwksUri",
            ),
            (json!({"issuer": "a", "jwks": "{}"}), "spec.jwtRules[0].jwks"),
            (json!({"issuer": "a"}), "spec.jwtRules[0].jwks"),
            (
                json!({"issuer": "a", "jwks": NOBODYS, "colour": 1}),
                "spec.jwtRules[0].colour",
            ),
            (
                json!({"issuer": "a", "jwks": NOBODYS, "outputPayloadToHeader": "a b"}),
                "spec.jwtRules[0].outputPayloadToHeader",
            ),
        ] {
            let (rules, fields) = read(rule.clone());
            assert_eq!(rules, [refusing("a".to_owned())], "{rule}");
            assert_eq!(fields, [field], "{rule}");
        }
        assert!(Keys::parse(NOBODYS.as_bytes()).is_ok());
    }

    #[test]
    fn a_presence_that_is_unknown_is_taken_for_required() {
        let (rules, fields) = read(json!({"issuer": "a", "jwks": NOBODYS, "presence": "SOMETIMES"}));
        assert!(rules[0].required);
        assert_eq!(fields, ["spec.jwtRules[0].presence"]);
    }
}
