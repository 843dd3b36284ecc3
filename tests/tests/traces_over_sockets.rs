//! Real processes, one an agent, type a published trace over real sockets while their links are cut and healed, and end
//! byte-identical: the same heads, the same root, and the text that the trace ends in.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use foreshore_tests::cable::Cable;
use foreshore_tests::cluster::multiaddr;
use foreshore_tests::traces::{Shape, Trace, generate, in_code_units};
use serde_json::{Value as Json, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;

/// What an agent's process said.
type Said = (usize, Json);

/// Heads of other agents' transactions that become known between two cuts.
const CALM: usize = 120;

/// When nobody has anything to say for this long, everybody may be waiting for whoever is cut off. An agent that was woken
/// for nothing does not say again that it waits, so silence is the only sign of it.
const SILENCE: Duration = Duration::from_millis(300);

/// A whole run takes a minute or two without optimisation; this ends one that hangs.
const PATIENCE: Duration = Duration::from_secs(1_500);

/// One process. Dropping it ends it.
struct Agent {
    _process: Child,
    stdin: ChildStdin,
}

impl Agent {
    async fn tell(&mut self, line: Json) {
        self.stdin.write_all(format!("{line}\n").as_bytes()).await.expect("the agent reads");
    }
}

struct Run {
    agents: Vec<Agent>,
    said: mpsc::Receiver<Said>,
    cables: Vec<([usize; 2], Cable)>,
    _stores: tempfile::TempDir,
}

impl Run {
    /// Starts one process an agent and joins them into a space; every cable is whole.
    async fn start(agents: usize, arguments: &[String]) -> Self {
        let stores = tempfile::tempdir().unwrap();
        let (voice, said) = mpsc::channel(1024);
        let mut run = Self { agents: Vec::new(), said, cables: Vec::new(), _stores: stores };
        let mut listeners: Vec<SocketAddr> = Vec::new();
        let mut invitation = String::new();
        for agent in 0..agents {
            let mut command = Command::new(env!("CARGO_BIN_EXE_agent"));
            command.args(arguments).args(["--agent", &agent.to_string()]);
            command.arg("--store").arg(run._stores.path().join(agent.to_string()));
            for (other, listener) in listeners.iter().enumerate() {
                let cable = Cable::to(*listener).await.unwrap();
                command.args(["--dial", &multiaddr(cable.address())]);
                run.cables.push(([other, agent], cable));
            }
            run.agents.push(spawn(command, agent, voice.clone()));
            let port = run.hear("port").await;
            listeners.push((Ipv4Addr::LOCALHOST, u16::try_from(port.as_u64().unwrap()).unwrap()).into());
            if agent == 0 {
                run.agents[0].tell(json!({ "invite": true })).await;
                invitation = run.hear("invitation").await.as_str().unwrap().to_owned();
            } else {
                run.agents[agent].tell(json!({ "join": invitation })).await;
                run.hear("joined").await;
            }
        }
        run
    }

    /// The next thing said, which is this.
    async fn hear(&mut self, what: &str) -> Json {
        let (agent, line) = self.said.recv().await.expect("agents speak while they live");
        line.get(what).unwrap_or_else(|| panic!("agent {agent} said {line}, not {what}")).clone()
    }

    fn isolate(&self, agent: usize) {
        self.cables.iter().filter(|(ends, _)| ends.contains(&agent)).for_each(|(_, cable)| cable.cut());
    }

    fn heal(&self) {
        self.cables.iter().for_each(|(_, cable)| cable.heal());
    }

    /// Lets everyone type, cutting one agent off after the other, until all are done. Returns the heads of each
    /// transaction that was told of, and how often somebody was cut off.
    async fn type_all(&mut self, trace: &Trace) -> (BTreeMap<usize, Json>, usize) {
        let patience = (handovers(trace) / 10).clamp(2, CALM);
        for agent in &mut self.agents {
            agent.tell(json!({ "type": true })).await;
        }
        let mut done = BTreeSet::new();
        let (mut told, mut cuts, mut calm, mut cut) = (BTreeMap::new(), 0, 0, false);
        while done.len() < self.agents.len() {
            let said = if cut {
                tokio::time::timeout(SILENCE, self.said.recv()).await.ok()
            } else {
                Some(self.said.recv().await)
            };
            let Some(said) = said else {
                self.heal();
                (cut, calm) = (false, 0);
                continue;
            };
            let (agent, line) = said.expect("agents speak while they live");
            if let [txn, heads] = line["typed"].as_array().map(Vec::as_slice).unwrap_or_default() {
                told.insert(usize::try_from(txn.as_u64().unwrap()).unwrap(), heads.clone());
                for other in (0..self.agents.len()).filter(|other| *other != agent) {
                    self.agents[other].tell(json!({ "heads": [txn, heads] })).await;
                }
                calm += 1;
            } else if line["done"].is_boolean() {
                done.insert(agent);
            } else if !line["waits"].is_u64() {
                panic!("agent {agent} said {line}");
            }
            if cut && calm > patience / 2 {
                self.heal();
                (cut, calm) = (false, 0);
            } else if !cut && calm >= patience {
                self.isolate(cuts % self.agents.len());
                (cut, calm, cuts) = (true, 0, cuts + 1);
            }
        }
        self.heal();
        (told, cuts)
    }

    /// What everyone shows once all stand at `heads`.
    async fn arrive(&mut self, heads: &[Json]) -> Vec<Json> {
        for agent in &mut self.agents {
            agent.tell(json!({ "arrive": heads })).await;
        }
        let mut stands = Vec::new();
        while stands.len() < self.agents.len() {
            stands.push(self.hear("stands").await);
        }
        stands
    }
}

fn spawn(mut command: Command, agent: usize, voice: mpsc::Sender<Said>) -> Agent {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut process = command.spawn().expect("the agent's program was built with the test");
    let stdin = process.stdin.take().expect("piped");
    let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines();
    tokio::spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            let line = serde_json::from_str(&line).expect("agents speak JSON");
            if voice.send((agent, line)).await.is_err() {
                break;
            }
        }
    });
    Agent { _process: process, stdin }
}

