//! Topics: publish, subscribe.

use foreshore::peer::peer_text;
use serde_json::Value as Json;

use super::documents::{parse_path, parse_prefix};
use super::{Service, give, refused};
use crate::control::Items;
use crate::failure::{Code, Failure};
use crate::request::{Published, SignalLine};

impl Service {
    pub(super) async fn publish(&self, space: &str, path: &str, value: &Json) -> Result<Published, Failure> {
        let topic = self.space(space).await?.topic::<Json>(parse_path(path)?).map_err(refused)?;
        let published = topic.publish(value).map_err(refused)?.await.map_err(refused)?;
        Ok(Published { path: path.to_owned(), seq: published.seq, peers: published.peers as u64 })
    }

    pub(super) async fn subscribe(
        &self,
        space: &str,
        prefix: &str,
        count: Option<u64>,
        items: &Items,
    ) -> Result<(), Failure> {
        let mut signals = self.space(space).await?.signals::<Json>(parse_prefix(prefix)?).map_err(refused)?;
        for _ in 0..count.unwrap_or(u64::MAX) {
            let Some(signal) = signals.next().await else {
                return Err(Failure::new(Code::Interrupted, "the peer stopped"));
            };
            let line = SignalLine {
                path: signal.path.to_string(),
                sender: peer_text(&signal.sender.peer),
                device: signal.sender.device.to_string(),
                mine: signal.mine,
                seq: signal.seq,
                missed: signal.missed,
                dropped: signal.dropped,
                value: signal.value,
            };
            give(items, line).await?;
        }
        Ok(())
    }
}
