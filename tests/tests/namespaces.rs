//! Eight peers, each a process in a network namespace of its own: cut, healed, unplugged, stopped and continued.
//!
//! ```text
//!   fs-<pid>-0 … -3 ── bridge `left` ══ trunk ══ bridge `right` ── fs-<pid>-4 … -7        bridges in fs-<pid>-switch
//! ```
//!
//! What each peer shows is read through its control socket. Presence (soft entries) and the registry have to be right
//! everywhere within the time that docs/guarantees.md gives them, and the documents of all have to end with equal roots.
//!
//! Needs root and `ip` (iproute2); without them it says so and does nothing.
#![allow(clippy::disallowed_methods, reason = "a test's own deadlines")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use foreshore_tests::is_long;
use foreshore_tests::netns::{Network, Process, address, clean};
use serde_json::{Value as Json, json};

const PEERS: usize = 8;
/// Those on the left bridge come first.
const LEFT: usize = 4;
const SPACE: &str = "shared";
/// What a busy machine may add to any bound.
const SLACK: Duration = Duration::from_secs(12);
/// Until a link that was dead for a while carries again: TCP's own pauses, or a ping's end and a new dial.
const REVIVAL: Duration = Duration::from_secs(90);

/// The lease's time to live: short, so that a default run has time for every act.
fn ttl() -> Duration {
    Duration::from_secs(if is_long() { 15 } else { 4 })
}

/// How long a peer is stopped; longer than its lease lives.
fn stop() -> Duration {
    Duration::from_secs(if is_long() { 60 } else { 15 })
}

// ── peers ──

struct Member {
    number: usize,
    data: PathBuf,
    process: Process,
    /// `services register`, while it is offered.
    holder: Option<Process>,
    /// Where others dial it.
    listen: String,
}

fn foreshore(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_foreshore-peer"));
    clean(&mut command).arg("--data").arg(data);
    command
}

fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    if line.is_empty() {
        let mut error = String::new();
        let _ = child.stderr.take().unwrap().read_to_string(&mut error);
        panic!("it ended at once: {error}");
    }
    line
}

impl Member {
    fn start(network: &Network, home: &Path, number: usize, others: &[Member]) -> Self {
        let data = home.join(number.to_string());
        let mut command = Command::new("ip");
        clean(&mut command).args(["netns", "exec", &network.namespace(number), env!("CARGO_BIN_EXE_foreshore-peer")]);
        command.arg("--data").arg(&data).args(["--json", "run", "--http", "off", "--soft-ttl"]);
        command.arg(format!("{}s", ttl().as_secs())).arg("--listen");
        command.arg(format!("/ip4/{}/tcp/4801", address(number)));
        command.args(others.iter().flat_map(|other| ["--dial", &other.listen]));
        // Its log goes where a failed test can be looked into.
        command.stderr(std::fs::File::create(home.join(format!("{number}.log"))).unwrap());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Json = serde_json::from_str(&line).unwrap_or_else(|e| panic!("peer {number}: {e}: {line:?}"));
        let listen = ready["status"]["listen"][0].as_str().unwrap().to_owned();
        Self { number, data, process: Process(child), holder: None, listen }
    }

    /// Runs a command that succeeds.
    fn ok(&self, arguments: &[&str]) -> String {
        let output = foreshore(&self.data).args(["--space", SPACE]).args(arguments).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "peer {}: {arguments:?}: {error}", self.number);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Says what it shows of itself.
    fn show(&self, value: u64) {
        self.ok(&["soft", "set", &format!("/presence/{}", self.number), &value.to_string()]);
    }

    fn offer(&mut self) {
        let mut command = foreshore(&self.data);
        command.args(["--space", SPACE, "services", "register", "web", &endpoint(self.number)]);
        let mut child = command.spawn().unwrap();
        assert!(first_line(&mut child).contains("offered"));
        self.holder = Some(Process(child));
    }

    /// Asks through the control socket; the answer is read later, whether or not the peer runs now.
    fn ask(&self, request: Json) -> Answer {
        let mut stream = UnixStream::connect(self.data.join("control.sock")).unwrap();
        stream.set_read_timeout(Some(REVIVAL)).unwrap();
        stream.write_all(format!("{request}\n").as_bytes()).unwrap();
        Answer(BufReader::new(stream))
    }

    fn asks(&self) -> [Answer; 2] {
        [
            self.ask(json!({ "op": "soft_list", "space": SPACE, "prefix": "/presence" })),
            self.ask(json!({ "op": "services", "space": SPACE, "service": "web" })),
        ]
    }

    /// What it shows now.
    fn shows(&self) -> View {
        View::read(self.asks())
    }

    fn root(&self) -> String {
        let status = self.ask(json!({ "op": "status" })).done();
        let spaces = status["spaces"].as_array().unwrap();
        spaces.iter().find(|s| s["name"] == SPACE).unwrap()["root"].as_str().unwrap().to_owned()
    }
}

