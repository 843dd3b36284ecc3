//! A service of three instances, one of which ends.

use super::super::tests::{builder, pair, soon};
use super::*;

fn named(change: Option<Result<EndpointChange, CommandError>>) -> Result<String, EndpointKey> {
    match change.expect("the peer runs").expect("it may be listed") {
        EndpointChange::Insert(endpoint) => Ok(endpoint.endpoint),
        EndpointChange::Remove(key) => Err(key),
    }
}

#[tokio::test]
async fn endpoints_come_change_and_go_with_their_owner() {
    let ((a, home), (_b, there)) = pair("/ip4/127.0.0.1/tcp/0").await;
    let mine = soon(there.register("api", "10.0.0.2:80", Metadata::new())).await.unwrap();
    let mut view = soon(there.endpoints("api")).await.unwrap();
    assert_eq!(view.current().map(|e| e.endpoint.as_str()).collect::<Vec<_>>(), ["10.0.0.2:80"]);
    assert_eq!(named(soon(view.next()).await).unwrap(), "10.0.0.2:80");

    soon(home.register("api", "10.0.0.1:80", Metadata::new())).await.unwrap();
    assert_eq!(named(soon(view.next()).await).unwrap(), "10.0.0.1:80");
    let zone = Metadata::from([("zone".to_owned(), "b".to_owned())]);
    soon(home.register("api", "10.0.0.1:80", zone.clone())).await.unwrap();
    let gone = named(soon(view.next()).await).unwrap_err();
    assert_eq!(named(soon(view.next()).await).unwrap(), "10.0.0.1:80");
    assert!(view.current().any(|e| e.key == gone && e.metadata == zone && !e.mine));

    soon(a.shutdown()).await.unwrap();
    assert_eq!(named(soon(view.next()).await).unwrap_err(), gone);
    assert!(soon(mine.deregister()).await.unwrap());
    assert_eq!(named(soon(view.next()).await).unwrap_err().instance, mine.instance());
    assert_eq!(view.current().count(), 0);
}

#[tokio::test]
async fn malformed_registrations_are_refused_by_name_and_foreign_ones_left_out() {
    let peer = soon(builder().spawn()).await.unwrap();
    let space = soon(peer.create_space("home")).await.unwrap();
    for name in ["", "a/b", "..", "ä", &"x".repeat(MAX_SERVICE_NAME + 1)] {
        let refused = soon(space.register(name, "a:1", Metadata::new())).await.unwrap_err();
        assert_eq!(refused, ServiceError::Name(name.to_owned()));
    }
    for endpoint in ["", "a b", "a\n", &"x".repeat(MAX_ENDPOINT + 1)] {
        let refused = soon(space.register("api", endpoint, Metadata::new())).await.unwrap_err();
        assert_eq!(refused, ServiceError::Endpoint(endpoint.to_owned()));
    }
    let long = Metadata::from([("k".to_owned(), "x".repeat(MAX_METADATA_BYTES))]);
    let refused = soon(space.register("api", "a:1", long)).await.unwrap_err();
    assert_eq!(refused, ServiceError::Metadata { pairs: 1, bytes: MAX_METADATA_BYTES + 1 });

    let foreign = space.soft::<serde_json::Value>("/services/api").unwrap();
    soon(foreign.set("other", &serde_json::json!({ "endpoint": "a:1" })).unwrap()).await.unwrap();
    assert_eq!(soon(space.endpoints("api")).await.unwrap().current().count(), 0);
    assert_eq!(soon(space.services(None)).await.unwrap(), []);
    assert!(soon(space.services(Some("a/b"))).await.is_err());
}

#[tokio::test]
async fn a_listing_shows_every_service_in_order_or_one_of_them() {
    let peer = soon(builder().spawn()).await.unwrap();
    let space = soon(peer.create_space("home")).await.unwrap();
    for (service, endpoint) in [("web", "w:1"), ("api", "a:2"), ("api", "a:1")] {
        soon(space.register(service, endpoint, Metadata::new())).await.unwrap();
    }
    let named = |offers: Vec<Offer>| offers.into_iter().map(|o| (o.service, o.endpoint.endpoint)).collect::<Vec<_>>();
    let all = named(soon(space.services(None)).await.unwrap());
    assert_eq!(all.iter().map(|(service, _)| service.as_str()).collect::<Vec<_>>(), ["api", "api", "web"]);
    assert_eq!(named(soon(space.services(Some("web"))).await.unwrap()), [("web".to_owned(), "w:1".to_owned())]);
    assert_eq!(soon(space.services(Some("no"))).await.unwrap(), []);
    assert!(soon(space.deregister("web", "w:1")).await.unwrap());
    assert!(!soon(space.deregister("web", "w:1")).await.unwrap());
    assert_eq!(soon(space.services(Some("web"))).await.unwrap(), []);
}

#[cfg(feature = "tower")]
#[tokio::test]
async fn requests_go_on_through_a_balancer_when_an_instance_ends() {
    use tower::{Service as _, ServiceExt as _, balance::p2c::Balance, load::Constant};

    let ((a, home), (_b, there)) = pair("/ip4/127.0.0.1/tcp/0").await;
    soon(home.register("api", "one", Metadata::new())).await.unwrap();
    soon(there.register("api", "two", Metadata::new())).await.unwrap();
    let view = soon(there.endpoints("api")).await.unwrap();
    let mut balance = Balance::new(view.discover(|endpoint| {
        let name = endpoint.endpoint.clone();
        Constant::new(tower::service_fn(move |()| std::future::ready(Ok::<_, std::io::Error>(name.clone()))), 1)
    }));
    let mut asked = std::collections::BTreeSet::new();
    soon(async {
        while asked.len() < 2 {
            asked.insert(balance.ready().await.unwrap().call(()).await.unwrap());
            tokio::task::yield_now().await;
        }
    })
    .await;
    soon(a.shutdown()).await.unwrap();
    soon(async {
        while balance.len() > 1 {
            balance.ready().await.unwrap().call(()).await.unwrap();
            tokio::task::yield_now().await;
        }
    })
    .await;
    for _ in 0..20 {
        assert_eq!(soon(balance.ready()).await.unwrap().call(()).await.unwrap(), "two");
    }
}
