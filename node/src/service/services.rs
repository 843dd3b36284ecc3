//! The service registry: list, watch, register.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use foreshore::id::SpaceId;
use foreshore::peer::{EndpointKey, Metadata, Offer, ServiceError, Space, peer_text};
use futures::FutureExt;
use serde_json::Value as Json;

use super::{Service, give, refused};
use crate::control::Items;
use crate::failure::{Code, Failure};
use crate::request::{Registered, ServiceEvent, ServiceLine};

/// A space, a service and an endpoint.
type OfferKey = (SpaceId, String, String);

/// How many commands hold each endpoint. The last to go takes the offer back. Bounded by the control socket's connections.
pub(super) type Offers = Arc<Mutex<BTreeMap<OfferKey, usize>>>;

/// One command's hold on an endpoint, however the command ends.
struct Hold {
    offers: Offers,
    space: Space,
    service: String,
    endpoint: String,
}

impl Hold {
    /// Taken before anything is registered, so that nobody else who lets go of the endpoint takes this one's offer back.
    fn take(offers: Offers, space: &Space, service: &str, endpoint: &str) -> Self {
        let hold = Self { offers, space: space.clone(), service: service.to_owned(), endpoint: endpoint.to_owned() };
        *hold.offers.lock().unwrap_or_else(PoisonError::into_inner).entry(hold.key()).or_insert(0) += 1;
        hold
    }

    fn key(&self) -> OfferKey {
        (self.space.id(), self.service.clone(), self.endpoint.clone())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let key = self.key();
        let mut offers = self.offers.lock().unwrap_or_else(PoisonError::into_inner);
        let others = offers.get(&key).map_or(0, |held| held - 1);
        if others > 0 {
            offers.insert(key, others);
            return;
        }
        offers.remove(&key);
        // The first poll sends the deletion, behind whatever was sent before; nobody is left to wait for the answer.
        let _ = self.space.deregister(&self.service, &self.endpoint).now_or_never();
    }
}

impl Service {
    pub(super) async fn services(&self, space: &str, service: Option<&str>, items: &Items) -> Result<(), Failure> {
        let space = self.space(space).await?;
        for offer in space.services(service).await.map_err(refused_service)? {
            give(items, line(offer)).await?;
        }
        Ok(())
    }

    pub(super) async fn services_watch(
        &self,
        space: &str,
        service: Option<&str>,
        count: Option<u64>,
        items: &Items,
    ) -> Result<(), Failure> {
        let space = self.space(space).await?;
        let prefix = service.map_or("/services".to_owned(), |name| format!("/services/{name}"));
        // A name that is none is refused by name.
        let mut shown = BTreeMap::new();
        list(&space, service).await?;
        // Watched before what is shown first is listed, so that nothing falls between.
        let mut watch = space.soft::<Json>(prefix.as_str()).map_err(refused)?.watch();
        let mut left = count.unwrap_or(u64::MAX);
        while left > 0 {
            let now = list(&space, service).await?;
            for event in differences(&shown, &now) {
                if left == 0 {
                    return Ok(());
                }
                give(items, event).await?;
                left -= 1;
            }
            shown = now;
            if left > 0 && watch.next().await.is_none() {
                return Err(Failure::new(Code::Interrupted, "the peer stopped"));
            }
            // A burst costs one listing.
            while watch.next().now_or_never().flatten().is_some() {}
        }
        Ok(())
    }

    pub(super) async fn service_register(
        &self,
        space: &str,
        service: &str,
        endpoint: &str,
        metadata: Metadata,
        items: &Items,
    ) -> Result<(), Failure> {
        let space = self.space(space).await?;
        let _hold = Hold::take(self.shared.offers.clone(), &space, service, endpoint);
        let registration = space.register(service, endpoint, metadata).await.map_err(refused_service)?;
        let registered = Registered {
            service: service.to_owned(),
            endpoint: endpoint.to_owned(),
            instance: registration.instance().to_owned(),
            owner: self.shared.peer.peer_id_text(),
        };
        give(items, registered).await?;
        // Until the caller hangs up, and this is dropped; or until the peer stops.
        let mut events = self.shared.peer.events();
        while events.next().await.is_some() {}
        Err(Failure::new(Code::Interrupted, "the peer stopped"))
    }
}

type Listing = BTreeMap<(String, EndpointKey), Offer>;

async fn list(space: &Space, service: Option<&str>) -> Result<Listing, Failure> {
    let offers = space.services(service).await.map_err(refused_service)?;
    Ok(offers.into_iter().map(|offer| ((offer.service.clone(), offer.endpoint.key.clone()), offer)).collect())
}

fn differences(before: &Listing, now: &Listing) -> Vec<ServiceEvent> {
    let gone = before.iter().filter(|(key, _)| !now.contains_key(key)).map(|(_, offer)| event("gone", offer));
    let news = now.iter().filter_map(|(key, offer)| match before.get(key) {
        None => Some(event("offered", offer)),
        Some(old) if old.endpoint != offer.endpoint => Some(event("changed", offer)),
        Some(_) => None,
    });
    gone.chain(news).collect()
}

fn event(kind: &str, offer: &Offer) -> ServiceEvent {
    let Offer { service, endpoint, .. } = offer;
    ServiceEvent {
        kind: kind.into(),
        service: service.clone(),
        endpoint: endpoint.endpoint.clone(),
        metadata: endpoint.metadata.clone(),
        instance: endpoint.key.instance.clone(),
        owner: peer_text(&endpoint.key.owner.peer),
        mine: endpoint.mine,
    }
}

fn line(offer: Offer) -> ServiceLine {
    let Offer { service, endpoint, away, expires_in } = offer;
    ServiceLine {
        service,
        endpoint: endpoint.endpoint,
        metadata: endpoint.metadata,
        instance: endpoint.key.instance,
        owner: peer_text(&endpoint.key.owner.peer),
        device: endpoint.key.owner.device.to_string(),
        mine: endpoint.mine,
        away,
        expires_ms: expires_in.as_millis() as u64,
    }
}

fn refused_service(error: ServiceError) -> Failure {
    match error {
        ServiceError::Command(error) => refused(error),
        ServiceError::Name(_) => Failure::new(Code::Invalid, error)
            .hint("up to 64 letters, digits, `-`, `_` and `.`, a letter or digit first"),
        ServiceError::Endpoint(_) => {
            Failure::new(Code::Invalid, error).hint("up to 256 bytes without blanks: host:port or a URL")
        }
        error => Failure::new(Code::Invalid, error),
    }
}
