//! RequestAuthentication: which tokens of people count.

use culvert_http::filters::jwt::Keys;
use http::HeaderName;
use serde::Deserialize;
use serde_json::Value;

use super::super::model::TokenRule;
use super::notes::Notes;
use super::values::{self, Bad, list};
use crate::keys::{Known, Source};

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
///
/// `fetched` says what is known of keys that are elsewhere.
pub(crate) fn rules(spec: &Value, fetched: &Fetch<'_>, notes: &mut Notes) -> Vec<TokenRule> {
    let rules = match &spec["jwtRules"] {
        Value::Null => return Vec::new(),
        Value::Array(rules) => rules,
        _ => {
            notes.refuse("spec.jwtRules", "not a list: every token is refused");
            return vec![refusing(String::new())];
        }
    };
    let mut one = |(index, value): (usize, &Value)| {
        let at = format!("spec.jwtRules[{index}]");
        let read = rule(value, fetched).map(|(rule, stale)| {
            if let Some(why) = stale {
                notes.refuse(format!("{at}.jwksUri"), why);
            }
            rule
        });
        read.unwrap_or_else(|bad| {
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
    rules.iter().enumerate().map(&mut one).collect()
}

/// What looks keys up that are elsewhere.
pub(crate) type Fetch<'a> = dyn Fn(&Source) -> Option<Known> + 'a;

/// From where the keys of the rules of a RequestAuthentication are to be fetched.
pub(crate) fn sources(spec: &Value) -> impl Iterator<Item = Source> {
    let rules = spec["jwtRules"].as_array().into_iter().flatten();
    rules.filter_map(|rule| {
        let text = |field: &str| rule[field].as_str().filter(|text| !text.is_empty());
        if text("jwks").is_some() {
            return None;
        }
        source(text("jwksUri").or_else(|| text("jwks_uri")), text("issuer")?)
    })
}

/// A URI that is said, or else that of the issuer's OpenID configuration.
fn source(uri: Option<&str>, issuer: &str) -> Option<Source> {
    match uri {
        Some(uri) => Some(Source::Uri(uri.into())),
        None if issuer.starts_with("https://") || issuer.starts_with("http://") => Some(Source::Issuer(issuer.into())),
        None => None,
    }
}

/// A rule, and what is wrong with its keys, although they hold.
fn rule(value: &Value, fetched: &Fetch<'_>) -> Result<(TokenRule, Option<String>), Bad> {
    let spec: RuleSpec = values::read(value)?;
    if spec.issuer.is_empty() {
        return Err(Bad::at("issuer", "it is missing"));
    }
    let uri = spec.jwks_uri.filter(|uri| !uri.is_empty());
    let mut stale = None;
    let keys = match spec.jwks {
        Some(keys) if !keys.is_empty() => {
            Keys::parse(keys.as_bytes()).map_err(|error| Bad::at("jwks", error.to_string()))?;
            keys
        }
        _ => {
            let source = source(uri.as_deref(), &spec.issuer);
            let source = source
                .ok_or_else(|| Bad::at("jwks", "it is missing, and the issuer is no URL at which keys could be"))?;
            let known = fetched(&source).unwrap_or_default();
            let why = known
                .problem
                .map(|problem| format!("keys cannot be fetched: {problem}"));
            let Some(keys) = known.keys else {
                let why = why.unwrap_or_else(|| format!("the keys of {source} are not fetched yet"));
                return Err(Bad::at("jwksUri", why));
            };
            stale = why;
            keys.to_string()
        }
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
    let rule = TokenRule {
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
    };
    Ok((rule, stale))
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
        let rules = rules(&json!({"jwtRules": [rule]}), &|_| None, &mut notes);
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
            (json!({"issuer": "https://a"}), "spec.jwtRules[0].jwksUri"),
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
            let issuer = rule["issuer"].as_str().unwrap();
            assert_eq!(rules, [refusing(issuer.to_owned())], "{rule}");
            assert_eq!(fields, [field], "{rule}");
        }
        assert!(Keys::parse(NOBODYS.as_bytes()).is_ok());
    }

    #[test]
    fn keys_that_were_fetched_hold_and_those_that_are_old_are_noted() {
        let spec = json!({"jwtRules": [{"issuer": "https://a", "jwksUri": "https://a/keys"}, {"issuer": "https://b"}]});
        let wanted: Vec<Source> = sources(&spec).collect();
        assert_eq!(
            wanted,
            [Source::Uri("https://a/keys".into()), Source::Issuer("https://b".into())]
        );
        let mut notes = Notes::default();
        let fetched = |source: &Source| {
            Some(Known {
                keys: Some(NOBODYS.into()),
                problem: matches!(source, Source::Issuer(_)).then(|| "gone".into()),
            })
        };
        let rules = rules(&spec, &fetched, &mut notes);
        assert!(rules.iter().all(|rule| rule.keys == NOBODYS), "{rules:?}");
        let said: Vec<_> = notes
            .all()
            .iter()
            .map(|note| (note.field.as_str(), note.message.as_str()))
            .collect();
        assert_eq!(said, [("spec.jwtRules[1].jwksUri", "keys cannot be fetched: gone")]);
    }

    #[test]
    fn a_presence_that_is_unknown_is_taken_for_required() {
        let (rules, fields) = read(json!({"issuer": "a", "jwks": NOBODYS, "presence": "SOMETIMES"}));
        assert!(rules[0].required);
        assert_eq!(fields, ["spec.jwtRules[0].presence"]);
    }
}
