//! Tokens with real signatures.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use culvert_envoy::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};
use culvert_envoy::pb::envoy::extensions::filters::http::jwt_authn::v3::{
    JwtAuthentication, JwtClaimToHeader, JwtProvider, JwtRequirement, JwtRequirementAndList, JwtRequirementOrList,
    RequirementRule, jwt_provider::JwksSourceSpecifier, jwt_requirement::RequiresType,
    requirement_rule::RequirementType,
};
use http::request::Parts;
use serde_json::{Value, json};

use super::token::Token;
use super::*;
use crate::request::{Peer, path_and_query};
use crate::testing::{prefix, request};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn token_of(header: Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
    let signature = encode(sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

fn token(claims: Value) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    token_of(json!({"alg": "HS256", "kid": "k"}), &claims, |message| {
        hmac::sign(&key, message).as_ref().to_vec()
    })
}

fn provider(issuer: &str) -> JwtProvider {
    let keys = json!({"keys": [{"kty": "oct", "kid": "k", "k": encode(SECRET)}]}).to_string();
    JwtProvider {
        issuer: issuer.to_owned(),
        jwks_source_specifier: Some(JwksSourceSpecifier::LocalJwks(DataSource {
            specifier: Some(Specifier::InlineString(keys)),
            ..DataSource::default()
        })),
        payload_in_metadata: "payload".to_owned(),
        ..JwtProvider::default()
    }
}

fn named(name: &str) -> JwtRequirement {
    JwtRequirement {
        requires_type: Some(RequiresType::ProviderName(name.to_owned())),
    }
}

fn any(requirements: Vec<JwtRequirement>) -> JwtRequirement {
    JwtRequirement {
        requires_type: Some(RequiresType::RequiresAny(JwtRequirementOrList { requirements })),
    }
}

fn filter(providers: Vec<(&str, JwtProvider)>, requirement: JwtRequirement) -> JwtFilter {
    JwtFilter::compile(&JwtAuthentication {
        providers: providers
            .into_iter()
            .map(|(name, provider)| (name.to_owned(), provider))
            .collect::<HashMap<_, _>>(),
        rules: vec![RequirementRule {
            r#match: Some(prefix("/")),
            requirement_type: Some(RequirementType::Requires(requirement)),
        }],
        bypass_cors_preflight: true,
        ..JwtAuthentication::default()
    })
    .unwrap()
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn verify(filter: &JwtFilter, request: &mut Parts) -> Result<Verified, JwtStatus> {
    filter.verify(request, &Peer::default(), None, at(1000))
}

fn bearer(token: &str) -> Parts {
    request("GET", "/", &[("authorization", &format!("Bearer {token}"))])
}

fn one(provider: JwtProvider, claims: Value) -> Result<Verified, JwtStatus> {
    verify(&filter(vec![("p", provider)], named("p")), &mut bearer(&token(claims)))
}

#[test]
fn signatures_of_every_family_are_verified_and_changed_ones_refused() {
    let random = SystemRandom::new();
    let claims = json!({"iss": "a"});
    let ec = EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let point = ec.public_key().as_ref()[1..].to_vec();
    let ed = Ed25519KeyPair::generate().unwrap();
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    // Its DER: a sequence of the modulus, 257 bytes with the zero in front, and the exponent 65537.
    let (n, e) = (rsa.public_key().as_ref()[9..265].to_vec(), [1, 0, 1]);
    let rsa_key = json!({"kty": "RSA", "n": encode([&[0], n.as_slice()].concat()), "e": encode(e)});
    let rsa_sign = |encoding: &'static dyn signature::RsaEncoding, message: &[u8]| {
        let mut out = vec![0; rsa.public_modulus_len()];
        rsa.sign(encoding, &random, message, &mut out).unwrap();
        out
    };
    let cases = [
        (
            json!({"kty": "EC", "crv": "P-256", "x": encode(&point[..32]), "y": encode(&point[32..])}),
            token_of(json!({"alg": "ES256"}), &claims, |message| {
                ec.sign(&random, message).unwrap().as_ref().to_vec()
            }),
        ),
        (
            json!({"kty": "OKP", "crv": "Ed25519", "x": encode(ed.public_key().as_ref())}),
            token_of(json!({"alg": "EdDSA"}), &claims, |message| {
                ed.sign(message).as_ref().to_vec()
            }),
        ),
        (
            rsa_key.clone(),
            token_of(json!({"alg": "RS256"}), &claims, |message| {
                rsa_sign(&signature::RSA_PKCS1_SHA256, message)
            }),
        ),
        (
            rsa_key,
            token_of(json!({"alg": "PS512"}), &claims, |message| {
                rsa_sign(&signature::RSA_PSS_SHA512, message)
            }),
        ),
    ];
    for (key, text) in cases {
        // An odd key beside it spoils nothing.
        let keys = Keys::parse(json!({"keys": [{"kty": "RSA", "alg": 5}, key]}).to_string().as_bytes()).unwrap();
        assert_eq!(keys.verify(&Token::parse(&text).unwrap()), Ok(()), "{key}");
        let (signed, signature) = text.rsplit_once('.').unwrap();
        let (header, _) = signed.split_once('.').unwrap();
        let changed = format!("{header}.{}.{signature}", encode(r#"{"iss":"b"}"#));
        assert_eq!(
            keys.verify(&Token::parse(&changed).unwrap()),
            Err(JwtStatus::Signature),
            "{key}"
        );
    }
}

#[test]
fn keys_for_other_uses_and_other_algorithms_verify_nothing() {
    let text = token(json!({}));
    for extra in [
        json!({"use": "enc"}),
        json!({"key_ops": ["sign"]}),
        json!({"alg": "HS512"}),
        json!({"kid": "other"}),
    ] {
        let mut key = json!({"kty": "oct", "kid": "k", "k": encode(SECRET)});
        key.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let verified = Keys::parse(json!({"keys": [key]}).to_string().as_bytes())
            .map(|keys| keys.verify(&Token::parse(&text).unwrap()));
        assert!(!matches!(verified, Ok(Ok(()))), "{extra}");
    }
    let none = format!("{}.{}.x", encode(r#"{"alg":"none"}"#), encode("{}"));
    assert_eq!(Token::parse(&none).unwrap_err(), JwtStatus::Algorithm);
}

#[test]
fn clocks_may_differ_by_a_minute_and_exp_need_not_be_there() {
    assert!(one(provider("a"), json!({"iss": "a"})).is_ok());
    assert!(one(provider("a"), json!({"iss": "a", "exp": 940})).is_ok());
    assert_eq!(
        one(provider("a"), json!({"iss": "a", "exp": 939})),
        Err(JwtStatus::Expired)
    );
    assert!(one(provider("a"), json!({"iss": "a", "nbf": 1060})).is_ok());
    assert_eq!(
        one(provider("a"), json!({"iss": "a", "nbf": 1061})),
        Err(JwtStatus::NotYetValid)
    );
    let strict = JwtProvider {
        require_expiration: true,
        ..provider("a")
    };
    assert_eq!(one(strict, json!({"iss": "a"})), Err(JwtStatus::NoExpiration));
    assert_eq!(
        one(provider("a"), json!({"iss": "a", "exp": "soon"})),
        Err(JwtStatus::Malformed)
    );
}

#[test]
fn a_token_that_was_good_once_still_expires_and_other_signatures_on_it_are_refused() {
    let filter = filter(vec![("p", provider("a"))], named("p"));
    let good = token(json!({"iss": "a", "exp": 2000}));
    let ask = |token: &str, now| {
        filter
            .verify(&mut bearer(token), &Peer::default(), None, at(now))
            .map(|_| ())
    };
    for _ in 0..3 {
        assert_eq!(ask(&good, 1000), Ok(()));
    }
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let other = if signature.starts_with('A') { "B" } else { "A" };
    assert_eq!(
        ask(&format!("{signed}.{other}{}", &signature[1..]), 1000),
        Err(JwtStatus::Signature)
    );
    let of_another = token(json!({"iss": "a", "exp": 3000}));
    let (_, stolen) = of_another.rsplit_once('.').unwrap();
    assert_eq!(ask(&format!("{signed}.{stolen}"), 1000), Err(JwtStatus::Signature));
    assert_eq!(
        ask(&good, 2061),
        Err(JwtStatus::Expired),
        "its time is looked at each time"
    );
    assert_eq!(ask(&good, 2060), Ok(()));
}

#[test]
fn audiences_count_only_where_configured_without_scheme_and_slash_and_are_403() {
    let wants = || JwtProvider {
        audiences: vec!["https://shop/".to_owned()],
        ..provider("a")
    };
    assert!(one(provider("a"), json!({"iss": "a", "aud": "any"})).is_ok());
    assert!(one(wants(), json!({"iss": "a", "aud": ["x", "http://shop"]})).is_ok());
    let other = one(wants(), json!({"iss": "a", "aud": "bank"})).unwrap_err();
    assert_eq!((other, other.http_status().as_u16()), (JwtStatus::Audience, 403));
    assert_eq!(one(wants(), json!({"iss": "a"})), Err(JwtStatus::Audience));
    assert_eq!(one(provider("a"), json!({"iss": "b"})), Err(JwtStatus::UnknownIssuer));
}

#[test]
fn bearer_is_case_sensitive_and_two_authorization_lines_are_one_bad_token() {
    let filter = filter(vec![("p", provider("a"))], named("p"));
    let good = token(json!({"iss": "a"}));
    let small = format!("bearer {good}");
    assert_eq!(
        verify(&filter, &mut request("GET", "/", &[("authorization", &small)])),
        Err(JwtStatus::Missing)
    );
    let line = format!("Bearer {good}");
    let mut two = request("GET", "/", &[("authorization", &line), ("authorization", &line)]);
    assert_eq!(verify(&filter, &mut two), Err(JwtStatus::Malformed));
}

#[test]
fn tokens_go_from_fields_and_queries_and_claims_come_as_envoy_writes_them() {
    let claim = |header: &str, claim: &str| JwtClaimToHeader {
        header_name: header.to_owned(),
        claim_name: claim.to_owned(),
        ..JwtClaimToHeader::default()
    };
    let provider = JwtProvider {
        claim_to_headers: vec![
            claim("x-sub", "sub"),
            claim("x-n", "n"),
            claim("x-f", "f"),
            claim("x-b", "b"),
            claim("x-l", "l"),
            claim("x-deep", "o.p"),
        ],
        forward_payload_header: "x-payload".to_owned(),
        ..provider("a")
    };
    let filter = filter(vec![("p", provider)], named("p"));
    let text = token(json!({"iss": "a", "sub": "ann", "n": 5, "f": 1.5, "b": true, "l": [">"], "o": {"p": "q"}}));
    let mut sent = request("GET", &format!("/?x=1&access_token={text}"), &[("x-sub", "forged")]);
    verify(&filter, &mut sent).unwrap();
    assert_eq!(path_and_query(&sent), "/?x=1");
    let field = |name: &str| sent.headers[name].to_str().unwrap();
    assert_eq!(
        ["x-sub", "x-n", "x-f", "x-b", "x-deep"].map(field),
        ["ann", "5", "1.500000", "true", "q"]
    );
    assert_eq!(
        base64::engine::general_purpose::STANDARD.decode(field("x-l")).unwrap(),
        br#"["\u003e"]"#
    );
    assert_eq!(field("x-payload"), text.split('.').nth(1).unwrap());
    let mut sent = bearer(&text);
    verify(&filter, &mut sent).unwrap();
    assert!(!sent.headers.contains_key("authorization"));
    let mut forged = request("GET", "/", &[("x-sub", "forged")]);
    assert!(verify(&filter, &mut forged).is_err() && !forged.headers.contains_key("x-sub"));
}

#[test]
fn a_missing_token_may_pass_and_a_bad_one_not() {
    let missing = || JwtRequirement {
        requires_type: Some(RequiresType::AllowMissing(Default::default())),
    };
    // As Istio sends it for several rules side by side.
    let all = JwtRequirement {
        requires_type: Some(RequiresType::RequiresAll(JwtRequirementAndList {
            requirements: vec![any(vec![named("p"), missing()]), any(vec![named("q"), missing()])],
        })),
    };
    let filter = filter(
        vec![("p", provider("a")), ("q", provider("b"))],
        any(vec![named("p"), named("q"), all]),
    );
    assert_eq!(verify(&filter, &mut request("GET", "/", &[])), Ok(Verified::new()));
    let verified = verify(&filter, &mut bearer(&token(json!({"iss": "b", "sub": "x"})))).unwrap();
    assert_eq!(verified["payload"]["sub"], "x");
    assert_eq!(
        verify(&filter, &mut bearer(&token(json!({"iss": "b", "exp": 1})))),
        Err(JwtStatus::Expired)
    );
    assert_eq!(verify(&filter, &mut bearer("nonsense")), Err(JwtStatus::Malformed));
    // As Envoy: one of nobody's is not as if there was none.
    assert_eq!(
        verify(&filter, &mut bearer(&token(json!({"iss": "c"})))),
        Err(JwtStatus::UnknownIssuer)
    );
}

#[test]
fn scopes_are_split_at_spaces_and_preflights_pass() {
    use culvert_envoy::pb::envoy::extensions::filters::http::jwt_authn::v3::jwt_provider::NormalizePayload;
    let split = JwtProvider {
        normalize_payload_in_metadata: Some(NormalizePayload {
            space_delimited_claims: vec!["scope".to_owned()],
        }),
        ..provider("a")
    };
    let verified = one(split, json!({"iss": "a", "scope": "read write"})).unwrap();
    assert_eq!(verified["payload"]["scope"], json!(["read", "write"]));
    let filter = filter(vec![("p", provider("a"))], named("p"));
    let mut preflight = request(
        "OPTIONS",
        "/",
        &[("origin", "https://a"), ("access-control-request-method", "GET")],
    );
    assert!(verify(&filter, &mut preflight).is_ok());
}

#[test]
fn a_refused_client_is_told_where_a_token_is_wanted_and_not_the_token() {
    let filter = filter(vec![("p", provider("a"))], named("p"));
    let sent = request(
        "GET",
        "/a\"b?access_token=x",
        &[("host", "web.town"), ("x-forwarded-proto", "https")],
    );
    let told = |status| filter.challenge(&sent, status).unwrap();
    assert_eq!(told(JwtStatus::Missing), r#"Bearer realm="https://web.town/a\"b""#);
    assert_eq!(
        told(JwtStatus::Malformed),
        r#"Bearer realm="https://web.town/a\"b", error="invalid_token""#
    );
}
