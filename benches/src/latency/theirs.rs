//! samod's side: a repo with its own file storage, as it is or with each file synced to disk.
#![allow(clippy::disallowed_types, reason = "the trait of samod's storage speaks of HashMap")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use futures::StreamExt;
use samod::storage::{Storage, StorageKey, TokioFilesystemStorage};
use samod::tokio_io::TcpDialer;
use samod::{BackoffConfig, ConcurrencyConfig, DocHandle, DocumentId, Repo, Transport};
use samod_automerge::transaction::Transactable;
use samod_automerge::{Automerge, AutomergeError, ROOT, ReadDoc, ScalarValue, Value};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::{KEY, documents_and_rest, nanos, say};

/// Documents made, or asked for, at once.
const AT_ONCE: usize = 500;

/// What happens to files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Files {
    /// Written, as samod does it.
    AsTheyAre,
    /// Written and synced to disk, with their directory.
    Synced,
}

/// samod's storage, whose writes may be synced.
#[derive(Clone)]
struct Store {
    inner: TokioFilesystemStorage,
    directory: PathBuf,
    files: Files,
}

impl Store {
    fn new(directory: &Path, files: Files) -> Self {
        Self { inner: TokioFilesystemStorage::new(directory), directory: directory.into(), files }
    }

    /// Where the inner storage keeps a key: its first part in two levels, the others one each.
    fn path(&self, key: &StorageKey) -> PathBuf {
        let mut parts = key.clone().into_iter();
        let first = parts.next().unwrap_or_default();
        let (head, tail) = first.split_at(first.len().min(2));
        parts.fold(self.directory.join(head).join(tail), |path, part| path.join(part))
    }
}

fn sync_file(path: &Path) -> std::io::Result<()> {
    std::fs::File::open(path)?.sync_all()?;
    path.parent().map_or(Ok(()), |parent| std::fs::File::open(parent)?.sync_all())
}

impl Storage for Store {
    async fn load(&self, key: StorageKey) -> Option<Vec<u8>> {
        Storage::load(&self.inner, key).await
    }

    async fn load_range(&self, prefix: StorageKey) -> HashMap<StorageKey, Vec<u8>> {
        Storage::load_range(&self.inner, prefix).await
    }

    async fn put(&self, key: StorageKey, data: Vec<u8>) {
        let path = self.path(&key);
        Storage::put(&self.inner, key, data).await;
        if self.files == Files::Synced {
            let synced = tokio::task::spawn_blocking(move || sync_file(&path)).await;
            synced.expect("it does not panic").expect("a file that was written can be synced");
        }
    }

    async fn delete(&self, key: StorageKey) {
        Storage::delete(&self.inner, key).await;
    }
}

async fn repo(directory: &Path, files: Files) -> Repo {
    let repo = Repo::build_tokio().with_storage(Store::new(directory, files));
    repo.with_concurrency(ConcurrencyConfig::AsyncRuntime).load().await
}

/// A repo with documents that listens.
pub(super) struct Source {
    repo: Repo,
    port: u16,
    documents: Vec<DocHandle>,
    list: PathBuf,
}

impl Source {
    pub(super) async fn start(directory: &Path, files: Files, documents: usize) -> anyhow::Result<Self> {
        let repo = repo(directory, files).await;
        let mut made = Vec::new();
        for begin in (0..documents).step_by(AT_ONCE) {
            let mut making = JoinSet::new();
            for index in begin..documents.min(begin + AT_ONCE) {
                let (repo, document) = (repo.clone(), document(index)?);
                making.spawn(async move { repo.create(document).await });
            }
            while let Some(document) = making.join_next().await {
                made.push(document?.map_err(|_| anyhow::anyhow!("the repo has stopped"))?);
            }
        }
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let acceptor = repo.make_acceptor(format!("tcp://127.0.0.1:{port}").parse()?)?;
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let _ = acceptor.accept(Transport::from_tokio_io(stream));
            }
        });
        let list = directory.with_extension("list");
        let ids: Vec<String> = made.iter().map(|document| document.document_id().to_string()).collect();
        std::fs::write(&list, ids.join("\n"))?;
        Ok(Self { repo, port, documents: made, list })
    }

    /// The port, and a file with the documents' ids.
    pub(super) fn invitation(&self) -> String {
        format!("{} {}", self.port, self.list.display())
    }

    pub(super) fn edit(&self, n: i64) -> anyhow::Result<()> {
        let document = self.documents.first().context("there is a document")?;
        document.with_document(|document| put(document, n))
    }
}

