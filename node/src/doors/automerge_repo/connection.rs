//! A client's connection: what it says, what happens meanwhile, and what it is told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use foreshore::document::Chunk;
use foreshore::document::chunk::ChunkLimits;
use foreshore::engine::{MAX_ADMITTED, MAX_ADMITTED_BYTES};
use foreshore::id::{ChangeHash, Path};
use foreshore::peer::{CommandError, Space};
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use super::exchange::{Answer, Exchange};
use super::hub::{Mark, News};
use super::message::{Ephemeral, Said, Say, VERSION};
use super::shelf::{Book, Page};
use super::sync::SyncMessage;
use super::{Inner, MAX_OPEN};
use crate::http::api::Pass;

/// How long a client may take to say who it is.
const JOIN_TIME: Duration = Duration::from_secs(10);

/// How long a message may take to be taken by a client.
const STALL: Duration = Duration::from_secs(30);

/// Between two pings, as automerge-repo's own server has it; a client that answers none of two is gone.
const PING: Duration = Duration::from_secs(5);

/// Bytes of changes of one client and document that wait for what they stand on. Over it they are forgotten, and asked for
/// again.
const MAX_WAITING_BYTES: usize = 4 << 20;

/// How long a client that asks for a document waits for somebody else to bring it, before it is told that nobody has it: who
/// made it may be sending it right now.
const GRACE: Duration = Duration::from_millis(500);

/// Ephemeral messages a second, and at once, that are taken of one client; what is above that is dropped.
const EPHEMERAL_RATE: f64 = 100.0;
const EPHEMERAL_BURST: f64 = 400.0;

/// Most storages of which one client hears.
const MAX_STORAGES: usize = 256;

/// What is said to who sends text.
const NO_TEXT: &str = "messages are CBOR in binary frames";

/// Why a connection ends.
#[derive(Debug)]
enum End {
    /// The client is gone, or says nonsense.
    Gone,
    /// It is told why.
    Told(String),
}

impl From<CommandError> for End {
    fn from(error: CommandError) -> Self {
        End::Told(error.to_string())
    }
}

/// A document that the client has open.
struct Open {
    book: Arc<Book>,
    exchange: Exchange,
    /// Changes that came before what they stand on.
    waiting: BTreeMap<ChangeHash, Chunk>,
    waiting_bytes: usize,
    /// It was told that the document is deleted.
    told_deleted: bool,
    /// It has asked for what nobody has brought so far, and waits to be answered.
    asked: bool,
}

struct Connection<'a> {
    inner: &'a Inner,
    space: &'a Space,
    pass: Pass,
    socket: WebSocket,
    /// Its number here: what it says does not come back to it.
    number: u64,
    client: String,
    storage: Option<String>,
    open: BTreeMap<String, Open>,
    storages: BTreeSet<String>,
    /// How many ephemeral messages it may send, and when that was counted.
    allowance: (f64, Instant),
    /// Documents that were asked for, and until when somebody may bring them.
    asked: VecDeque<(Instant, String)>,
}

/// Serves a client until it goes, lies, or the door closes.
pub(super) async fn serve(
    inner: &Inner,
    space: &Space,
    pass: Pass,
    socket: WebSocket,
    mut stopped: watch::Receiver<bool>,
) {
    let mut news = inner.hub.news();
    let number = inner.hub.number();
    let mut connection = Connection {
        inner,
        space,
        pass,
        socket,
        number,
        client: String::new(),
        storage: None,
        open: BTreeMap::new(),
        storages: BTreeSet::new(),
        allowance: (EPHEMERAL_BURST, Instant::now()),
        asked: VecDeque::new(),
    };
    let served = tokio::select! {
        end = connection.run(&mut news) => end,
        _ = stopped.wait_for(|stopped| *stopped) => Err(End::Gone),
    };
    if let Err(End::Told(message)) = served {
        tracing::debug!(client = %connection.client, %message, "automerge-repo: a client is told to go");
        let bytes = Say::Error { message: &message }.encode(&inner.me, &connection.client);
        let _ = connection.send(bytes).await;
    }
    let close = Message::Close(Some(CloseFrame { code: 1000, reason: "".into() }));
    let _ = tokio::time::timeout(STALL, connection.socket.send(close)).await;
}

