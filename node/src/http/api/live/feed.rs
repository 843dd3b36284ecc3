//! What was told of late, and to whom it is told: a feed a set of wishes, written by one task, read by whoever holds its id.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::super::event::Told;
use super::super::pass::Pass;
use super::super::problem::Problem;
use super::super::{Api, MAX_STREAMS};
use super::source;
use super::wish::Wishes;

/// Events that a feed keeps.
const MAX_EVENTS: usize = 1024;

/// Bytes that a feed keeps; the newest event is kept whatever its size.
const MAX_BYTES: usize = 1 << 20;

/// How long a feed goes on that nobody reads.
const LINGER: Duration = Duration::from_secs(60);

/// Feeds at once, those that nobody reads included.
const MAX_FEEDS: usize = 2 * MAX_STREAMS;

/// Every feed by its name.
#[derive(Clone, Default)]
pub(in crate::http::api) struct Feeds {
    all: Arc<Mutex<BTreeMap<String, Arc<Feed>>>>,
}

struct Feed {
    name: String,
    pass: Pass,
    wishes: Wishes,
    ring: Mutex<Ring>,
    /// The number of the next event, and whether there will be one.
    news: watch::Sender<(u64, bool)>,
    task: Mutex<Option<AbortHandle>>,
}

/// The newest events.
#[derive(Default)]
struct Ring {
    events: VecDeque<Told>,
    bytes: usize,
    /// The number of the first of them.
    first: u64,
    readers: usize,
    /// Counts readers that came, so that a lingering end sees that somebody has been here since.
    visits: u64,
    /// Why nothing follows.
    end: Option<Problem>,
}

impl Ring {
    fn next(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    fn push(&mut self, told: Told) {
        self.bytes += told.data.len();
        self.events.push_back(told);
        while self.events.len() > MAX_EVENTS || (self.bytes > MAX_BYTES && self.events.len() > 1) {
            if let Some(gone) = self.events.pop_front() {
                self.bytes -= gone.data.len();
                self.first += 1;
            }
        }
    }
}

/// The end at which a feed's task writes.
pub(super) struct Pen(Weak<Feed>);

impl Pen {
    /// Tells all readers. `false`: the feed is gone.
    pub(super) fn tell(&self, told: Told) -> bool {
        let Some(feed) = self.0.upgrade() else { return false };
        let mut ring = feed.ring();
        let number = ring.next();
        ring.push(Told { id: Some(format!("{}-{number}", feed.name)), ..told });
        drop(ring);
        feed.news.send_replace((number + 1, false));
        true
    }

    /// Nothing follows.
    pub(super) fn end(&self, why: Problem) {
        let Some(feed) = self.0.upgrade() else { return };
        let mut ring = feed.ring();
        ring.end = Some(why);
        let next = ring.next();
        drop(ring);
        feed.news.send_replace((next, true));
    }
}

impl Feed {
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Feeds {
    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Feed>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reader that goes on after an event, if its feed is still there, and for the same wishes and pass.
    pub(super) fn rejoin(&self, id: &str, pass: &Pass, wishes: &Wishes) -> Option<Reader> {
        let (name, number) = id.rsplit_once('-')?;
        let at = number.parse::<u64>().ok()?.checked_add(1)?;
        let all = self.all();
        let feed = all.get(name).filter(|feed| feed.pass == *pass && feed.wishes == *wishes)?;
        let mut ring = feed.ring();
        let is_kept = (ring.first..=ring.next()).contains(&at) && ring.end.is_none();
        is_kept.then(|| {
            ring.readers += 1;
            ring.visits += 1;
            Reader { feeds: self.clone(), news: feed.news.subscribe(), feed: feed.clone(), at }
        })
    }

    /// A new feed and its first reader.
    pub(super) async fn begin(
        &self,
        api: &Api,
        pass: &Pass,
        wishes: Wishes,
        bookmark: Option<String>,
    ) -> Result<Reader, Problem> {
        let mut secret = [0; 16];
        getrandom::fill(&mut secret)
            .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", error))?;
        let name = URL_SAFE_NO_PAD.encode(secret);
        // Who watches does so before it reads.
        let sources = source::Sources::open(api, &wishes).await?;
        let ring = Mutex::new(Ring { readers: 1, visits: 1, ..Ring::default() });
        let feed = Arc::new(Feed {
            name: name.clone(),
            pass: pass.clone(),
            wishes: wishes.clone(),
            ring,
            news: watch::Sender::new((0, false)),
            task: Mutex::default(),
        });
        {
            let mut all = self.all();
            if all.len() >= MAX_FEEDS {
                let idle = all.values().find(|feed| feed.ring().readers == 0).map(|feed| feed.name.clone());
                let idle = idle.ok_or_else(|| {
                    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "too many streams are open")
                })?;
                if let Some(feed) = all.remove(&idle) {
                    feed.stop();
                }
            }
            all.insert(name, feed.clone());
        }
        let pen = Pen(Arc::downgrade(&feed));
        let api = api.clone();
        let task = tokio::spawn(async move {
            if let Err(problem) = sources.follow(&api, &wishes, bookmark.as_deref(), &pen).await {
                pen.end(problem);
            }
        });
        *feed.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task.abort_handle());
        Ok(Reader { feeds: self.clone(), news: feed.news.subscribe(), feed, at: 0 })
    }
}

