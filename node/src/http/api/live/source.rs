//! Where a feed's events come from: what is watched, what is read again when it has changed, and the voters, of which a stream
//! has a session of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axum::http::StatusCode;
use foreshore::coord::watch::{EventKind, Watch};
use foreshore::id::{Path, Prefix};
use foreshore::peer::{Bookmark, SoftNews, Space, SpaceChange, peer_text};
use futures::stream::{BoxStream, FuturesUnordered, SelectAll, select_all};
use futures::{FutureExt as _, StreamExt as _};
use serde::Serialize;
use serde_json::{Value as Json, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::super::event::Told;
use super::super::problem::Problem;
use super::super::{Api, MAX_ANSWER_BYTES, MAX_LIST, too_much};
use super::feed::Pen;
use super::wish::{Kind, Wish, Wishes};
use crate::control::QUEUE;
use crate::failure::{Code, Failure};
use crate::request::{Document, Listed, NodeLine, Page, QueueLine, Request, SoftLine};

/// Most bytes of one event: a feed keeps one whatever its size.
const MAX_EVENT_BYTES: usize = 4 << 20;

/// How long the voters have to answer where other kinds of state wait beside them.
const MAJORITY: Duration = Duration::from_secs(3);

/// Between two looks at what no majority answers for.
const RETRY: Duration = Duration::from_secs(1);

/// What one wish came to.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Found {
    kind: &'static str,
    path: String,
    /// `null`: nothing is there, or it could not be read.
    value: Json,
    /// Why it could not be read. The others were.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Problem>,
}

/// What all wishes came to, in their order.
#[derive(Debug, Clone, Serialize)]
pub(super) struct State {
    results: Vec<Found>,
    /// Stands for the documents that were read.
    pub(super) bookmark: String,
}

/// One thing that changed under a prefix.
#[derive(Debug, Serialize)]
struct Entry<'a> {
    kind: &'static str,
    /// The prefix that was asked for.
    prefix: &'a str,
    entry: Json,
}

/// Something heard under a prefix.
#[derive(Debug, Serialize)]
struct Signal<'a> {
    prefix: &'a str,
    signal: Json,
}

/// Reads everything once.
pub(super) async fn state(api: &Api, wishes: &Wishes, bookmark: Option<&str>) -> Result<State, Problem> {
    let space = api.service.space(wishes.space()).await?;
    let mut seen = match bookmark {
        None => Bookmark::new(space.id()),
        Some(text) => {
            let bookmark: Bookmark =
                text.parse().map_err(|error| Problem::invalid(format_args!("foreshore-bookmark: {error}")))?;
            api.service.reach(&space, &bookmark).await?
        }
    };
    // The strong ones wait for a majority at the same time.
    let results: Vec<Found> = futures::future::join_all(wishes.all.iter().map(|wish| look(api, wishes, wish))).await;
    let mut bytes = 0;
    for found in &results {
        bytes += found.value.to_string().len();
        if bytes > MAX_ANSWER_BYTES {
            return Err(too_much(MAX_ANSWER_BYTES));
        }
    }
    let paths = wishes.all.iter().filter(|wish| wish.kind == Kind::Document);
    let paths: Vec<Path> = paths.filter_map(|wish| Path::parse(&wish.path).ok()).collect();
    if !paths.is_empty() {
        let read = api.service.bookmark_of(&space, paths).await?;
        seen.merge(&read).map_err(|error| Problem::invalid(format_args!("foreshore-bookmark: {error}")))?;
    }
    Ok(State { results, bookmark: seen.to_string() })
}

async fn look(api: &Api, wishes: &Wishes, wish: &Wish) -> Found {
    let value = value(api, wishes.space().to_owned(), wish);
    let read = async {
        match wish.kind.is_strong() {
            false => value.await,
            true => tokio::time::timeout(MAJORITY, value).await.unwrap_or_else(|_| {
                let detail = format_args!("no majority of the voters has answered within {MAJORITY:?}");
                Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no_quorum", detail))
            }),
        }
    };
    let (value, problem) = match read.await {
        Ok(value) => (value, None),
        Err(problem) => (Json::Null, Some(problem)),
    };
    Found { kind: wish.kind.name(), path: wish.path.clone(), value, problem }
}

