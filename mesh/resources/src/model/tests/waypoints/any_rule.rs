//! Rules that say anything at all.

use super::*;

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let words = [
        "name",
        "type",
        "value",
        "path",
        "headers",
        "method",
        "filters",
        "requestMirror",
        "backendRef",
        "backendRefs",
        "weight",
        "port",
        "matches",
        "timeouts",
        "retry",
        "cors",
        "urlRewrite",
        "requestRedirect",
        "set",
        "add",
        "Exact",
        "PathPrefix",
        "GET",
        "v1",
        "(",
        "%",
        "/",
        "",
        "RegularExpression",
        "URLRewrite",
        "RequestRedirect",
        "RequestMirror",
        "CORS",
        "10s",
    ];
    let word = prop::sample::select(words.to_vec());
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 48, 4, move |inner| {
        let fields = prop::collection::btree_map(word.clone().prop_map(str::to_owned), inner.clone(), 0..4);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
            fields.prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever a rule says, the others hold, what it comes to compiles, and what is wrong with it is said.
    #[test]
    fn no_rule_whatever_it_says_keeps_a_waypoint_from_its_configuration(rule in any_json(), filter in any_json()) {
        let rules = serde_json::json!([
            rule,
            {"filters": [filter], "backendRefs": [{"name": "v1", "port": 80}]},
            {"matches": [{"path": {"type": "Exact", "value": "/good"}}], "backendRefs": [{"name": "v1", "port": 80}]},
        ]);
        let mut model = Model::default();
        model.update(&World::of(&(shop() + &route("any", &rules.to_string()))).objects(), Instant::now());
        let made = routes(&model, "web");
        prop_assert!(made.iter().any(|route| route.name == "HTTPRoute shop/any[2]"));
        let name = "shop/wp/shop/web.shop.svc.cluster.local:80";
        let configuration: RouteConfiguration = get(&model, ROUTE_TYPE, name).unwrap();
        let compiled = culvert_http::RouteTable::compile(&configuration);
        prop_assert!(compiled.is_ok(), "{:?}", compiled.err());
    }
}
