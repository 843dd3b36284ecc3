//! Rights taken back, and what leaves documents with them.

use foreshore::engine::MAX_LIST;
use foreshore::id::{DeviceId, FactHash, Path, Prefix};
use foreshore::peer::{Keep, Space};

use super::{Service, give, refused};
use crate::control::Items;
use crate::failure::{Code, Failure};
use crate::request::{EvictedLine, RebasedLine, Revoked, Rotated};

/// Fewest letters by which a device may be named.
const MIN_LETTERS: usize = 8;

impl Service {
    pub(super) async fn revoke(
        &self,
        space: &str,
        device: &str,
        grants: &[String],
        keep_nothing: bool,
    ) -> Result<Revoked, Failure> {
        let space = self.space(space).await?;
        let device = member(&space, device).await?;
        let read = |text: &String| text.parse::<FactHash>().map_err(|e| Failure::invalid("grant", e));
        let grants = grants.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let keep = if keep_nothing { Keep::Nothing } else { Keep::Known };
        space.revoke(device, grants, keep).await.map_err(refused)?;
        Ok(Revoked { devices: vec![device.to_string()] })
    }

    pub(super) async fn revoke_expired(&self, space: &str) -> Result<Revoked, Failure> {
        let devices = self.space(space).await?.revoke_expired().await.map_err(refused)?;
        Ok(Revoked { devices: devices.iter().map(DeviceId::to_string).collect() })
    }

    pub(super) async fn rotate_root(&self, space: &str) -> Result<Rotated, Failure> {
        let space = self.space(space).await?;
        let root = space.rotate_root(None).await.map_err(refused)?;
        Ok(Rotated { space: space.id().to_bech32(), root: root.signer().device().to_string() })
    }

    pub(super) async fn evicted(&self, space: &str, prefix: &str, items: &Items) -> Result<(), Failure> {
        let space = self.space(space).await?;
        let prefix = Prefix::parse(prefix).map_err(|e| Failure::invalid("prefix", e))?;
        for document in space.evicted(&prefix).await.map_err(refused)? {
            for change in space.evicted_changes(document.path.clone()).await.map_err(refused)? {
                let line = EvictedLine {
                    path: document.path.to_string(),
                    change: change.change.to_string(),
                    device: change.device.map(|device| device.to_string()),
                    mine: change.mine,
                    honest: change.honest,
                };
                give(items, line).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn rebase_evicted(&self, space: &str, path: &str, others: bool) -> Result<RebasedLine, Failure> {
        let space = self.space(space).await?;
        let at = Path::parse(path).map_err(|e| Failure::invalid("path", e))?;
        let rebased = space.rebase_evicted(at, others).await.map_err(|e| Failure::new(Code::Failed, e))?;
        let lost = rebased.lost.iter().map(ToString::to_string).collect();
        Ok(RebasedLine { path: path.to_owned(), made: rebased.made as u64, lost })
    }

    pub(super) async fn discard_evicted(&self, space: &str, path: &str) -> Result<(), Failure> {
        let space = self.space(space).await?;
        let at = Path::parse(path).map_err(|e| Failure::invalid("path", e))?;
        space.discard_evicted(at).await.map_err(refused)
    }
}

/// The device that some first letters mean: of a member, or written out in full.
async fn member(space: &Space, text: &str) -> Result<DeviceId, Failure> {
    if let Ok(device) = text.parse::<DeviceId>() {
        return Ok(device);
    }
    if text.len() < MIN_LETTERS {
        return Err(Failure::invalid("device", format_args!("at least {MIN_LETTERS} letters of it are needed")));
    }
    let (mut after, mut found) = (None, Vec::new());
    loop {
        let members = space.members(after, MAX_LIST).await.map_err(refused)?;
        after = members.last().map(|member| member.device);
        let full = members.len() == MAX_LIST;
        found.extend(members.into_iter().map(|m| m.device).filter(|device| device.to_string().starts_with(text)));
        if !full {
            break;
        }
    }
    match found[..] {
        [device] => Ok(device),
        [] => Err(Failure::new(Code::NotFound, format_args!("no member's device begins with {text}"))
            .hint("`foreshore members` lists them")),
        _ => Err(Failure::invalid("device", format_args!("{} members' devices begin with {text}", found.len()))),
    }
}