impl Source {
    pub(super) async fn stop(self) {
        self.repo.stop().await;
    }
}

fn document(index: usize) -> anyhow::Result<Automerge> {
    let mut document = Automerge::new();
    let made = document.transact::<_, _, AutomergeError>(|d| {
        d.put(ROOT, KEY, 0_i64)?;
        d.put(ROOT, "title", format!("document {index}"))?;
        d.put(ROOT, "done", false)
    });
    made.map_err(|failure| failure.error)?;
    Ok(document)
}

fn put(document: &mut Automerge, n: i64) -> anyhow::Result<()> {
    let put = document.transact::<_, _, AutomergeError>(|d| d.put(ROOT, KEY, n));
    put.map_err(|failure| failure.error)?;
    Ok(())
}

fn number(document: &DocHandle) -> Option<i64> {
    document.with_document(|document| match document.get(ROOT, KEY) {
        Ok(Some((Value::Scalar(value), _))) => match value.as_ref() {
            ScalarValue::Int(n) => Some(*n),
            _ => None,
        },
        _ => None,
    })
}

/// Dials with Nagle's algorithm off, as the other side has it; samod's own dialler leaves it on.
struct Dialer {
    inner: TcpDialer,
    port: u16,
}

type Connecting = std::pin::Pin<
    Box<dyn Future<Output = Result<Transport, Box<dyn std::error::Error + Send + Sync + 'static>>> + Send>,
>;

impl samod::Dialer for Dialer {
    fn url(&self) -> samod::Url {
        samod::Dialer::url(&self.inner)
    }

    fn connect(&self) -> Connecting {
        let port = self.port;
        Box::pin(async move {
            let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
            stream.set_nodelay(true)?;
            Ok(Transport::from_tokio_io(stream))
        })
    }
}

/// Reads an invitation and dials.
async fn dial(repo: &Repo, invitation: &str) -> anyhow::Result<Vec<DocumentId>> {
    let (port, list) = invitation.split_once(' ').context("a port and a file")?;
    let url = format!("tcp://127.0.0.1:{port}").parse()?;
    let inner = TcpDialer::new(url).map_err(|error| anyhow::anyhow!("{error}"))?;
    let dialer = Dialer { inner, port: port.parse()? };
    let handle = repo.dial(BackoffConfig::default(), Arc::new(dialer))?;
    handle.established().await.map_err(|error| anyhow::anyhow!("{error:?}"))?;
    let ids = std::fs::read_to_string(list)?;
    ids.lines().map(|id| id.parse().map_err(|error| anyhow::anyhow!("{error:?}"))).collect()
}

/// Dials, and says when which number was seen.
pub(super) async fn watch(directory: &Path, files: Files, invitation: &str) -> anyhow::Result<()> {
    let repo = repo(directory, files).await;
    let ids = dial(&repo, invitation).await?;
    let document = repo.find(ids[0].clone()).await?.context("the document is found")?;
    let mut changes = Box::pin(document.changes());
    say("ready");
    while changes.next().await.is_some() {
        if let Some(number) = number(&document) {
            let at = nanos();
            say(format_args!("{number} {at}"));
        }
    }
    Ok(())
}

/// Dials, and says how long it took until every document was here.
pub(super) async fn sync(directory: &Path, files: Files, invitation: &str) -> anyhow::Result<()> {
    let (documents, invitation) = documents_and_rest(invitation)?;
    let repo = repo(directory, files).await;
    say("ready");
    let began = nanos();
    let ids = dial(&repo, invitation).await?;
    anyhow::ensure!(ids.len() == documents, "{} ids of {documents} documents", ids.len());
    // Asked for all at once: a repo does not ask for what it does not know of.
    let mut asking = JoinSet::new();
    for id in ids {
        let asked = repo.find(id);
        asking.spawn(async move { anyhow::Ok(number(&asked.await?.context("the document is found")?)) });
    }
    while let Some(found) = asking.join_next().await {
        found??.context("the document has its number")?;
    }
    say(format_args!("{}", (nanos() - began) as f64 / 1e9));
    std::future::pending().await
}
