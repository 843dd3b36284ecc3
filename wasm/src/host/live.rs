//! What pages follow besides documents and soft state: topics, windows on many documents, and prefixes to keep here.
//!
//! **What is replicated.** The union of what pages name (`Request::Keep`), and of what they have open: documents, soft
//! state, topics, windows. A page that names nothing keeps everything. What is wanted is told to the engine when it has
//! changed; above the most prefixes that a peer may name, everything is wanted.

use std::collections::BTreeMap;
use std::pin::pin;
use std::rc::Rc;

use foreshore::id::Prefix;
use foreshore::peer::{Heard, Signals, Topic, Window};
use futures::channel::oneshot;
use futures::future::{Either, select};
use serde_json::{Value as Json, json};
use wasm_bindgen_futures::spawn_local;

use super::{Answer, Inner, closed, parse};
use crate::errors::Failure;
use crate::patches;
use crate::request::Request;

/// Most prefixes that a peer names.
const MAX_PREFIXES: usize = 256;

/// Something that a page follows. Dropping it ends its task.
pub(super) struct Followed {
    topic: Option<Topic<Json>>,
    _gone: oneshot::Sender<()>,
}

/// What is wanted of one space, by the number of whatever wants it, and what the engine was told.
#[derive(Default)]
pub(super) struct Wanted {
    by: BTreeMap<u32, Prefix>,
    told: Option<Vec<Prefix>>,
}

impl Wanted {
    /// Sorted, without a prefix that another one contains.
    fn all(&self) -> Vec<Prefix> {
        let mut all: Vec<Prefix> = self.by.values().cloned().collect();
        all.sort_unstable();
        all.dedup();
        let every = all.clone();
        all.retain(|prefix| !every.iter().any(|other| other != prefix && other.contains(prefix)));
        if all.len() > MAX_PREFIXES { vec![Prefix::root()] } else { all }
    }
}

impl Inner {
    pub(super) async fn answer_live(self: &Rc<Self>, request: Request) -> Answer {
        match request {
            Request::Topic { space, path, live } => {
                let topic = self.space(&space).await?.topic::<Json>(path.as_str())?;
                self.want(&space, live, parse("path", &path)?).await?;
                let (gone, ended) = oneshot::channel();
                spawn_local(listen(self.clone(), live, topic.subscribe(), ended));
                self.lives.borrow_mut().insert(live, Followed { topic: Some(topic), _gone: gone });
                Ok(Json::Null)
            }
            Request::Publish { live, value } => {
                let topic = self.lives.borrow().get(&live).and_then(|live| live.topic.clone());
                topic.ok_or_else(|| closed("topic"))?.publish(&value)?.await?;
                Ok(Json::Null)
            }
            Request::Window { space, prefix, limit, live } => {
                let window = self.space(&space).await?.window(prefix.as_str(), limit)?;
                self.want(&space, live, parse("prefix", &prefix)?).await?;
                let (gone, ended) = oneshot::channel();
                spawn_local(look(self.clone(), live, window, ended));
                self.lives.borrow_mut().insert(live, Followed { topic: None, _gone: gone });
                Ok(Json::Null)
            }
            Request::Keep { space, prefix, live } => {
                self.want(&space, live, parse("prefix", &prefix)?).await?;
                Ok(Json::Null)
            }
            Request::CloseLive { live } => {
                self.lives.borrow_mut().remove(&live);
                self.copies.borrow_mut().remove(&live);
                self.unwant(live).await?;
                Ok(Json::Null)
            }
            other => Err(Failure::invalid("request", format!("{other:?}"))),
        }
    }

    /// From here on a prefix is wanted, for as long as `by` is there.
    pub(super) async fn want(&self, space: &str, by: u32, prefix: Prefix) -> Result<(), Failure> {
        self.wanted.borrow_mut().entry(space.into()).or_default().by.insert(by, prefix);
        self.tell_wanted(space).await
    }

    /// Whatever had this number wants nothing any more.
    pub(super) async fn unwant(&self, by: u32) -> Result<(), Failure> {
        let of = |(space, wanted): (&String, &mut Wanted)| wanted.by.remove(&by).map(|_| space.clone());
        let space = self.wanted.borrow_mut().iter_mut().find_map(of);
        match space {
            Some(space) => self.tell_wanted(&space).await,
            None => Ok(()),
        }
    }

    async fn tell_wanted(&self, space: &str) -> Result<(), Failure> {
        let changed = {
            let mut wanted = self.wanted.borrow_mut();
            let wanted = wanted.entry(space.into()).or_default();
            let all = wanted.all();
            let changed = wanted.told.as_ref() != Some(&all);
            wanted.told = Some(all.clone());
            changed.then_some(all)
        };
        match changed {
            Some(prefixes) => Ok(self.space(space).await?.interest(prefixes).await?),
            None => Ok(()),
        }
    }
}

async fn listen(inner: Rc<Inner>, live: u32, mut signals: Signals<Json>, mut ended: oneshot::Receiver<()>) {
    loop {
        match select(&mut ended, pin!(signals.next())).await {
            Either::Left(_) | Either::Right((None, _)) => return,
            Either::Right((Some(heard), _)) => inner.tell(&signal(live, &heard)),
        }
    }
}

fn signal(live: u32, heard: &Heard<Json>) -> Json {
    json!({
        "event": "signal",
        "live": live,
        "value": heard.value,
        "peer": foreshore::peer::peer_text(&heard.sender.peer),
        "member": heard.sender.device.to_string(),
    })
}

async fn look(inner: Rc<Inner>, live: u32, mut window: Window, mut ended: oneshot::Receiver<()>) {
    loop {
        let items = match select(&mut ended, pin!(window.next())).await {
            Either::Left(_) | Either::Right((None | Some(Err(_)), _)) => return,
            Either::Right((Some(Ok(items)), _)) => items,
        };
        let items =
            items.iter().map(|info| json!({ "path": info.path.to_string(), "heads": patches::heads(&info.heads) }));
        inner.tell(&json!({ "event": "window", "live": live, "items": items.collect::<Vec<_>>() }));
    }
}
