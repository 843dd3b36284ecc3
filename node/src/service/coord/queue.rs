//! Queues of work.

use std::time::Duration;

use foreshore::coord::FencingToken;
use foreshore::peer::coord::{ClaimedItem, Queue};

use super::super::{Service, refused};
use crate::failure::{Code, Failure};
use crate::request::{Blob, Claimed, Item, QueueLine, Queued};

impl Service {
    async fn queue(&self, space: &str, path: &str) -> Result<Queue, Failure> {
        Ok(self.shared_session(space).await?.queue(path))
    }

    pub(in crate::service) async fn queue_put(
        &self,
        space: &str,
        path: &str,
        body: &Blob,
        attempts: u32,
    ) -> Result<Queued, Failure> {
        let item = self.queue(space, path).await?.put(body.bytes(), attempts).await.map_err(refused)?;
        Ok(Queued { path: path.into(), item })
    }

    pub(in crate::service) async fn queue_claim(
        &self,
        space: &str,
        path: &str,
        visibility: Duration,
    ) -> Result<Claimed, Failure> {
        let claimed = self.queue(space, path).await?.claim(visibility).await.map_err(refused)?;
        let ClaimedItem { item, body, attempt, token } = claimed.ok_or_else(|| {
            Failure::new(Code::NotFound, format_args!("no item is ready in {path}"))
                .hint("`foreshore queue work` waits for items")
        })?;
        Ok(Claimed { path: path.into(), token: token.as_u64(), item: Item { item, attempt, body: body.into() } })
    }

    pub(in crate::service) async fn queue_settle(
        &self,
        space: &str,
        path: &str,
        (item, token): (u64, u64),
        done: bool,
    ) -> Result<Queued, Failure> {
        let token = FencingToken::from_u64(token)
            .ok_or_else(|| Failure::invalid("token", "it is a number as `foreshore queue pop` prints it"))?;
        let claimed = ClaimedItem { item, body: Vec::new(), attempt: 0, token };
        let queue = self.queue(space, path).await?;
        let settled = if done { queue.ack(&claimed).await } else { queue.nack(&claimed).await };
        settled.map_err(refused)?;
        Ok(Queued { path: path.into(), item })
    }

    pub(in crate::service) async fn queue_state(&self, space: &str, path: &str) -> Result<QueueLine, Failure> {
        let (ready, claimed, dead) = self.queue(space, path).await?.state().await.map_err(refused)?;
        Ok(QueueLine { path: path.into(), ready, claimed, dead })
    }

    pub(in crate::service) async fn queue_item(&self, space: &str, path: &str, item: u64) -> Result<Item, Failure> {
        let found = self.queue(space, path).await?.item(item).await.map_err(refused)?;
        let (body, attempt) =
            found.ok_or_else(|| Failure::new(Code::NotFound, format_args!("no item {item} in {path}")))?;
        Ok(Item { item, attempt, body: body.into() })
    }

    pub(in crate::service) async fn queue_revive(&self, space: &str, path: &str, item: u64) -> Result<Queued, Failure> {
        self.queue(space, path).await?.revive(item).await.map_err(refused)?;
        Ok(Queued { path: path.into(), item })
    }

    pub(in crate::service) async fn queue_discard(
        &self,
        space: &str,
        path: &str,
        item: u64,
    ) -> Result<Queued, Failure> {
        self.queue(space, path).await?.discard(item).await.map_err(refused)?;
        Ok(Queued { path: path.into(), item })
    }
}
