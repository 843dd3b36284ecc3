//! What connections hear of each other and of the space.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use foreshore::id::{ChangeHash, Path, Prefix};
use foreshore::peer::{CommandError, Space, SpaceChange};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use super::message::{Ephemeral, MAX_ID};

/// News that a connection may be behind, before it looks at everything anew.
const MAX_NEWS: usize = 1_024;

/// Sessions of ephemeral messages that are remembered, so that what comes on two ways is passed on once.
const MAX_SESSIONS: usize = 4_096;

/// Heads of storages that are remembered.
const MAX_MARKS: usize = 16_384;

/// What connections are told.
#[derive(Debug, Clone)]
pub(super) enum News {
    /// A document changed, or was deleted.
    Changed(Path),
    /// Something was said; `from`: by which connection.
    Ephemeral { said: Arc<Ephemeral>, from: Option<u64> },
    /// A storage has other heads.
    Marked(Arc<Mark>),
    /// Something was missed.
    Missed,
}

/// What a storage has of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) document: String,
    pub(super) storage: String,
    pub(super) heads: Vec<ChangeHash>,
    pub(super) timestamp: u64,
}

/// An ephemeral message on its way to the doors of other peers, as a signal of the document's topic.
#[derive(Debug, Serialize, Deserialize)]
struct Carried {
    #[serde(rename = "automergeRepo")]
    version: u8,
    sender: String,
    session: String,
    count: u64,
    /// In base64.
    data: String,
}

#[derive(Debug, Default)]
struct Known {
    /// The newest count of each session, the oldest session first in `ages`.
    counts: BTreeMap<(String, String), u64>,
    ages: VecDeque<(String, String)>,
    marks: BTreeMap<(String, String), Arc<Mark>>,
}

#[derive(Debug)]
pub(super) struct Hub {
    news: broadcast::Sender<News>,
    numbers: AtomicU64,
    known: Mutex<Known>,
}

impl Hub {
    pub(super) fn new() -> Self {
        Self { news: broadcast::Sender::new(MAX_NEWS), numbers: AtomicU64::new(0), known: Mutex::default() }
    }

    /// All news from now on.
    pub(super) fn news(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }

    /// A number for a connection.
    pub(super) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, news: News) {
        // Nobody is connected, nobody needs to know.
        let _ = self.news.send(news);
    }

    /// Passes on what was said, once, to the connections here and, where it was said here, to the doors of other peers.
    pub(super) async fn pass_on(&self, space: &Space, path: &Path, said: Ephemeral, from: Option<u64>) {
        if !self.is_new(&said) {
            return;
        }
        if from.is_some() {
            let Ephemeral { sender, session, count, data, .. } = &said;
            let (sender, session, data) = (sender.clone(), session.clone(), STANDARD.encode(data));
            let carried = Carried { version: 1, sender, session, count: *count, data };
            // Too large or too often for a topic: it stays among the clients of this door.
            if let Ok(topic) = space.topic::<Carried>(path.clone())
                && let Ok(publish) = topic.publish(&carried)
                && let Err(error) = publish.await
            {
                tracing::debug!(%error, %path, "automerge-repo: an ephemeral message stays here");
            }
        }
        self.tell(News::Ephemeral { said: Arc::new(said), from });
    }

    fn is_new(&self, said: &Ephemeral) -> bool {
        let mut known = self.known();
        let session = (said.sender.clone(), said.session.clone());
        if let Some(newest) = known.counts.get_mut(&session) {
            let new = said.count > *newest;
            *newest = said.count.max(*newest);
            return new;
        }
        if known.ages.len() >= MAX_SESSIONS
            && let Some(oldest) = known.ages.pop_front()
        {
            known.counts.remove(&oldest);
        }
        known.ages.push_back(session.clone());
        known.counts.insert(session, said.count);
        true
    }

    /// Notes what a storage has.
    pub(super) fn mark(&self, document: String, storage: String, heads: Vec<ChangeHash>) {
        let mark = Arc::new(Mark { document, storage, heads, timestamp: now_millis() });
        {
            let mut known = self.known();
            let place = (mark.storage.clone(), mark.document.clone());
            if known.marks.get(&place).is_some_and(|known| known.heads == mark.heads) {
                return;
            }
            if known.marks.len() >= MAX_MARKS && !known.marks.contains_key(&place) {
                known.marks.pop_first();
            }
            known.marks.insert(place, mark.clone());
        }
        self.tell(News::Marked(mark));
    }

    /// What a storage has, as far as it is remembered.
    pub(super) fn marks(&self, storage: &str) -> Vec<Arc<Mark>> {
        let from = (storage.to_owned(), String::new());
        let known = self.known();
        known.marks.range(from..).take_while(|((of, _), _)| of == storage).map(|(_, mark)| mark.clone()).collect()
    }

    /// Tells what happens under a prefix of a space, until the peer closes.
    pub(super) async fn watch(&self, space: Space, prefix: Prefix) -> Result<(), CommandError> {
        let mut changes = space.watch(&prefix)?;
        let mut signals = space.signals::<Carried>(&prefix)?;
        loop {
            tokio::select! {
                change = changes.next() => match change {
                    Some(SpaceChange::Document(change)) => self.tell(News::Changed(change.path)),
                    Some(_) => self.tell(News::Missed),
                    None => return Ok(()),
                },
                signal = signals.next() => {
                    let Some(signal) = signal else { return Ok(()) };
                    let Carried { version, sender, session, count, data } = signal.value;
                    let document = signal.path.as_str().rsplit('/').next().unwrap_or_default().to_owned();
                    let fits = version == 1 && sender.len() <= MAX_ID && session.len() <= MAX_ID;
                    if let Ok(data) = STANDARD.decode(data)
                        && fits
                        && !signal.mine
                    {
                        let said = Ephemeral { document, sender, session, count, data };
                        self.pass_on(&space, &signal.path, said, None).await;
                    }
                }
            }
        }
    }
}

/// Milliseconds since 1970: what automerge-repo says when heads were so.
#[allow(clippy::disallowed_methods, reason = "others compare it with their wall clocks")]
pub(super) fn now_millis() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
