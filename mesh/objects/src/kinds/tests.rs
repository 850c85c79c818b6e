use super::*;

#[test]
fn a_kind_finds_its_own_descriptor() {
    for kind in Kind::ALL {
        assert_eq!(kind.descriptor().kind, *kind);
    }
    assert_eq!(Kind::ServiceCIDR.descriptor().api_version(), "networking.k8s.io/v1");
}

#[test]
fn an_object_that_is_not_of_its_type_says_where() {
    let pod = serde_json::json!({"metadata": {"name": "a", "creationTimestamp": "9999-12-31T23:59:59Z"}});
    let problem = Kind::Pod.descriptor().read(pod).unwrap_err();
    assert_eq!(problem.field.as_deref(), Some("metadata.creationTimestamp"));
}