/// Transactions that another agent's transaction was typed upon: those are told of.
fn handovers(trace: &Trace) -> usize {
    let told: BTreeSet<usize> = trace
        .txns
        .iter()
        .flat_map(|txn| txn.parents.iter().filter(|parent| trace.txns[**parent].agent != txn.agent).copied())
        .collect();
    told.len()
}

async fn converges(trace: &Trace, arguments: &[String]) {
    let mut run = Run::start(trace.agents, arguments).await;
    let (told, cuts) = run.type_all(trace).await;
    assert!(cuts > 2, "nobody was cut off often enough: {cuts}");
    let mut heads: Vec<Json> =
        trace.frontier().iter().flat_map(|txn| told[txn].as_array().expect("a list").clone()).collect();
    heads.sort_by_key(|hash| hash.as_str().map(str::to_owned));
    heads.dedup();
    let stands = run.arrive(&heads).await;
    for (agent, stand) in stands.iter().enumerate() {
        assert_eq!(stand["heads"], json!(heads), "agent {agent} stands elsewhere");
        assert_eq!(stand["root"], stands[0]["root"], "agent {agent} has another root");
        assert!(stand["text"] == json!(trace.end), "agent {agent} shows another text");
    }
}

/// Whether the long form of tests is asked for; says so otherwise.
fn long(name: &str) -> bool {
    let long = std::env::var_os("FORESHORE_LONG").is_some();
    if !long {
        println!("{name}: skipped, typed whole by `cargo xtask test --long`");
    }
    long
}

/// A published trace, whole where the long form of tests is asked for, since it is typed one transaction upon the other.
async fn published(name: &str) {
    if !long(name) {
        return;
    }
    let Some(trace) = Trace::load_or_say_skipped(name) else { return };
    let arguments = ["--trace".to_owned(), name.to_owned()];
    tokio::time::timeout(PATIENCE, converges(&trace, &arguments)).await.expect("it converges in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn friendsforever_typed_by_two_processes_ends_byte_identical() {
    published("friendsforever").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clownschool_typed_by_three_processes_ends_byte_identical() {
    published("clownschool").await;
}

/// Needs no file, and types characters of two code units.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_made_trace_typed_by_three_processes_ends_byte_identical() {
    if !long("a made trace") {
        return;
    }
    let trace = in_code_units(&generate(1, Shape::default()));
    let arguments = ["--seed".to_owned(), "1".to_owned()];
    tokio::time::timeout(PATIENCE, converges(&trace, &arguments)).await.expect("it converges in time");
}
