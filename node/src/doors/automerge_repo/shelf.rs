//! The documents that clients have open: what is known of each without its content, shared by all who have it open.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use foreshore::document::Chunk;
use foreshore::id::{ChangeHash, Path};
use foreshore::peer::{CommandError, Space};
use tokio::sync::Mutex as AsyncMutex;

use super::graph::Graph;

/// Bytes of newest changes that are kept of each open document: what goes out most often is what has just come in.
const MAX_RECENT_BYTES: usize = 256 << 10;

/// An open document.
#[derive(Debug)]
pub struct Book {
    /// Where it is.
    pub path: Path,
    /// What is known of it.
    pub page: AsyncMutex<Page>,
}

/// What is known of a document.
#[derive(Debug, Default)]
pub struct Page {
    /// Its changes.
    pub graph: Graph,
    /// Whether it exists, as far as the store knows.
    pub exists: bool,
    /// Whether it was deleted. What has an id of its own does not come back under it.
    pub deleted: bool,
    last: u64,
    evicted: u32,
    recent: BTreeMap<ChangeHash, Vec<u8>>,
    ages: VecDeque<ChangeHash>,
    recent_bytes: usize,
}

/// All open documents. Those that nobody has open any more are forgotten.
#[derive(Debug, Default)]
pub struct Shelf(Mutex<BTreeMap<Path, Weak<Book>>>);

impl Shelf {
    /// A document, open from here on for as long as it is held.
    pub fn open(&self, path: Path) -> Arc<Book> {
        let mut books = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(book) = books.get(&path).and_then(Weak::upgrade) {
            return book;
        }
        // What is left of closed ones costs little, and going through them is paid for by opening as many.
        if books.len().is_power_of_two() {
            books.retain(|_, book| book.strong_count() > 0);
        }
        let book = Arc::new(Book { path: path.clone(), page: AsyncMutex::default() });
        books.insert(path, Arc::downgrade(&book));
        book
    }
}

impl Page {
    /// Reads what has come since the last time.
    pub async fn refresh(&mut self, space: &Space, path: &Path) -> Result<(), CommandError> {
        let mut changes = space.changes(path, self.last).await?;
        if changes.evicted != self.evicted {
            // What a revocation took out is in the graph: it is made anew.
            *self = Self { evicted: changes.evicted, ..Self::default() };
            changes = space.changes(path, 0).await?;
        }
        self.exists = changes.exists;
        self.deleted = changes.generation > 0;
        if self.deleted {
            return Ok(());
        }
        self.last = changes.last;
        // In the order of arrival, in which each comes after what it stands on; a snapshot's are in an order of their own.
        let mut left: Vec<Chunk> =
            changes.chunks.into_iter().filter_map(|bytes| Chunk::parse_stored(bytes).ok()).collect();
        loop {
            let offered = left.len();
            left = left.into_iter().filter_map(|chunk| self.take(chunk)).collect();
            if left.is_empty() || left.len() == offered {
                return Ok(());
            }
        }
    }

    /// Gives back what cannot be taken yet.
    fn take(&mut self, chunk: Chunk) -> Option<Chunk> {
        let hash = chunk.hash();
        if !self.graph.insert(hash, chunk.deps()) {
            return Some(chunk);
        }
        if !self.recent.contains_key(&hash) {
            let bytes = chunk.into_bytes();
            self.recent_bytes += bytes.len();
            self.recent.insert(hash, bytes);
            self.ages.push_back(hash);
            while self.recent_bytes > MAX_RECENT_BYTES {
                let Some(oldest) = self.ages.pop_front() else { break };
                self.recent_bytes -= self.recent.remove(&oldest).map_or(0, |bytes| bytes.len());
            }
        }
        None
    }

    /// The bytes of some changes, in the same order: from memory, or all of the document read once.
    pub async fn bytes(&self, space: &Space, path: &Path, wanted: &[ChangeHash]) -> Result<Vec<Vec<u8>>, CommandError> {
        let recent: Vec<Vec<u8>> = wanted.iter().filter_map(|hash| self.recent.get(hash).cloned()).collect();
        if recent.len() == wanted.len() {
            return Ok(recent);
        }
        let places: BTreeMap<ChangeHash, usize> = wanted.iter().enumerate().map(|(at, hash)| (*hash, at)).collect();
        let mut found = vec![Vec::new(); wanted.len()];
        for bytes in space.changes(path, 0).await?.chunks {
            let Ok(chunk) = Chunk::parse_stored(bytes) else { continue };
            if let Some(at) = places.get(&chunk.hash()) {
                found[*at] = chunk.into_bytes();
            }
        }
        // One that a revocation has taken meanwhile is left out.
        found.retain(|bytes| !bytes.is_empty());
        Ok(found)
    }
}
