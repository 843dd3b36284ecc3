//! Soft state for pages: every change of what is followed is told as the whole list, which is small by its bounds.

use std::rc::Rc;
use std::time::Duration;

use foreshore::peer::{Soft, SoftItem, SoftWatch};
use futures::channel::oneshot;
use futures::future::{Either, select};
use futures_timer::Delay;
use serde_json::{Value as Json, json};
use std::pin::pin;
use wasm_bindgen_futures::spawn_local;

use super::{Answer, Inner, closed, parse};
use crate::errors::Failure;
use crate::request::Request;

/// No event says that an owner missed its renewals: while others' entries are shown, one looks this often. The least lease is
/// away for longer than this before it lapses.
const LOOK: Duration = Duration::from_millis(500);

/// Entries that a page follows. Dropping it ends its task.
pub(super) struct Followed {
    soft: Soft<Json>,
    _gone: oneshot::Sender<()>,
}

impl Inner {
    pub(super) async fn answer_soft(self: &Rc<Self>, request: Request) -> Answer {
        match request {
            Request::Soft { space, prefix, soft } => {
                self.want(&space, soft, parse("prefix", &prefix)?).await?;
                let handle = self.space(&space).await?.soft::<Json>(prefix.as_str())?;
                let (gone, ended) = oneshot::channel();
                // Watched before they are listed, so that nothing falls between.
                let watch = handle.watch();
                let entries = handle.entries().await?;
                spawn_local(follow(self.clone(), soft, (handle.clone(), watch), others_away(&entries), ended));
                self.softs.borrow_mut().insert(soft, Followed { soft: handle, _gone: gone });
                Ok(entries.iter().map(entry).collect())
            }
            Request::SoftSet { soft, key, value } => {
                let handle = self.soft(soft)?;
                handle.set(&key, &value)?.await?;
                Ok(Json::Null)
            }
            Request::SoftDelete { soft, key } => Ok(self.soft(soft)?.delete(&key)?.await?.into()),
            Request::SoftClose { soft } => {
                self.softs.borrow_mut().remove(&soft);
                self.unwant(soft).await?;
                Ok(Json::Null)
            }
            other => Err(Failure::invalid("request", format!("{other:?}"))),
        }
    }

    fn soft(&self, soft: u32) -> Result<Soft<Json>, Failure> {
        self.softs.borrow().get(&soft).map(|followed| followed.soft.clone()).ok_or_else(|| closed("soft state"))
    }
}

async fn follow(
    inner: Rc<Inner>,
    id: u32,
    (soft, mut watch): (Soft<Json>, SoftWatch<Json>),
    mut away: Vec<bool>,
    mut ended: oneshot::Receiver<()>,
) {
    loop {
        let look = async {
            match away.is_empty() {
                true => std::future::pending().await,
                false => Delay::new(LOOK).await,
            }
        };
        let news = match select(&mut ended, select(pin!(watch.next()), pin!(look))).await {
            Either::Left(_) | Either::Right((Either::Left((None, _)), _)) => return,
            Either::Right((Either::Left(_), _)) => true,
            Either::Right((Either::Right(_), _)) => false,
        };
        // What gathered meanwhile is in the same list.
        let Ok(entries) = soft.entries().await else { return };
        let before = std::mem::replace(&mut away, others_away(&entries));
        if news || before != away {
            let entries: Vec<Json> = entries.iter().map(entry).collect();
            inner.tell(&json!({ "event": "soft", "soft": id, "entries": entries }));
        }
    }
}

/// Which of the others' entries are away.
fn others_away(entries: &[SoftItem<Json>]) -> Vec<bool> {
    entries.iter().filter(|item| !item.mine).map(|item| item.away).collect()
}

fn entry(item: &SoftItem<Json>) -> Json {
    json!({
        "key": item.key,
        "value": item.value,
        "peer": foreshore::peer::peer_text(&item.owner.peer),
        "member": item.owner.device.to_string(),
        "mine": item.mine,
        "away": item.away,
        "expiresIn": u64::try_from(item.expires_in.as_millis()).unwrap_or(u64::MAX),
    })
}