impl Feed {
    fn stop(&self) {
        if let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

/// Somebody who is told.
pub(super) struct Reader {
    feeds: Feeds,
    feed: Arc<Feed>,
    news: watch::Receiver<(u64, bool)>,
    /// The number of what it is told next.
    at: u64,
}

impl Reader {
    /// The next event; an error ends the stream. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Told, Problem> {
        loop {
            {
                let ring = self.feed.ring();
                if self.at < ring.first {
                    let detail = "events came faster than they were read, and some are not kept any more";
                    return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too_slow", detail)
                        .hint("connect again: the stream then begins with the state"));
                }
                let index = usize::try_from(self.at - ring.first).unwrap_or(usize::MAX);
                if let Some(told) = ring.events.get(index) {
                    self.at += 1;
                    return Ok(told.clone());
                }
                if let Some(problem) = &ring.end {
                    return Err(problem.clone());
                }
            }
            let at = self.at;
            // The feed holds its sender for as long as it has readers.
            let _ = self.news.wait_for(|(next, ended)| *next > at || *ended).await;
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut ring = self.feed.ring();
        ring.readers -= 1;
        if ring.readers > 0 {
            return;
        }
        let (visits, ended) = (ring.visits, ring.end.is_some());
        drop(ring);
        let (feeds, feed) = (self.feeds.clone(), self.feed.clone());
        let forget = move || {
            let mut all = feeds.all();
            let is_left = {
                let ring = feed.ring();
                ring.readers == 0 && ring.visits == visits
            };
            if is_left {
                all.remove(&feed.name);
                feed.stop();
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if !ended => {
                runtime.spawn(async move {
                    tokio::time::sleep(LINGER).await;
                    forget();
                });
            }
            _ => forget(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_keeps_the_newest_within_its_bounds() {
        let mut ring = Ring::default();
        for n in 0..MAX_EVENTS + 10 {
            ring.push(Told::new("change", &n));
        }
        assert_eq!((ring.first, ring.events.len()), (10, MAX_EVENTS));
        let large = "x".repeat(MAX_BYTES / 2);
        for _ in 0..3 {
            ring.push(Told::new("change", &large));
        }
        assert_eq!(ring.events.len(), 1);
        ring.push(Told::new("change", &"y".repeat(3 * MAX_BYTES)));
        assert_eq!(ring.events.len(), 1, "the newest is kept whatever its size");
        assert_eq!(ring.next(), MAX_EVENTS as u64 + 14);
        assert_eq!(ring.bytes, ring.events.iter().map(|told| told.data.len()).sum::<usize>());
    }
}
