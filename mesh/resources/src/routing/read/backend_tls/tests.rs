use serde_json::json;

use super::*;

fn read_of(validation: Value) -> (Reading, Vec<String>) {
    let mut notes = Notes::default();
    let authorities = |name: &str| match name {
        "ca" => Ok("PEM\n".to_owned()),
        _ => Err(format!("there is no ConfigMap {name}")),
    };
    let reading = read(&json!({ "validation": validation }), &authorities, &mut notes);
    let notes = notes.all().iter();
    let notes = notes.map(|note| format!("{} {}", note.unresolved.unwrap_or("-"), note.field));
    (reading, notes.collect())
}

fn reference(kind: &str, name: &str) -> Value {
    json!({ "group": "", "kind": kind, "name": name })
}

#[test]
fn a_policy_says_which_name_is_asked_for_whom_to_trust_and_which_names_count() {
    let names = json!([{ "type": "URI", "uri": "spiffe://a/b" }, { "type": "Hostname", "hostname": "*.B.example" }]);
    let refs = json!([reference("ConfigMap", "ca")]);
    let (reading, notes) =
        read_of(json!({ "hostname": "A.example", "caCertificateRefs": refs, "subjectAltNames": names }));
    assert_eq!(notes, [""; 0]);
    let expected = BackendTls {
        server_name: Some("a.example".to_owned()),
        trust: Trust::Bundle("PEM\n".into()),
        names: vec![
            AltName::Uri("spiffe://a/b".to_owned()),
            AltName::Dns("*.b.example".to_owned()),
        ],
    };
    assert_eq!(reading.tls, Some(expected));
    let (reading, _) = read_of(json!({ "hostname": "a.example", "wellKnownCACertificates": "System" }));
    let tls = reading.tls.and_then(|tls| tls.at_host("web.shop")).unwrap();
    assert_eq!(
        (tls.trust, tls.names),
        (Trust::System, vec![AltName::Dns("a.example".to_owned())])
    );
}

#[test]
fn of_several_references_those_that_lead_somewhere_are_trusted_and_without_any_there_is_no_tls() {
    let refs = json!([reference("ConfigMap", "gone"), reference("ConfigMap", "ca")]);
    let (reading, notes) = read_of(json!({ "hostname": "a", "caCertificateRefs": refs }));
    assert!(reading.tls.is_some() && !reading.has_no_authority);
    assert_eq!(notes, ["InvalidCACertificateRef spec.validation.caCertificateRefs[0]"]);
    let refs = json!([reference("ConfigMap", "gone"), reference("Secret", "ca")]);
    let (reading, notes) = read_of(json!({ "hostname": "a", "caCertificateRefs": refs }));
    assert!(reading.tls.is_none() && reading.has_no_authority);
    assert_eq!(
        notes,
        [
            "InvalidCACertificateRef spec.validation.caCertificateRefs[0]",
            "InvalidKind spec.validation.caCertificateRefs[1]"
        ]
    );
}

#[test]
fn what_makes_no_sense_is_no_tls_and_is_noted_by_its_field() {
    let refs = json!([reference("ConfigMap", "ca")]);
    for (validation, field) in [
        (Value::Null, "spec.validation.hostname"),
        (json!({ "hostname": "a" }), "spec.validation"),
        (
            json!({ "hostname": "*.a", "caCertificateRefs": refs }),
            "spec.validation.hostname",
        ),
        // Proxies would refuse it.
        (
            json!({ "hostname": "a.1", "caCertificateRefs": refs }),
            "spec.validation.hostname",
        ),
        (
            json!({ "hostname": "a", "wellKnownCACertificates": "Mine" }),
            "spec.validation.wellKnownCACertificates",
        ),
        (
            json!({ "hostname": "a", "wellKnownCACertificates": "System", "caCertificateRefs": refs }),
            "spec.validation.wellKnownCACertificates",
        ),
        (
            json!({ "hostname": "a", "caCertificateRefs": refs, "subjectAltNames": [{ "type": "URI", "hostname": "b" }] }),
            "spec.validation.subjectAltNames[0].type",
        ),
        (json!({ "hostname": 7 }), "spec.validation.hostname"),
    ] {
        let (reading, notes) = read_of(validation);
        assert!(reading.tls.is_none() && !reading.has_no_authority, "{field}");
        assert_eq!(notes, [format!("- {field}")]);
    }
}
