//! `kill -9` at any instant: the store opens, and what was said to be durable is there.
//!
//! Each test starts a victim process over and over, kills it when it has said a drawn number of things and a drawn moment
//! more has passed, and looks at what it leaves: every other time by opening the store here, otherwise by the victim's own
//! next start. 20 kills a test, 200 in long runs.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use foreshore::document::Value;
use foreshore::peer::{Peer, Space};
use foreshore::store::Redb;
use foreshore::trust::Role;
use foreshore_tests::crash::{DOCUMENTS, KEY, SPACE, path};
use foreshore_tests::is_long;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A victim that says nothing for this long hangs.
const PATIENCE: Duration = Duration::from_secs(60);

fn kills() -> u64 {
    if is_long() { 200 } else { 20 }
}

/// A process that is killed when this is dropped.
struct Victim {
    process: Child,
    lines: mpsc::Receiver<String>,
}

impl Victim {
    fn start(work: &str, store: &Path, pages: Option<&Path>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_crash"));
        command.arg(work).arg(store).args(pages).stdout(Stdio::piped());
        let mut process = command.spawn().expect("the victim's program was built with the test");
        let out = BufReader::new(process.stdout.take().expect("piped"));
        let (said, lines) = mpsc::channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| said.send(line)));
        Self { process, lines }
    }

    /// Lets it say `count` lines and live a moment longer, then kills it. Everything that it said is returned, and
    /// whether it was still alive.
    fn kill_after(mut self, count: usize, moment: Duration) -> (Vec<String>, bool) {
        let mut said = Vec::new();
        let mut alive = true;
        while alive && said.len() < count {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => said.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => alive = false,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("the victim hangs after {said:?}"),
            }
        }
        // When a kill strikes is the input of these tests, not something that they wait for.
        std::thread::park_timeout(moment);
        // Its output is closed by its end: that is near, if not quite there.
        let ended = if alive { self.process.try_wait() } else { self.process.wait().map(Some) };
        let ended = ended.expect("the victim is ours");
        if let Some(status) = ended {
            assert!(status.success(), "the victim ended by itself with {status} after {said:?}");
        }
        self.process.kill().expect("the victim is ours");
        self.process.wait().expect("the victim is ours");
        said.extend(self.lines.iter());
        (said, ended.is_none())
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Opens the store, looks, and closes it cleanly.
fn look<R>(store: &Path, look: impl AsyncFnOnce(&Peer) -> R) -> R {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Redb::open(store).expect("the store opens after a kill");
        let peer = Peer::builder().store(store).spawn().await.expect("the peer starts after a kill");
        let seen = look(&peer).await;
        peer.shutdown().await.expect("the peer closes");
        seen
    })
}

async fn the_space(peer: &Peer) -> Space {
    peer.space(SPACE).await.unwrap().expect("an acknowledged space is there")
}

/// The number at every path.
async fn counts(space: &Space) -> BTreeMap<String, i64> {
    let mut counts = BTreeMap::new();
    for document in 0..DOCUMENTS {
        if let Some(found) = space.read::<Value>(&path(document)).await.unwrap().value {
            counts.insert(path(document), found.get(KEY).and_then(Value::as_i64).unwrap_or(0));
        }
    }
    counts
}

/// `kill -9` in a loop while the victim counts.
fn counting_survives(work: &str) {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    let mut rng = ChaCha12Rng::seed_from_u64(9);
    let mut promised: BTreeMap<String, i64> = BTreeMap::new();
    Victim::start("start", &store, None).kill_after(1, Duration::ZERO);
    for kill in 0..kills() {
        let (lines, micros) = (rng.next_u64() % 300, rng.next_u64() % 3_000);
        let victim = Victim::start(work, &store, None);
        let (said, alive) = victim.kill_after(1 + lines as usize, Duration::from_micros(micros));
        assert!(alive, "kill {kill}: the victim ended by itself");
        for line in &said {
            let (path, number) = line.split_once(' ').expect("a path and a number");
            promised.insert(path.to_owned(), number.parse().unwrap());
        }
        if kill % 2 == 0 || kill + 1 == kills() {
            let there = look(&store, async |peer| counts(&the_space(peer).await).await);
            for (path, number) in &promised {
                let found = there.get(path);
                assert!(found >= Some(number), "kill {kill}: {path} was durable at {number} and is at {found:?}");
            }
        }
    }
    assert!(promised.len() == DOCUMENTS, "the victim got nowhere: {promised:?}");
}