async fn value(api: &Api, space: String, wish: &Wish) -> Result<Json, Problem> {
    let path = wish.path.clone();
    let there = |found: Result<Json, Problem>| match found {
        Err(problem) if problem.code == "not_found" => Ok(Json::Null),
        found => found,
    };
    match wish.kind {
        Kind::Document => {
            let found = api.service.get(&space, &path, "", false, None, Duration::ZERO).await;
            let value = |Document { mut heads, value, .. }: Document| {
                heads.sort_unstable();
                json!({ "etag": format!("\"{}\"", heads.join(".")), "heads": heads, "value": value })
            };
            there(found.map(value).map_err(Problem::from))
        }
        Kind::Documents => {
            let request = Request::List { space, prefix: path, after: None, limit: MAX_LIST };
            let (items, page): (Vec<Listed>, Page) = api.items(request).await?;
            Ok(json!({ "items": items, "next": page.next }))
        }
        Kind::Soft => {
            let (items, ()): (Vec<SoftLine>, ()) = api.items(Request::SoftList { space, prefix: path }).await?;
            Ok(json!({ "items": items }))
        }
        Kind::Topic => Ok(Json::Null),
        Kind::Node => {
            let node = api.one::<NodeLine>(Request::TreeGet { space, path, stale: false }).await;
            there(node.map(|node| json!(node)))
        }
        Kind::Children => {
            let names = api.one::<Vec<String>>(Request::TreeList { space, path, stale: false }).await;
            there(names.map(|names| json!({ "items": names })))
        }
        Kind::Leader => Ok(json!(api.service.leader(&space, &path).await?)),
        Kind::Queue => {
            let queue = api.one::<QueueLine>(Request::QueueState { space, path }).await;
            there(queue.map(|queue| json!(queue)))
        }
    }
}

/// What a source has to say of the wish with this number.
enum News {
    /// It is to be read again.
    Dirty(usize),
    Entry(usize, Json),
    Signal(usize, Json),
}

/// Everything that is watched.
pub(super) struct Sources {
    news: SelectAll<BoxStream<'static, News>>,
    /// Ends with this.
    _strong: JoinSet<()>,
}

impl Sources {
    /// Begins to watch.
    pub(super) async fn open(api: &Api, wishes: &Wishes) -> Result<Self, Problem> {
        let space = api.service.space(wishes.space()).await?;
        let mut streams = Vec::new();
        for (number, wish) in wishes.all.iter().enumerate().filter(|(_, wish)| !wish.kind.is_strong()) {
            streams.push(watch(&space, number, wish)?);
        }
        let mut strong = JoinSet::new();
        let mut watches = BTreeMap::<(String, Kind), Vec<usize>>::new();
        for (number, wish) in wishes.all.iter().enumerate().filter(|(_, wish)| wish.kind.is_strong()) {
            watches.entry((wish.path.clone(), wish.kind)).or_default().push(number);
        }
        if !watches.is_empty() {
            let (news, receiver) = mpsc::channel(QUEUE);
            let (api, name) = (api.clone(), wishes.space().to_owned());
            strong.spawn(async move { follow_voters(&api, &name, &watches, &news).await });
            streams.push(
                futures::stream::unfold(
                    receiver,
                    |mut receiver| async move { Some((receiver.recv().await?, receiver)) },
                )
                .boxed(),
            );
        }
        if streams.is_empty() {
            // Nothing is asked for, and nothing comes of it.
            streams.push(futures::stream::pending().boxed());
        }
        Ok(Self { news: select_all(streams), _strong: strong })
    }

