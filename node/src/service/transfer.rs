//! Portable copies: export and import.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{Service, give, refused};
use crate::control::{Items, Pages};
use crate::failure::{Code, Failure};
use crate::request::{Page64, Transferred};

impl Service {
    pub(super) async fn export(&self, space: &str, items: &Items) -> Result<Transferred, Failure> {
        let space = self.space(space).await?;
        let mut done = Transferred::default();
        let mut after = None;
        loop {
            let page = space.export(after).await.map_err(refused)?;
            done.pages += 1;
            done.bytes += page.page.len() as u64;
            give(items, Page64 { page: BASE64.encode(&page.page) }).await?;
            after = page.next;
            if after.is_none() {
                return Ok(done);
            }
        }
    }

    /// Takes pages in one at a time: each is durable before the next is looked at, so a crash leaves whole pages.
    pub(super) async fn import(&self, space: &str, mut pages: Pages) -> Result<Transferred, Failure> {
        let space = self.space(space).await.map_err(|failure| match failure.code {
            Code::NotFound => failure.hint("join the space first: an import brings documents, not membership"),
            _ => failure,
        })?;
        let mut done = Transferred::default();
        while let Some(page) = pages.recv().await {
            let page = page?;
            done.pages += 1;
            done.bytes += page.len() as u64;
            let imported = space.import(page).await.map_err(refused)?;
            done.changes += imported.changes;
            done.refused += imported.refused;
        }
        done.bookmark = Some(space.bookmark().await.map_err(refused)?.to_string());
        Ok(done)
    }
}