impl Connection<'_> {
    async fn run(&mut self, news: &mut broadcast::Receiver<News>) -> Result<(), End> {
        tokio::time::timeout(JOIN_TIME, self.join()).await.map_err(|_| End::Gone)??;
        let mut pings = tokio::time::interval(PING);
        let mut unanswered = 0;
        loop {
            tokio::select! {
                frame = self.socket.recv() => match frame {
                    Some(Ok(Message::Binary(bytes))) => self.hear(&bytes).await?,
                    Some(Ok(Message::Pong(_))) => unanswered = 0,
                    Some(Ok(Message::Ping(_))) => {}
                    Some(Ok(Message::Text(_))) => {
                        return Err(End::Told(NO_TEXT.into()));
                    }
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(()),
                },
                told = news.recv() => self.notice(told).await?,
                () = due(self.asked.front()) => self.give_up().await?,
                _ = pings.tick() => {
                    if unanswered > 2 {
                        return Err(End::Gone);
                    }
                    unanswered += 1;
                    self.inner.recheck(&self.pass).map_err(End::Told)?;
                    self.send_frame(Message::Ping(Vec::new().into())).await?;
                }
            }
        }
    }

    async fn join(&mut self) -> Result<(), End> {
        let bytes = loop {
            match self.socket.recv().await {
                Some(Ok(Message::Binary(bytes))) => break bytes,
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Text(_))) => return Err(End::Told(NO_TEXT.into())),
                _ => return Err(End::Gone),
            }
        };
        match Said::decode(&bytes) {
            Ok(Said::Join { sender, storage, versions }) => {
                if !versions.iter().any(|version| version == VERSION) {
                    let spoken = versions.join(", ");
                    return Err(End::Told(format!("this door speaks version {VERSION}, the client {spoken:?}")));
                }
                (self.client, self.storage) = (sender, storage);
                self.say(&Say::Peer { storage: &self.inner.storage }).await
            }
            Ok(_) => Err(End::Told("a client's first message is `join`".into())),
            Err(error) => Err(End::Told(error.to_string())),
        }
    }

    async fn hear(&mut self, bytes: &[u8]) -> Result<(), End> {
        match Said::decode(bytes).map_err(|error| End::Told(error.to_string()))? {
            Said::Join { .. } => Err(End::Told("this client has joined already".into())),
            Said::Leave => Err(End::Gone),
            Said::Sync { document, data, request } => self.hear_sync(document, &data, request).await,
            Said::Ephemeral(said) => {
                self.hear_ephemeral(said).await;
                Ok(())
            }
            Said::Subscribe { add, remove } => self.subscribe(add, &remove).await,
            // It has nothing of a document: it will hear of it when there is something.
            Said::Unavailable { .. } | Said::Other => Ok(()),
        }
    }

    /// A document that the client may see, open from here on.
    fn open(&mut self, document: &str) -> Option<&mut Open> {
        if !self.open.contains_key(document) {
            let path = self.inner.path_of(document)?;
            if self.open.len() >= MAX_OPEN || !self.pass.may_read(path.as_str()) {
                return None;
            }
            let open = Open {
                book: self.inner.shelf.open(path),
                exchange: Exchange::default(),
                waiting: BTreeMap::new(),
                waiting_bytes: 0,
                told_deleted: false,
                asked: false,
            };
            self.open.insert(document.to_owned(), open);
        }
        self.open.get_mut(document)
    }

    async fn hear_sync(&mut self, document: String, data: &[u8], request: bool) -> Result<(), End> {
        let message = SyncMessage::decode(data).map_err(|error| End::Told(error.to_string()))?;
        let (space, writes) = (self.space, self.pass.clone());
        let Some(open) = self.open(&document) else {
            return self.say(&Say::Unavailable { document: &document }).await;
        };
        let book = open.book.clone();
        let mut page = book.page.lock().await;
        page.refresh(space, &book.path).await?;
        let before = page.graph.heads();
        if !page.deleted && !message.changes.is_empty() && writes.may_write(book.path.as_str()) {
            open.admit(space, &mut page, &message.changes).await?;
        }
        if page.deleted {
            open.told_deleted = true;
            drop(page);
            return self.say(&Say::Unavailable { document: &document }).await;
        }
        open.exchange.receive(&page.graph, &before, message);
        if request && page.graph.is_empty() {
            if !std::mem::replace(&mut open.asked, true) {
                self.asked.push_back((Instant::now() + GRACE, document));
            }
            return Ok(());
        }
        let theirs = open.exchange.their_heads().map(<[ChangeHash]>::to_vec).unwrap_or_default();
        let known = theirs.iter().all(|head| page.graph.has(head));
        let answer = open.answer(space, &page).await?;
        drop(page);
        if let Some(bytes) = answer {
            self.say(&Say::Sync { document: &document, data: &bytes }).await?;
        }
        if let Some(storage) = self.storage.clone().filter(|_| known && !theirs.is_empty()) {
            self.inner.hub.mark(document, storage, theirs);
        }
        Ok(())
    }

    /// Says of the document that was asked for longest ago that nobody has it, if that is so.
    async fn give_up(&mut self) -> Result<(), End> {
        let Some((_, document)) = self.asked.pop_front() else { return Ok(()) };
        let Some(open) = self.open.get_mut(&document) else { return Ok(()) };
        open.asked = false;
        let book = open.book.clone();
        if !book.page.lock().await.graph.is_empty() {
            return Ok(());
        }
        self.say(&Say::Unavailable { document: &document }).await
    }

    async fn hear_ephemeral(&mut self, said: Ephemeral) {
        let (left, counted) = self.allowance;
        let now = Instant::now();
        let left = (left + now.duration_since(counted).as_secs_f64() * EPHEMERAL_RATE).min(EPHEMERAL_BURST);
        self.allowance = (left, now);
        if left < 1.0 {
            return;
        }
        self.allowance.0 -= 1.0;
        let may = self.inner.path_of(&said.document).filter(|path| self.pass.may_write(path.as_str()));
        if let Some(path) = may {
            self.inner.hub.pass_on(self.space, &path, said, Some(self.number)).await;
        }
    }

    async fn subscribe(&mut self, add: Vec<String>, remove: &[String]) -> Result<(), End> {
        remove.iter().for_each(|storage| _ = self.storages.remove(storage));
        for storage in add {
            if self.storages.len() < MAX_STORAGES && self.storages.insert(storage.clone()) {
                for mark in self.inner.hub.marks(&storage) {
                    self.tell_mark(&mark).await?;
                }
            }
        }
        Ok(())
    }

    async fn notice(&mut self, told: Result<News, broadcast::error::RecvError>) -> Result<(), End> {
        match told {
            Ok(News::Changed(path)) => {
                // A document's path ends with its id.
                self.renew(path.as_str().rsplit('/').next().unwrap_or_default()).await
            }
            Ok(News::Ephemeral { said, from }) => {
                if from == Some(self.number) || said.sender == self.client || !self.open.contains_key(&said.document) {
                    return Ok(());
                }
                self.say(&Say::Ephemeral(&said)).await
            }
            Ok(News::Marked(mark)) => self.tell_mark(&mark).await,
            Ok(News::Missed) | Err(broadcast::error::RecvError::Lagged(_)) => {
                let all: Vec<String> = self.open.keys().cloned().collect();
                for document in all {
                    self.renew(&document).await?;
                }
                Ok(())
            }
            Err(broadcast::error::RecvError::Closed) => Err(End::Gone),
        }
    }

    /// Tells of what a document has that the client lacks.
    async fn renew(&mut self, document: &str) -> Result<(), End> {
        let space = self.space;
        let Some(open) = self.open.get_mut(document) else { return Ok(()) };
        let book = open.book.clone();
        let mut page = book.page.lock().await;
        page.refresh(space, &book.path).await?;
        if page.deleted {
            let told = std::mem::replace(&mut open.told_deleted, true);
            drop(page);
            return if told { Ok(()) } else { self.say(&Say::Unavailable { document }).await };
        }
        open.told_deleted = false;
        if page.graph.is_empty() {
            return Ok(());
        }
        let heads = page.graph.heads();
        let answer = open.answer(space, &page).await?;
        drop(page);
        if let Some(bytes) = answer {
            self.say(&Say::Sync { document, data: &bytes }).await?;
        }
        let own = self.inner.storage.clone();
        if self.storages.contains(&own) {
            let mark = Mark { document: document.to_owned(), storage: own, heads, timestamp: super::hub::now_millis() };
            self.tell_mark(&Arc::new(mark)).await?;
        }
        Ok(())
    }

    async fn tell_mark(&mut self, mark: &Arc<Mark>) -> Result<(), End> {
        let own = self.storage.as_ref() == Some(&mark.storage);
        if own || !self.storages.contains(&mark.storage) || !self.open.contains_key(&mark.document) {
            return Ok(());
        }
        let Mark { document, storage, heads, timestamp } = &**mark;
        self.say(&Say::HeadsChanged { document, storage, heads, timestamp: *timestamp }).await
    }

    async fn say(&mut self, what: &Say<'_>) -> Result<(), End> {
        let bytes = what.encode(&self.inner.me, &self.client);
        self.send(bytes).await
    }

    async fn send(&mut self, bytes: Vec<u8>) -> Result<(), End> {
        self.send_frame(Message::Binary(bytes.into())).await
    }

    async fn send_frame(&mut self, frame: Message) -> Result<(), End> {
        let sent = tokio::time::timeout(STALL, self.socket.send(frame)).await;
        if matches!(sent, Ok(Ok(()))) { Ok(()) } else { Err(End::Gone) }
    }
}

