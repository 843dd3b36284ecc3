//! In place of the strong path's streams, where it is left out.

use super::{Driver, Machine};
use crate::net::link::LinkEvent;

pub(super) struct Streams;

impl Streams {
    pub(super) fn new() -> Self {
        Self
    }

    pub(super) async fn next_event(&mut self) -> Option<LinkEvent> {
        std::future::pending().await
    }
}

impl<M: Machine> Driver<M> {
    pub(super) fn on_coord_event(&mut self, _: LinkEvent) {}
}
