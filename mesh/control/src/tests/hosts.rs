//! Host names that pods resolve.

use super::*;

const CART: &str = "cart.shop.svc.cluster.local";

fn service(namespace: &str, host: &str, address: [u8; 4]) -> Resource {
    let wire = workload::Service {
        name: "cart".into(),
        namespace: namespace.into(),
        hostname: host.into(),
        addresses: vec![workload::NetworkAddress {
            address: address.to_vec(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let name = format!("{namespace}/{host}");
    let kind = workload::address::Type::Service(wire);
    let address = workload::Address { r#type: Some(kind) };
    resource(&name, "1", ADDRESS_TYPE, &address)
}

/// Whether it has been asked for, and whether it is there.
fn known(published: &Published, host: &str) -> (bool, bool) {
    let mesh = published.mesh.load();
    (
        !mesh.is_host_unasked(host),
        mesh.service_of_host("shop", host, |_| true).is_some(),
    )
}

#[tokio::test]
async fn a_host_name_is_asked_for_once_and_its_answer_decides() {
    let mut controller = Controller::start().await;
    let proxy = Proxy::start(&controller, Mode::OnDemand);
    let mut connection = controller.connection().await;
    greet(&mut connection).await;
    proxy
        .until("a complete configuration", |published| published.mesh.load().synced())
        .await;
    assert_eq!(known(&proxy.published, CART), (false, false));
    let ask = |hosts: &[&str]| {
        let hosts = hosts.iter().map(|host| Box::from(*host)).collect();
        proxy.asks.send(Ask::Hosts(hosts)).unwrap();
    };
    ask(&[CART, "www.example.com"]);
    ask(&["www.example.com", CART]);
    ask(&["api.example.com"]);
    let asked = [connection.request().await, connection.request().await].map(|r| r.resource_names_subscribe);
    assert_eq!(asked[0], [format!("*/{CART}"), "*/www.example.com".into()]);
    assert_eq!(asked[1], ["*/api.example.com"], "nothing is asked for twice");

    // In whatever case the name is written; and a name that the controller does not know.
    connection.answer(
        ADDRESS_TYPE,
        vec![service("shop", "Cart.shop.svc.cluster.local", [198, 19, 0, 1])],
        &["*/www.example.com"],
    );
    proxy
        .until("both answers", |published| {
            known(published, CART) == (true, true) && known(published, "www.example.com") == (true, false)
        })
        .await;
    assert_eq!(
        known(&proxy.published, "api.example.com"),
        (false, false),
        "not answered yet"
    );
    connection.request().await;

    // Over a new stream: what the proxy has kept is not sent again, and counts as answered.
    connection.answer(
        ADDRESS_TYPE,
        vec![service("ext", "api.example.com", [198, 19, 0, 2])],
        &[],
    );
    connection.request().await;
    drop(connection);
    let mut connection = controller.connection().await;
    let mut names = Vec::new();
    for _ in 0..2 {
        names.extend(connection.request().await.resource_names_subscribe);
    }
    for host in [CART, "www.example.com", "api.example.com"] {
        assert!(names.contains(&format!("*/{host}")), "{names:?}");
    }
    ask(&["late.example.com"]);
    assert_eq!(
        connection.request().await.resource_names_subscribe,
        ["*/late.example.com"]
    );
    connection.answer(
        ADDRESS_TYPE,
        vec![],
        &["*/late.example.com", "shop/Cart.shop.svc.cluster.local"],
    );
    connection.answer(AUTHORIZATION_TYPE, vec![], &[]);
    proxy
        .until("what is gone", |published| {
            known(published, "late.example.com") == (true, false) && known(published, CART) == (true, false)
        })
        .await;
    assert_eq!(known(&proxy.published, "api.example.com"), (true, true));
}

#[tokio::test]
async fn a_proxy_that_is_told_everything_asks_for_no_host_name() {
    let mut controller = Controller::start().await;
    let proxy = Proxy::start(&controller, Mode::Wildcard);
    let mut connection = controller.connection().await;
    greet(&mut connection).await;
    proxy
        .until("a complete configuration", |published| published.mesh.load().synced())
        .await;
    assert_eq!(known(&proxy.published, CART), (true, false));
    proxy.asks.send(Ask::Hosts(vec![CART.into()])).unwrap();
    connection.answer(ADDRESS_TYPE, vec![service("shop", CART, [198, 19, 0, 1])], &[]);
    let next = connection.request().await;
    assert_eq!(
        (next.resource_names_subscribe.len(), next.response_nonce.as_str()),
        (0, "3")
    );
    proxy
        .until("the service", |published| known(published, CART) == (true, true))
        .await;
}