/// A line for each item, then the end.
struct Answer(BufReader<UnixStream>);

impl Answer {
    fn items(mut self) -> (Vec<Json>, Json) {
        let mut items = Vec::new();
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            let mut line: Json = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}"));
            if let Some(item) = line.get_mut("item") {
                items.push(item.take());
            } else {
                assert!(line.get("failed").is_none(), "{line}");
                return (items, line["done"].take());
            }
        }
    }

    fn done(self) -> Json {
        self.items().1
    }
}

fn endpoint(number: usize) -> String {
    format!("{}:80", address(number))
}

/// What a peer shows: who is here with which value, and where the service is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct View {
    presence: BTreeMap<usize, u64>,
    endpoints: Vec<String>,
}

impl View {
    fn read([presence, services]: [Answer; 2]) -> Self {
        let number = |item: &Json| item["path"].as_str()?.rsplit('/').next()?.parse::<usize>().ok();
        let presence = presence.items().0;
        let mut endpoints: Vec<String> =
            services.items().0.iter().map(|item| item["endpoint"].as_str().unwrap().to_owned()).collect();
        endpoints.sort();
        let presence = presence.iter().map(|item| (number(item).unwrap(), item["value"].as_u64().unwrap())).collect();
        Self { presence, endpoints }
    }

    /// What a peer shows that sees `peers`, each with its value.
    fn of(peers: impl IntoIterator<Item = (usize, u64)>) -> Self {
        let presence: BTreeMap<usize, u64> = peers.into_iter().collect();
        let mut endpoints: Vec<String> = presence.keys().map(|peer| endpoint(*peer)).collect();
        endpoints.sort();
        Self { presence, endpoints }
    }
}

