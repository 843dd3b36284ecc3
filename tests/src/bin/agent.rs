//! One peer in a process of its own that types one agent's part of a trace. Driven over standard input and output, a JSON
//! object a line; the tests of traces over real sockets start one an agent. Ends when its input does.
//!
//! | in | |
//! |---|---|
//! | `{"invite": true}` | make the space and answer with an invitation |
//! | `{"join": TEXT}` | become a member |
//! | `{"type": true}` | begin to type |
//! | `{"heads": [TXN, [HASH…]]}` | what became of somebody else's transaction |
//! | `{"arrive": [HASH…]}` | wait until the document stands there, then say what it shows |

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use foreshore::id::ChangeHash;
use foreshore::peer::{Document, Peer, Space};
use foreshore::store::Redb;
use foreshore::trust::Role;
use foreshore_tests::cluster::tcp_port;
use foreshore_tests::traces::{Shape, Trace, generate, in_code_units};
use foreshore_tests::typist::{self, BODY, Board, Step};
use serde_json::{Value as Json, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::mpsc;

#[derive(Parser)]
struct Cli {
    /// Data directory
    #[arg(long)]
    store: PathBuf,
    /// Name of a published trace; otherwise one is made from --seed
    #[arg(long)]
    trace: Option<String>,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Which agent of the trace
    #[arg(long)]
    agent: usize,
    /// Peers to stay connected to
    #[arg(long)]
    dial: Vec<String>,
    /// Listen for pages, too
    #[arg(long)]
    ws: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let trace = match &cli.trace {
        Some(name) => Trace::load(name)?.with_context(|| format!("no trace {name}"))?,
        None => in_code_units(&generate(cli.seed, Shape::default())),
    };
    let store = Redb::open(&cli.store)?;
    let mut builder = Peer::builder().store(store).listen("/ip4/127.0.0.1/tcp/0");
    // The cables of the test are the only ways.
    builder = builder.network(|net| net.peer_exchange = false);
    builder = builder.redial(Duration::from_millis(20), Duration::from_millis(200));
    for address in &cli.dial {
        builder = builder.bootstrap(address);
    }
    if cli.ws {
        builder = builder.listen("/ip4/127.0.0.1/tcp/0/ws");
    }
    let peer = builder.spawn().await?;
    let listening: Vec<String> = peer.listen_addresses().iter().map(ToString::to_string).collect();
    let port = listening.iter().find_map(|address| tcp_port(address));
    let ws = listening.iter().find(|address| address.contains("/ws")).and_then(|address| address.split('/').nth(4));
    say(json!({ "port": port.context("no TCP listener")?, "ws": ws }));
    if std::env::var_os("AGENT_DEBUG").is_some() {
        let (peer, n) = (peer.clone(), cli.agent);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(5)).await;
                match peer.status().await {
                    Ok(s) => eprintln!("AGENT {n}: {:?}", s.engine),
                    Err(e) => eprintln!("AGENT {n}: {e}"),
                }
            }
        });
    }
    let agent = Agent { board: Arc::new(Board::new(&trace)), trace: Arc::new(trace), number: cli.agent, peer };
    agent.serve().await?;
    agent.peer.shutdown().await?;
    Ok(())
}

struct Agent {
    peer: Peer,
    trace: Arc<Trace>,
    board: Arc<Board>,
    number: usize,
}

impl Agent {
    async fn serve(&self) -> anyhow::Result<()> {
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        let mut document: Option<(Space, Document)> = None;
        while let Some(line) = lines.next_line().await? {
            let request: Json = serde_json::from_str(&line)?;
            if request["invite"].is_boolean() {
                let space = self.peer.create_space("text").await?;
                document = Some((space.clone(), self.open(&space).await?));
                say(json!({ "invitation": space.invite(Role::Writer).addresses(Vec::new()).await? }));
            } else if let Some(invitation) = request["join"].as_str() {
                let space = self.peer.join(invitation).await?;
                document = Some((space.clone(), self.open(&space).await?));
                say(json!({ "joined": true }));
            } else if request["type"].is_boolean() {
                self.begin(document.clone().context("type before invite or join")?);
            } else if let [txn, heads] = request["heads"].as_array().map(Vec::as_slice).unwrap_or_default() {
                let txn = usize::try_from(txn.as_u64().context("a transaction")?)?;
                self.board.post(txn, parse(heads)?);
            } else if request["arrive"].is_array() {
                let (space, document) = document.clone().context("arrive before invite or join")?;
                let heads = parse(&request["arrive"])?;
                let peer = self.peer.clone();
                tokio::spawn(finish_with(async move { report(&peer, &space, &document, &heads).await }));
            } else {
                bail!("what is {line}?");
            }
        }
        Ok(())
    }

    async fn open(&self, space: &Space) -> anyhow::Result<Document> {
        Ok(space.document_with("/text", &typist::template(&self.trace)?).await?)
    }

    /// Types in a task of its own, so that lines are read meanwhile.
    fn begin(&self, (space, document): (Space, Document)) {
        let (trace, board, number) = (self.trace.clone(), self.board.clone(), self.number);
        // Only what somebody else stands on, or nobody, has to be told.
        let mut told: Vec<bool> = vec![false; trace.txns.len()];
        for txn in &trace.txns {
            txn.parents.iter().filter(|&&parent| trace.txns[parent].agent != txn.agent).for_each(|&p| told[p] = true);
        }
        trace.frontier().into_iter().for_each(|txn| told[txn] = true);
        let (follow, mut steps) = mpsc::channel(256);
        tokio::spawn(finish_with(async move {
            typist::type_out((&space, &document), &trace, number, &board, follow).await
        }));
        tokio::spawn(async move {
            while let Some((_, step)) = steps.recv().await {
                match step {
                    Step::Typed(txn, heads) if told[txn] => say(json!({ "typed": [txn, text(&heads)] })),
                    Step::Typed(..) => {}
                    Step::Waits(txn) => say(json!({ "waits": txn })),
                    Step::Done => say(json!({ "done": true })),
                }
            }
        });
    }
}

/// Ends the process with what went wrong in a task.
async fn finish_with(task: impl Future<Output = anyhow::Result<()>>) {
    if let Err(error) = task.await {
        eprintln!("{error:#}");
        std::process::exit(1);
    }
}

async fn report(peer: &Peer, space: &Space, document: &Document, heads: &[ChangeHash]) -> anyhow::Result<()> {
    typist::arrive(space, document, heads).await?;
    let status = peer.status().await?;
    let root = status.engine.spaces.first().context("a space")?.root.clone();
    let value = document.value()?;
    let shown = value.get(BODY).and_then(|body| body.as_str()).context("a text")?;
    say(json!({ "stands": { "heads": text(&document.heads()?), "text": shown, "root": root } }));
    Ok(())
}

fn text(heads: &[ChangeHash]) -> Vec<String> {
    heads.iter().map(ToString::to_string).collect()
}

fn parse(heads: &Json) -> anyhow::Result<Vec<ChangeHash>> {
    let heads = heads.as_array().context("heads")?;
    heads.iter().map(|hash| Ok(hash.as_str().context("a hash")?.parse()?)).collect()
}

fn say(line: Json) {
    // Whoever started this process ends it by closing its input; a closed output is no news then.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
