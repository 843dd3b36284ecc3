//! [`Endpoints`] for `tower`: a stream of its changes is its `Discover`, by the implementation that `tower` has for streams.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::Stream;
use tower::discover::Change;

use super::{Endpoint, EndpointChange, EndpointKey, Endpoints};
use crate::engine::CommandError;

/// Endpoints as services, from [`Endpoints::discover`].
#[derive(Debug)]
pub struct Discovered<F> {
    endpoints: Endpoints,
    make: F,
}

impl Endpoints {
    /// A `tower::discover::Discover` of what `make` makes of each endpoint, for `tower::balance` and the like. The feature
    /// `tower` has it.
    pub fn discover<S, F: FnMut(&Endpoint) -> S + Unpin>(self, make: F) -> Discovered<F> {
        Discovered { endpoints: self, make }
    }
}

impl<S, F: FnMut(&Endpoint) -> S + Unpin> Stream for Discovered<F> {
    type Item = Result<Change<EndpointKey, S>, CommandError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let change = ready!(this.endpoints.poll_change(cx));
        Poll::Ready(change.map(|change| {
            Ok(match change? {
                EndpointChange::Insert(endpoint) => Change::Insert(endpoint.key.clone(), (this.make)(&endpoint)),
                EndpointChange::Remove(key) => Change::Remove(key),
            })
        }))
    }
}