    /// Tells what is there and then what happens, for as long as anybody may want to hear it.
    pub(super) async fn follow(
        mut self,
        api: &Api,
        wishes: &Wishes,
        bookmark: Option<&str>,
        pen: &Pen,
    ) -> Result<(), Problem> {
        let state = state(api, wishes, bookmark).await?;
        let mut told: Vec<blake3::Hash> = state.results.iter().map(digest).collect();
        let mut troubled: BTreeSet<usize> = troubled(&state.results);
        let begin = Told::new("state", &state);
        if begin.data.len() > MAX_EVENT_BYTES {
            return Err(too_much(MAX_EVENT_BYTES));
        }
        if !pen.tell(begin) {
            return Ok(());
        }
        drop(state);
        // Each is looked at by itself: what no majority answers for holds up nothing else.
        let (mut dirty, mut busy) = (BTreeSet::new(), BTreeSet::new());
        let mut looking = FuturesUnordered::new();
        let mut retry = tokio::time::interval(RETRY);
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // What changes while it is looked at waits, and is looked at once more, however often it did.
            let free: Vec<usize> = dirty.difference(&busy).copied().collect();
            for number in free {
                dirty.remove(&number);
                busy.insert(number);
                looking.push(async move { (number, look(api, wishes, &wishes.all[number]).await) });
            }
            tokio::select! {
                news = self.news.next() => match news {
                    None => return Err(stopping()),
                    Some(news) => sort(news, wishes, &mut dirty, pen),
                },
                Some((number, found)) = looking.next() => {
                    busy.remove(&number);
                    if found.problem.is_some() {
                        troubled.insert(number);
                    }
                    let (digest, change) = (digest(&found), Told::new("change", &found));
                    if change.data.len() > MAX_EVENT_BYTES {
                        return Err(too_much(MAX_EVENT_BYTES));
                    }
                    if std::mem::replace(&mut told[number], digest) != digest && !pen.tell(change) {
                        return Ok(());
                    }
                }
                _ = retry.tick(), if !troubled.is_empty() => dirty.append(&mut troubled),
                () = api.service.until_stopping() => return Err(stopping()),
            }
            while let Some(Some(news)) = self.news.next().now_or_never() {
                sort(news, wishes, &mut dirty, pen);
            }
        }
    }
}

fn troubled(results: &[Found]) -> BTreeSet<usize> {
    results.iter().enumerate().filter(|(_, found)| found.problem.is_some()).map(|(number, _)| number).collect()
}

fn stopping() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "the peer stops").hint("connect again in a moment")
}

fn digest(found: &Found) -> blake3::Hash {
    blake3::hash(&serde_json::to_vec(found).unwrap_or_default())
}

fn sort(news: News, wishes: &Wishes, dirty: &mut BTreeSet<usize>, pen: &Pen) {
    match news {
        News::Dirty(number) => {
            dirty.insert(number);
        }
        News::Entry(number, entry) => {
            let wish = &wishes.all[number];
            pen.tell(Told::new("entry", &Entry { kind: wish.kind.name(), prefix: &wish.path, entry }));
        }
        News::Signal(number, signal) => {
            pen.tell(Told::new("signal", &Signal { prefix: &wishes.all[number].path, signal }));
        }
    }
}