#[test]
fn nothing_durable_is_lost_when_killed_while_writing() {
    counting_survives("write");
}

#[test]
fn nothing_durable_is_lost_when_killed_while_compacting() {
    counting_survives("compact");
}

#[test]
fn a_store_opens_when_killed_during_its_first_start() {
    let mut rng = ChaCha12Rng::seed_from_u64(10);
    for kill in 0..kills() {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("store");
        // A start takes some tens of milliseconds; some kills come before the directory exists, some after the space.
        let moment = Duration::from_micros(rng.next_u64() % 120_000);
        let (said, _) = Victim::start("start", &store, None).kill_after(0, moment);
        let (space, there) = look(&store, async |peer| match peer.space(SPACE).await.unwrap() {
            Some(space) => (true, counts(&space).await),
            None => (false, BTreeMap::new()),
        });
        assert!(space || said.is_empty(), "kill {kill}: the space was durable and is gone");
        for line in said.iter().filter(|line| *line != "space") {
            let (path, number) = line.split_once(' ').expect("a path and a number");
            let found = there.get(path);
            assert!(found >= Some(&number.parse().unwrap()), "kill {kill}: {line} was durable, {found:?} is there");
        }
    }
}

#[test]
fn nothing_durable_is_lost_when_killed_during_an_import() {
    let directory = tempfile::tempdir().unwrap();
    let pages = directory.path().join("pages");
    let (source, template) = (directory.path().join("source"), directory.path().join("template"));
    let documents = if is_long() { 4_000 } else { 400 };
    let expected = export_many(&source, &template, &pages, documents);
    let mut rng = ChaCha12Rng::seed_from_u64(11);
    for kill in 0..kills() {
        let store = directory.path().join(format!("store-{kill}"));
        copy(&template, &store);
        let lines = rng.next_u64() % (expected.len() as u64 + 1);
        let moment = Duration::from_micros(rng.next_u64() % 20_000);
        let (said, _) = Victim::start("import", &store, Some(&pages)).kill_after(lines as usize, moment);
        let there = look(&store, async |peer| listed(&the_space(peer).await).await);
        for (page, last) in expected.iter().take(said.len()).enumerate() {
            assert!(there.contains(last), "kill {kill}: page {} was durable and {last} is gone", page + 1);
        }
        // The same file once more: what is there is known, the rest comes.
        let (said, alive) = Victim::start("import", &store, Some(&pages)).kill_after(usize::MAX, Duration::ZERO);
        assert!(!alive && said.len() == expected.len(), "kill {kill}: the second import stopped after {said:?}");
        let there = look(&store, async |peer| listed(&the_space(peer).await).await);
        assert_eq!(there.len(), documents, "kill {kill}: the second import is incomplete");
        std::fs::remove_dir_all(&store).unwrap();
    }
}

/// Every path of a space.
async fn listed(space: &Space) -> Vec<String> {
    let (mut paths, mut after) = (Vec::new(), None);
    loop {
        let page = space.list("/").limit(1_000).after(after).await.unwrap();
        paths.extend(page.items.iter().map(|item| item.path.to_string()));
        match page.next {
            Some(next) => after = Some(next),
            None => return paths,
        }
    }
}

/// Fills a space, exports it into `pages`, and leaves in `member` a store that has joined it and holds nothing yet. Returns
/// the last path of each page.
fn export_many(source: &Path, member: &Path, pages: &Path, documents: usize) -> Vec<String> {
    let (bytes, ends, invitation) = look(source, async |peer| {
        let space = peer.create_space(SPACE).await.unwrap();
        let mut last = None;
        for index in 0..documents {
            let document = space.document(&format!("/import/{index:06}")).await.unwrap();
            last = Some(document.edit(|draft| draft.put(KEY, index as i64)).unwrap());
        }
        last.expect("some documents").durable().await.unwrap();
        let (mut bytes, mut ends, mut after) = (Vec::new(), Vec::new(), None);
        loop {
            let page = space.export(after).await.unwrap();
            bytes.extend(u32::try_from(page.page.len()).unwrap().to_le_bytes());
            bytes.extend(&page.page);
            ends.push(page.next.as_ref().map_or_else(|| format!("/import/{:06}", documents - 1), ToString::to_string));
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        (bytes, ends, space.invite(Role::Writer).await.unwrap())
    });
    std::fs::write(pages, bytes).unwrap();
    look(member, async |peer| peer.join_as(&invitation, SPACE).await.map(drop).unwrap());
    ends
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
