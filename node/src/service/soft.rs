//! Soft state: set, get, list, watch.

use foreshore::peer::{OwnerId, Soft, SoftItem, SoftNews, peer_text};
use serde_json::Value as Json;

use super::documents::{parse_path, parse_prefix};
use super::{Service, give, refused};
use crate::control::Items;
use crate::failure::{Code, Failure};
use crate::request::{SoftEvent, SoftLine, SoftRemoved, SoftSet};

impl Service {
    async fn soft(&self, space: &str, prefix: &str) -> Result<Soft<Json>, Failure> {
        let prefix = parse_prefix(prefix)?;
        self.space(space).await?.soft(prefix).map_err(refused)
    }

    /// A handle of everything, and the key of one path.
    async fn soft_at(&self, space: &str, path: &str) -> Result<(Soft<Json>, String), Failure> {
        let path = parse_path(path)?;
        Ok((self.soft(space, "/").await?, path.as_str().trim_start_matches('/').to_owned()))
    }

    pub(super) async fn soft_set(&self, space: &str, path: &str, value: &Json) -> Result<SoftSet, Failure> {
        let (soft, key) = self.soft_at(space, path).await?;
        soft.set(&key, value).map_err(refused)?.await.map_err(refused)?;
        Ok(SoftSet { path: path.to_owned(), owner: self.shared.peer.peer_id_text() })
    }

    pub(super) async fn soft_delete(&self, space: &str, path: &str) -> Result<SoftRemoved, Failure> {
        let (soft, key) = self.soft_at(space, path).await?;
        let deleted = soft.delete(&key).map_err(refused)?.await.map_err(refused)?;
        Ok(SoftRemoved { path: path.to_owned(), deleted })
    }

    pub(super) async fn soft_get(&self, space: &str, path: &str, items: &Items) -> Result<(), Failure> {
        let (soft, key) = self.soft_at(space, path).await?;
        for item in soft.get(&key).await.map_err(refused)? {
            give(items, line(item)).await?;
        }
        Ok(())
    }

    pub(super) async fn soft_list(&self, space: &str, prefix: &str, items: &Items) -> Result<(), Failure> {
        for item in self.soft(space, prefix).await?.entries().await.map_err(refused)? {
            give(items, line(item)).await?;
        }
        Ok(())
    }

    pub(super) async fn soft_watch(
        &self,
        space: &str,
        prefix: &str,
        count: Option<u64>,
        items: &Items,
    ) -> Result<(), Failure> {
        let mut watch = self.soft(space, prefix).await?.watch();
        let mut left = count.unwrap_or(u64::MAX);
        while left > 0 {
            let event = match watch.next().await {
                None => return Err(Failure::new(Code::Interrupted, "the peer stopped")),
                Some(SoftNews::Set { path, value, owner, mine, .. }) => SoftEvent {
                    path: path.to_string(),
                    kind: "set".into(),
                    owner: text(&owner),
                    mine,
                    value: Some(value),
                },
                Some(SoftNews::Gone { path, owner, expired, mine, .. }) => {
                    let kind = if expired { "expired" } else { "deleted" };
                    SoftEvent { path: path.to_string(), kind: kind.into(), owner: text(&owner), mine, value: None }
                }
                // More than was kept has happened: list again.
                Some(_) => SoftEvent {
                    path: prefix.to_string(),
                    kind: "resync".into(),
                    owner: String::new(),
                    mine: false,
                    value: None,
                },
            };
            give(items, event).await?;
            left -= 1;
        }
        Ok(())
    }
}

fn text(owner: &OwnerId) -> String {
    peer_text(&owner.peer)
}

fn line(item: SoftItem<Json>) -> SoftLine {
    SoftLine {
        path: item.path.to_string(),
        owner: text(&item.owner),
        device: item.owner.device.to_string(),
        mine: item.mine,
        away: item.away,
        expires_ms: item.expires_in.as_millis() as u64,
        value: item.value,
    }
}