/// Waits until every peer of `who` shows what it should; how long it took.
fn until(what: &str, bound: Duration, who: &[&Member], expected: impl Fn(usize) -> View) -> Duration {
    let began = Instant::now();
    for member in who {
        loop {
            let shown = member.shows();
            if shown == expected(member.number) {
                break;
            }
            let (waited, wanted) = (began.elapsed(), expected(member.number));
            assert!(waited < bound, "{what}: after {waited:?} peer {} shows {shown:?}, not {wanted:?}", member.number);
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    println!("{what}: {:?}, of at most {bound:?}", began.elapsed());
    began.elapsed()
}

/// Waits until everybody has the same documents, and looks whether they are the same indeed.
fn converge(what: &str, members: &[Member]) {
    let began = Instant::now();
    let roots = || members.iter().map(Member::root).collect::<Vec<_>>();
    loop {
        let roots = roots();
        if roots.iter().all(|root| *root == roots[0]) {
            break;
        }
        assert!(began.elapsed() < REVIVAL, "{what}: roots {roots:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    println!("{what}: {:?}, of at most {REVIVAL:?}", began.elapsed());
    let documents = |member: &Member| {
        let listed = member.ok(&["--json", "list", "/documents"]);
        let lines = listed.lines().map(|line| serde_json::from_str::<Json>(line).unwrap());
        let values = lines.map(|line| {
            let path = line["path"].as_str().unwrap().to_owned();
            let value = member.ok(&["--json", "get", &path]);
            let value: Json = serde_json::from_str(&value).unwrap();
            (path, (line["heads"].clone(), value["value"].clone()))
        });
        values.collect::<BTreeMap<_, _>>()
    };
    let first = documents(&members[0]);
    assert!(!first.is_empty());
    for member in &members[1..] {
        assert_eq!(documents(member), first, "{what}: peer {}", member.number);
    }
}

/// Everybody of `who` edits one document of all and one of its own.
fn edit(who: &[&Member], act: &str) {
    for member in who {
        let value = json!({ format!("{act}-{}", member.number): act }).to_string();
        member.ok(&["put", "/documents/shared", &value, "--merge"]);
        member.ok(&["put", &format!("/documents/{}", member.number), &value, "--merge"]);
    }
}

fn start(network: &Network, home: &Path) -> Vec<Member> {
    let mut members: Vec<Member> = Vec::new();
    for number in 0..PEERS {
        let member = Member::start(network, home, number, &members);
        if let Some(first) = members.first() {
            let invitation = first.ok(&["invite", "--print", "--address", &first.listen]);
            let joined = foreshore(&member.data).args(["join", "--name", SPACE, invitation.trim()]).output().unwrap();
            assert!(joined.status.success(), "peer {number}: {}", String::from_utf8_lossy(&joined.stderr));
        } else {
            let made = foreshore(&member.data).args(["space", "create", SPACE]).output().unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        }
        members.push(member);
    }
    members
}

#[test]
fn presence_registry_and_documents_are_right_through_cuts_and_stops() {
    let network = match Network::lay(PEERS, LEFT) {
        Ok(network) => network,
        Err(why) => {
            eprintln!("SKIPPED, and nothing was tested: this machine has no network namespaces for us: {why}");
            return;
        }
    };
    let home = tempfile::tempdir().unwrap();
    let mut members = start(&network, home.path());
    members.iter_mut().for_each(Member::offer);
    members.iter().for_each(|member| member.show(1));
    let all: Vec<&Member> = members.iter().collect();
    let everybody = |value: u64| View::of((0..PEERS).map(|peer| (peer, value)));
    until("everybody sees everybody", REVIVAL, &all, |_| everybody(1));
    edit(&all, "together");
    converge("documents of the beginning", &members);

    // Cut in two: each side forgets the other, and goes on.
    network.cut();
    let side = |peer: usize| if peer < LEFT { 0..LEFT } else { LEFT..PEERS };
    until("a cut", ttl() + SLACK, &all, |peer| View::of(side(peer).map(|peer| (peer, 1))));
    edit(&all, "apart");
    all.iter().for_each(|member| member.show(2));
    until("apart", SLACK, &all, |peer| View::of(side(peer).map(|peer| (peer, 2))));
    if is_long() {
        // Until the connections across have been given up, and have to be made anew.
        std::thread::sleep(stop());
    }
    network.heal();
    until("healed", REVIVAL, &all, |_| everybody(2));
    converge("documents after the cut", &members);

    // One is unplugged, and is plugged in on the other side.
    network.plug(6, None);
    until("a cable pulled", ttl() + SLACK, &all, |peer| match peer {
        6 => View::of([(6, 2)]),
        _ => View::of((0..PEERS).filter(|peer| *peer != 6).map(|peer| (peer, 2))),
    });
    edit(&[&members[6], &members[1]], "unplugged");
    network.plug(6, Some("left"));
    until("plugged in elsewhere", REVIVAL, &all, |_| everybody(2));
    converge("documents after the move", &members);
    drop(all);

    sleeper(&mut members);
    members.iter().for_each(|member| assert_eq!(member.shows(), everybody_but_one_endpoint()));
    converge("documents of the end", &members);
}

/// The peer that is stopped.
const SLEEPER: usize = 3;
/// The peer that withdraws meanwhile.
const LEAVER: usize = 5;

/// What all show in the end: the leaver offers nothing more.
fn everybody_but_one_endpoint() -> View {
    let mut view = View::of((0..PEERS).map(|peer| (peer, 3)));
    view.endpoints.retain(|at| *at != endpoint(LEAVER));
    view
}

/// One peer is stopped for longer than its lease lives, and continued.
fn sleeper(members: &mut [Member]) {
    members[SLEEPER].show(3);
    let asleep = Instant::now();
    members[SLEEPER].process.signal("-STOP");
    let awake: Vec<&Member> = members.iter().filter(|member| member.number != SLEEPER).collect();
    until("one is stopped", ttl() + SLACK, &awake, |_| {
        View::of((0..PEERS).filter(|peer| *peer != SLEEPER).map(|peer| (peer, 2)))
    });
    // What it will have slept through: everybody changes, one withdraws its endpoint.
    edit(&awake, "asleep");
    awake.iter().for_each(|member| member.show(3));
    drop(awake);
    members[LEAVER].holder = None;
    let awake: Vec<&Member> = members.iter().filter(|member| member.number != SLEEPER).collect();
    until("without the sleeper", SLACK, &awake, |_| {
        let mut view = everybody_but_one_endpoint();
        view.presence.remove(&SLEEPER);
        view.endpoints.retain(|at| *at != endpoint(SLEEPER));
        view
    });
    std::thread::sleep(stop().saturating_sub(asleep.elapsed()));

    // Asked while it still sleeps: the first thing that it does is to answer, and again and again until it is back.
    let sleeper = &members[SLEEPER];
    let asked: Vec<[Answer; 2]> = (0..10).map(|_| sleeper.asks()).collect();
    let woken = Instant::now();
    sleeper.process.signal("-CONT");
    let fresh = |view: &View| {
        let stale = view.presence.iter().find(|(peer, value)| **peer != SLEEPER && **value != 3);
        assert_eq!(stale, None, "{:?} after it woke, the sleeper shows {view:?}", woken.elapsed());
        assert!(!view.endpoints.contains(&endpoint(LEAVER)), "{:?} after it woke: {view:?}", woken.elapsed());
    };
    asked.into_iter().for_each(|answers| fresh(&View::read(answers)));
    while woken.elapsed() < REVIVAL {
        let view = sleeper.shows();
        fresh(&view);
        if view == everybody_but_one_endpoint() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("the sleeper sees all again: {:?}", woken.elapsed());
    let all: Vec<&Member> = members.iter().collect();
    until("everybody sees the sleeper again", REVIVAL, &all, |_| everybody_but_one_endpoint());
}