impl Open {
    /// Lets in what came, and what waited for it.
    async fn admit(&mut self, space: &Space, page: &mut Page, pieces: &[Vec<u8>]) -> Result<(), End> {
        let limits = ChunkLimits::default();
        let mut fresh = std::mem::take(&mut self.waiting);
        for bytes in pieces.iter().flat_map(|piece| chunks_in(piece)) {
            match Chunk::parse(bytes.to_vec(), &limits) {
                Ok(chunk) if !page.graph.has(&chunk.hash()) => _ = fresh.insert(chunk.hash(), chunk),
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, path = %self.book.path, "automerge-repo: no change"),
            }
        }
        let mut ordered: Vec<&Chunk> = fresh.values().collect();
        ordered.sort_by_key(|chunk| (chunk.start_op(), chunk.max_op(), chunk.seq(), chunk.hash()));
        for part in parts(&ordered) {
            match space.admit(self.book.path.clone(), 0, part).await {
                Ok(_) => {}
                Err(CommandError::Deleted(_)) => break,
                Err(error @ (CommandError::Denied { .. } | CommandError::Revoked { .. })) => {
                    tracing::warn!(%error, "automerge-repo: this peer may not let in what its clients write");
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        page.refresh(space, &self.book.path).await?;
        fresh.retain(|hash, chunk| !page.graph.has(hash) && chunk.deps().iter().any(|dep| !page.graph.has(dep)));
        self.waiting_bytes = fresh.values().map(|chunk| chunk.bytes().len()).sum();
        if self.waiting_bytes <= MAX_WAITING_BYTES {
            self.waiting = fresh;
        }
        Ok(())
    }

    /// The bytes of the message that is due, if one is.
    async fn answer(&mut self, space: &Space, page: &Page) -> Result<Option<Vec<u8>>, End> {
        let waiting = self.waiting.iter().map(|(hash, chunk)| (*hash, chunk.deps().to_vec())).collect();
        let Some(Answer { mut message, changes }) = self.exchange.answer(&page.graph, &waiting) else {
            return Ok(None);
        };
        message.changes = page.bytes(space, &self.book.path, &changes).await?;
        Ok(Some(message.encode()))
    }
}

/// Resolves when what was asked for longest ago has been waited for.
async fn due(asked: Option<&(Instant, String)>) {
    match asked {
        Some((at, _)) => tokio::time::sleep_until(*at).await,
        None => std::future::pending().await,
    }
}

/// In parts that one command takes.
fn parts(chunks: &[&Chunk]) -> Vec<Vec<Vec<u8>>> {
    let (mut parts, mut bytes) = (Vec::new(), 0);
    for chunk in chunks {
        let length = chunk.bytes().len();
        let full = parts.last().is_none_or(|part: &Vec<Vec<u8>>| part.len() >= MAX_ADMITTED);
        if full || bytes + length > MAX_ADMITTED_BYTES {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += length;
        if let Some(part) = parts.last_mut() {
            part.push(chunk.bytes().to_vec());
        }
    }
    parts
}

/// The chunks of a piece, which is one in messages of type 0x42. What does not look like one is handed out as it is, for the
/// parser to say so.
fn chunks_in(mut piece: &[u8]) -> Vec<&[u8]> {
    const HEAD: usize = 9;
    let mut chunks = Vec::new();
    while !piece.is_empty() {
        let (mut length, mut shift, mut at) = (0usize, 0, HEAD);
        while let Some(byte) = piece.get(at).filter(|_| shift < 35) {
            length |= usize::from(byte & 0x7f) << shift;
            (shift, at) = (shift + 7, at + 1);
            if byte & 0x80 == 0 {
                break;
            }
        }
        let (chunk, rest) = piece.split_at(at.saturating_add(length).min(piece.len()));
        chunks.push(chunk);
        piece = rest;
    }
    chunks
}

/// Where a document is.
pub(super) fn path_of(prefix: &str, document: &str) -> Option<Path> {
    let id = bs58::decode(document).with_check(None).into_vec().ok()?;
    // The id's one spelling: other ones would be other documents.
    let canonical = id.len() == 16 && bs58::encode(&id).with_check().into_string() == document;
    let separator = if prefix.ends_with('/') { "" } else { "/" };
    canonical.then(|| Path::parse(&format!("{prefix}{separator}{document}")).ok()).flatten()
}
