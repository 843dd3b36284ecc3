//! A service registry on soft state: [`Space::register`], [`Space::services`], and [`Endpoints`], a live view of who offers
//! a service.
//!
//! An instance is a soft entry at `/services/<service>/<instance>`, where the instance is a short hash of the endpoint. It
//! lives with the lease of the peer that registered it. Several peers may register one endpoint; each is an endpoint of
//! its own, named by its [`EndpointKey`].
//!
//! The view lists the entries again whenever something happened to one, and tells the difference. So it needs no order of
//! events, a burst costs one listing, and what is waiting is bounded by two listings of [`MAX_ENDPOINTS`].
//!
//! **Not here**: health beyond the owner's lease, and the choice between endpoints.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::soft::{Soft, SoftItem, SoftWatch};
use super::space::Space;
use crate::engine::{CommandError, OwnerId};

#[cfg(feature = "tower")]
mod discover;
#[cfg(feature = "tower")]
pub use discover::Discovered;
#[cfg(test)]
mod tests;

/// Most endpoints that a view shows; of more, the first in the order of their keys.
pub const MAX_ENDPOINTS: usize = 1_024;
/// Longest name of a service, in bytes.
pub const MAX_SERVICE_NAME: usize = 64;
/// Longest endpoint, in bytes.
pub const MAX_ENDPOINT: usize = 256;
/// Most pairs of metadata of an endpoint.
pub const MAX_METADATA: usize = 32;
/// Most bytes of metadata of an endpoint, keys and values together.
pub const MAX_METADATA_BYTES: usize = 2_048;

/// Under which path services are.
const ROOT: &str = "/services";

/// What is said of an endpoint beside its address.
pub type Metadata = BTreeMap<String, String>;

/// Why a service was not registered. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// The name is empty, longer than [`MAX_SERVICE_NAME`], or more than letters, digits, `-`, `_` and `.` after a letter
    /// or digit.
    #[error("{0:?} is no name of a service")]
    Name(String),
    /// The endpoint is empty, longer than [`MAX_ENDPOINT`], or has blanks or control characters.
    #[error("{0:?} is no endpoint")]
    Endpoint(String),
    /// The metadata is more than [`MAX_METADATA`] pairs or [`MAX_METADATA_BYTES`].
    #[error("{pairs} pairs of metadata with {bytes} bytes, of at most {MAX_METADATA} with {MAX_METADATA_BYTES}")]
    Metadata {
        /// How many pairs.
        pairs: usize,
        /// How many bytes.
        bytes: usize,
    },
    /// The peer refused.
    #[error(transparent)]
    Command(#[from] CommandError),
}

/// Names an endpoint among those of a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointKey {
    /// The last segment of its path.
    pub instance: String,
    /// The peer that registered it.
    pub owner: OwnerId,
}

/// Where a service is offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name.
    pub key: EndpointKey,
    /// Its address, as it was registered.
    pub endpoint: String,
    /// What else is said of it.
    pub metadata: Metadata,
    /// Whether this peer registered it.
    pub mine: bool,
}

/// A service at an endpoint, as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The service.
    pub service: String,
    /// Where it is offered.
    pub endpoint: Endpoint,
    /// Whether its peer has missed a renewal; it may come back.
    pub away: bool,
    /// When it lapses unless a renewal comes.
    pub expires_in: Duration,
}

/// What happened to the endpoints of a service. One that changes is removed and inserted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointChange {
    /// It is offered.
    Insert(Endpoint),
    /// It was deregistered, or its peer's lease lapsed.
    Remove(EndpointKey),
}

/// An endpoint as its entry tells it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    endpoint: String,
    #[serde(default)]
    metadata: Metadata,
}

impl Record {
    fn check(&self) -> Result<(), ServiceError> {
        let Self { endpoint, metadata } = self;
        let blank = |c: char| c.is_whitespace() || c.is_control();
        if endpoint.is_empty() || endpoint.len() > MAX_ENDPOINT || endpoint.contains(blank) {
            return Err(ServiceError::Endpoint(endpoint.clone()));
        }
        let bytes = metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
        if metadata.len() > MAX_METADATA || bytes > MAX_METADATA_BYTES {
            return Err(ServiceError::Metadata { pairs: metadata.len(), bytes });
        }
        Ok(())
    }

    fn instance(&self) -> String {
        blake3::hash(self.endpoint.as_bytes()).to_hex()[..16].to_owned()
    }
}

/// A registered endpoint. It is offered until [`Registration::deregister`] or the peer's end, whatever happens to this
/// handle.
#[derive(Debug, Clone)]
pub struct Registration {
    soft: Soft<Record>,
    instance: String,
}

impl Registration {
    /// The last segment of the endpoint's path.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Offers it no more; whether it was offered until now.
    pub async fn deregister(&self) -> Result<bool, CommandError> {
        self.soft.delete(&self.instance)?.await
    }
}

impl Space {
    /// Offers a service at an endpoint, as long as this peer runs. The same service and endpoint again replace the
    /// metadata.
    pub async fn register(
        &self,
        service: &str,
        endpoint: &str,
        metadata: Metadata,
    ) -> Result<Registration, ServiceError> {
        let soft = self.service(service)?;
        let record = Record { endpoint: endpoint.to_owned(), metadata };
        record.check()?;
        let instance = record.instance();
        soft.set(&instance, &record)?.await?;
        Ok(Registration { soft, instance })
    }

    /// Offers a service at an endpoint no more, as [`Registration::deregister`] does without the handle; whether this peer
    /// offered it until now. Polled once, it happens.
    pub async fn deregister(&self, service: &str, endpoint: &str) -> Result<bool, ServiceError> {
        let soft = self.service(service)?;
        let record = Record { endpoint: endpoint.to_owned(), metadata: Metadata::new() };
        Ok(soft.delete(&record.instance())?.await?)
    }