/// Watches something that is no matter of voters.
fn watch(space: &Space, number: usize, wish: &Wish) -> Result<BoxStream<'static, News>, Problem> {
    let prefix = Prefix::parse(&wish.path).map_err(Problem::invalid)?;
    Ok(match wish.kind {
        Kind::Document => {
            let path = wish.path.clone();
            let changes = space.watch(&prefix).map_err(refused)?;
            let mine = move |change: SpaceChange| {
                let is_mine = !matches!(&change, SpaceChange::Document(change) if change.path.as_str() != path);
                std::future::ready(is_mine.then_some(News::Dirty(number)))
            };
            changes.filter_map(mine).boxed()
        }
        Kind::Documents => {
            let changes = space.watch(&prefix).map_err(refused)?;
            changes
                .map(move |change| match change {
                    SpaceChange::Document(change) => {
                        let kind = if change.deleted { "deleted" } else { "changed" };
                        News::Entry(
                            number,
                            json!({ "path": change.path.as_str(), "change": kind, "remote": change.remote }),
                        )
                    }
                    _ => News::Dirty(number),
                })
                .boxed()
        }
        Kind::Soft => {
            let soft = space.soft::<Json>(&prefix).map_err(refused)?;
            soft.watch().map(move |news| soft_news(number, news)).boxed()
        }
        _ => {
            let signals = space.signals::<Json>(&prefix).map_err(refused)?;
            signals
                .map(move |heard| {
                    let signal = json!({
                        "path": heard.path.as_str(), "sender": peer_text(&heard.sender.peer),
                        "device": heard.sender.device.to_string(), "mine": heard.mine, "seq": heard.seq,
                        "missed": heard.missed, "dropped": heard.dropped, "value": heard.value,
                    });
                    News::Signal(number, signal)
                })
                .boxed()
        }
    })
}

fn soft_news(number: usize, news: SoftNews<Json>) -> News {
    match news {
        SoftNews::Set { path, value, owner, mine, .. } => {
            let owner = peer_text(&owner.peer);
            let entry = json!({ "path": path.as_str(), "change": "set", "owner": owner, "mine": mine, "value": value });
            News::Entry(number, entry)
        }
        SoftNews::Gone { path, owner, expired, mine, .. } => {
            let change = if expired { "expired" } else { "deleted" };
            let owner = peer_text(&owner.peer);
            News::Entry(number, json!({ "path": path.as_str(), "change": change, "owner": owner, "mine": mine }))
        }
        _ => News::Dirty(number),
    }
}

fn refused(error: foreshore::peer::CommandError) -> Problem {
    crate::service::refused(error).into()
}

type Watches = BTreeMap<(String, Kind), Vec<usize>>;

/// Watches what voters decide, under one session after the other: one that is lost, or that no majority gives, is followed by the
/// next. What is watched is read again whenever that begins anew.
async fn follow_voters(api: &Api, space: &str, watches: &Watches, news: &mpsc::Sender<News>) {
    while !news.is_closed() {
        // What went wrong is told by who reads.
        let _ = follow_session(api, space, watches, news).await;
        tokio::time::sleep(RETRY).await;
    }
}

async fn follow_session(api: &Api, space: &str, watches: &Watches, news: &mpsc::Sender<News>) -> Result<(), Failure> {
    let gone = |_| Failure::new(Code::Interrupted, "nobody listens");
    let session = api.service.own_session(space, None).await?;
    let mut events = session.events();
    for (path, kind) in watches.keys() {
        let watch = match kind {
            Kind::Leader => Watch::Leader,
            Kind::Queue => Watch::Queue,
            _ => Watch::Persistent,
        };
        session.watch(watch, path).await.map_err(crate::service::refused)?;
    }
    for number in watches.values().flatten() {
        news.send(News::Dirty(*number)).await.map_err(gone)?;
    }
    loop {
        let event = tokio::select! {
            event = events.next() => match event {
                Some(event) => event,
                None => return Ok(()),
            },
            () = session.over() => return Ok(()),
        };
        let concerned = watches.iter().filter(|((path, kind), _)| {
            event.kind == EventKind::Resync
                || (*path == event.path
                    && match kind {
                        Kind::Leader => event.kind == EventKind::Leader,
                        Kind::Queue => event.kind == EventKind::Ready,
                        Kind::Children => event.kind != EventKind::Changed,
                        _ => event.kind != EventKind::Leader && event.kind != EventKind::Ready,
                    })
        });
        for number in concerned.flat_map(|(_, numbers)| numbers) {
            news.send(News::Dirty(*number)).await.map_err(gone)?;
        }
    }
}