    /// What is offered now, by this peer and others: one service, or all of them; in the order of services and endpoints.
    /// Entries that no [`Space::register`] would have written are left out. Unbounded but for soft state's own bounds.
    pub async fn services(&self, service: Option<&str>) -> Result<Vec<Offer>, ServiceError> {
        if let Some(name) = service {
            check_name(name)?;
        }
        let all = self.soft::<Record>(ROOT)?;
        let within = match service {
            Some(name) => self.soft(format!("{ROOT}/{name}").as_str())?,
            None => all.clone(),
        };
        let mut offers: Vec<Offer> = within.entries().await?.into_iter().filter_map(|item| offer(&all, item)).collect();
        offers.sort_by(|a, b| (&a.service, &a.endpoint.key).cmp(&(&b.service, &b.endpoint.key)));
        Ok(offers)
    }

    /// A live view of where a service is offered, by this peer and others.
    pub async fn endpoints(&self, service: &str) -> Result<Endpoints, ServiceError> {
        let soft = self.service(service)?;
        let watch = soft.watch();
        let listed = soft.entries().await?;
        let mut view =
            Endpoints { soft, watch, dirty: false, listing: None, current: BTreeMap::new(), changes: VecDeque::new() };
        view.update(listed);
        Ok(view)
    }

    fn service(&self, name: &str) -> Result<Soft<Record>, ServiceError> {
        check_name(name)?;
        Ok(self.soft(format!("{ROOT}/{name}").as_str())?)
    }
}

fn check_name(name: &str) -> Result<(), ServiceError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let fits = name.len() <= MAX_SERVICE_NAME && name.chars().all(allowed);
    match fits && name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        true => Ok(()),
        false => Err(ServiceError::Name(name.to_owned())),
    }
}

type Listing = Pin<Box<dyn Future<Output = Result<Vec<SoftItem<Record>>, CommandError>> + Send>>;

/// Where a service is offered, from [`Space::endpoints`]: a stream of changes that begins with what is there, and ends with
/// the peer. An error is a listing that was refused; the next change tries again.
pub struct Endpoints {
    soft: Soft<Record>,
    watch: SoftWatch<Record>,
    /// Something happened since the last listing began.
    dirty: bool,
    listing: Option<Listing>,
    current: BTreeMap<EndpointKey, Endpoint>,
    changes: VecDeque<EndpointChange>,
}

impl std::fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoints").field("soft", &self.soft).field("current", &self.current).finish_non_exhaustive()
    }
}

impl Endpoints {
    /// The endpoints as of the last time the stream was polled, in the order of their keys; at first, as of its making.
    pub fn current(&self) -> impl Iterator<Item = &Endpoint> {
        self.current.values()
    }

    /// The next change; `None` once the peer is closed. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<EndpointChange, CommandError>> {
        std::future::poll_fn(|cx| self.poll_change(cx)).await
    }

    fn poll_change(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<EndpointChange, CommandError>>> {
        loop {
            if let Some(change) = self.changes.pop_front() {
                return Poll::Ready(Some(Ok(change)));
            }
            if let Some(listing) = &mut self.listing {
                let listed = std::task::ready!(listing.as_mut().poll(cx));
                self.listing = None;
                match listed {
                    Ok(listed) => self.update(listed),
                    Err(CommandError::Closed) => return Poll::Ready(None),
                    Err(error) => return Poll::Ready(Some(Err(error))),
                }
                continue;
            }
            // A burst is one listing.
            loop {
                match Pin::new(&mut self.watch).poll_next(cx) {
                    Poll::Ready(Some(_)) => self.dirty = true,
                    Poll::Ready(None) => return Poll::Ready(None),
                    Poll::Pending => break,
                }
            }
            if !std::mem::take(&mut self.dirty) {
                return Poll::Pending;
            }
            let soft = self.soft.clone();
            self.listing = Some(Box::pin(async move { soft.entries().await }));
        }
    }

    fn update(&mut self, listed: Vec<SoftItem<Record>>) {
        let mut listed: BTreeMap<_, _> = listed.into_iter().filter_map(endpoint).collect();
        while listed.len() > MAX_ENDPOINTS {
            listed.pop_last();
        }
        let before = std::mem::replace(&mut self.current, listed);
        for (key, old) in &before {
            if self.current.get(key) != Some(old) {
                self.changes.push_back(EndpointChange::Remove(key.clone()));
            }
        }
        for (key, new) in &self.current {
            if before.get(key) != Some(new) {
                self.changes.push_back(EndpointChange::Insert(new.clone()));
            }
        }
    }
}

impl Stream for Endpoints {
    type Item = Result<EndpointChange, CommandError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_change(cx)
    }
}

/// An entry as an endpoint; `None` for what no [`Space::register`] would have written.
fn endpoint(item: SoftItem<Record>) -> Option<(EndpointKey, Endpoint)> {
    let SoftItem { key: instance, value: record, owner, mine, .. } = item;
    record.check().ok()?;
    if instance != record.instance() {
        return None;
    }
    let key = EndpointKey { instance, owner };
    let Record { endpoint, metadata } = record;
    Some((key.clone(), Endpoint { key, endpoint, metadata, mine }))
}

/// An entry under [`ROOT`] as an offer.
fn offer(all: &Soft<Record>, item: SoftItem<Record>) -> Option<Offer> {
    let below = all.key(&item.path);
    let (service, instance) = below.split_once('/')?;
    check_name(service).ok()?;
    let (service, away, expires_in) = (service.to_owned(), item.away, item.expires_in);
    let (_, endpoint) = endpoint(SoftItem { key: instance.to_owned(), ..item })?;
    Some(Offer { service, endpoint, away, expires_in })
}
