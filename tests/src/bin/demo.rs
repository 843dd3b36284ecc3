//! The demo: peers with storage type one text together while their links are cut and healed, and end byte-identical.
//!
//! On a terminal a table shows what happens; elsewhere plain lines do. The exit code is 0 only when every peer ended with
//! the same heads and roots, and with the text that the trace ends in. Behind `cargo xtask demo`.
#![allow(clippy::disallowed_methods, reason = "a program for people reads the clock")]

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Parser;
use foreshore::engine::SyncStats;
use foreshore::peer::{PeerEvent, PeerEvents};
use foreshore_tests::cluster::Cluster;
use foreshore_tests::traces::{Shape, Trace, generate, in_code_units};
use foreshore_tests::typist::{Board, Step, type_out};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

#[derive(Parser)]
#[command(about = "Peers type one text together while their links are cut and healed")]
struct Cli {
    /// Do not wait for a key at the end
    #[arg(long)]
    once: bool,
    /// The trace that is typed
    #[arg(long, default_value = "clownschool")]
    trace: String,
    /// Make a trace from this seed instead; also what is done where no trace is at hand
    #[arg(long)]
    seed: Option<u64>,
    /// Type only this many transactions
    #[arg(long)]
    limit: Option<usize>,
    /// Give up after this many seconds
    #[arg(long, default_value_t = 900)]
    patience: u64,
}

/// Transactions typed between two cuts.
const CALM: usize = 800;

/// How often the table is drawn.
const FRAME: Duration = Duration::from_millis(120);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let (name, trace) = trace(&cli)?;
    let patience = Duration::from_secs(cli.patience);
    let run = tokio::time::timeout(patience, run(&name, Arc::new(trace)));
    run.await.with_context(|| format!("not done after {patience:?}"))??;
    if !cli.once && std::io::stdin().is_terminal() {
        println!("press Enter to end");
        std::io::stdin().read_line(&mut String::new())?;
    }
    Ok(())
}

fn trace(cli: &Cli) -> anyhow::Result<(String, Trace)> {
    let found = if cli.seed.is_some() { None } else { Trace::load(&cli.trace)? };
    let (name, trace) = match found {
        Some(trace) if trace.agents < 2 => bail!("{} has one agent; the demo wants a concurrent trace", cli.trace),
        Some(trace) => (cli.trace.clone(), trace),
        None => {
            let seed = cli.seed.unwrap_or(1);
            let shape = Shape { agents: 3, txns: 3_000, hears: 12 };
            (format!("made from seed {seed}"), generate(seed, shape))
        }
    };
    let trace = match cli.limit {
        Some(limit) => trace.prefix(limit),
        None => trace,
    };
    Ok((name, in_code_units(&trace)))
}

async fn run(name: &str, trace: Arc<Trace>) -> anyhow::Result<()> {
    let cluster = Cluster::start(&trace).await?;
    let board = Arc::new(Board::new(&trace));
    let (follow, mut steps) = mpsc::channel(1024);
    let (met, mut meetings) = mpsc::channel(64);
    let mut typists = JoinSet::new();
    for (agent, member) in cluster.members.iter().enumerate() {
        tokio::spawn(listen(member.peer.events(), agent, met.clone()));
        let (space, document) = (member.space.clone(), member.document.clone());
        let (trace, board, follow) = (trace.clone(), board.clone(), follow.clone());
        typists.spawn(async move { type_out((&space, &document), &trace, agent, &board, follow).await });
    }
    let mut stage = Stage::new(name, &trace);
    let mut frame = tokio::time::interval(FRAME);
    while stage.done.len() < trace.agents {
        tokio::select! {
            Some((agent, step)) = steps.recv() => stage.on_step(agent, &step, &cluster),
            Some((agent, stats)) = meetings.recv() => stage.on_meeting(agent, stats),
            Some(ended) = typists.join_next() => ended??,
            _ = frame.tick() => stage.draw(&cluster).await?,
        }
    }
    let healed = Instant::now();
    cluster.heal();
    let heads = board.merge(&trace.frontier()).await;
    cluster.converge(&heads, &trace.end).await?;
    stage.last = Some(healed.elapsed());
    stage.draw(&cluster).await?;
    stage.close(&heads);
    cluster.close().await
}

/// Tells of every time that a member came back in step with another after a difference.
async fn listen(mut events: PeerEvents, agent: usize, met: mpsc::Sender<(usize, SyncStats)>) {
    while let Some(event) = events.next().await {
        if let PeerEvent::InStep { stats, .. } = event {
            let _ = met.send((agent, stats)).await;
        }
    }
}

/// What is shown, and who is cut off.
struct Stage {
    title: String,
    began: Instant,
    /// Transactions typed and to be typed, an agent.
    typed: Vec<usize>,
    total: Vec<usize>,
    /// Round trips of reconciliation, and how long the last difference lasted, a peer.
    trips: Vec<u64>,
    converged: Vec<Option<Duration>>,
    waiting: BTreeSet<usize>,
    done: BTreeSet<usize>,
    isolated: Option<usize>,
    cuts: usize,
    since: usize,
    /// From the last heal to everyone being equal.
    last: Option<Duration>,
    /// Lines drawn the last time; `None` where there is no terminal.
    drawn: Option<usize>,
    /// Transactions typed when the last plain line was printed.
    said: usize,
}

impl Stage {
    fn new(name: &str, trace: &Trace) -> Self {
        let total = (0..trace.agents).map(|agent| trace.txns.iter().filter(|txn| txn.agent == agent).count());
        let title = format!("{name} · {} peers · {} transactions", trace.agents, trace.txns.len());
        let terminal = std::io::stdout().is_terminal();
        if !terminal {
            println!("{title}");
        }
        Self {
            title,
            began: Instant::now(),
            typed: vec![0; trace.agents],
            total: total.collect(),
            trips: vec![0; trace.agents],
            converged: vec![None; trace.agents],
            waiting: BTreeSet::new(),
            done: BTreeSet::new(),
            isolated: None,
            cuts: 0,
            since: 0,
            last: None,
            drawn: terminal.then_some(0),
            said: 0,
        }
    }

    fn on_meeting(&mut self, agent: usize, stats: SyncStats) {
        self.trips[agent] += u64::from(stats.round_trips);
        self.converged[agent] = Some(Duration::from_micros(stats.micros));
    }

    fn on_step(&mut self, agent: usize, step: &Step, cluster: &Cluster) {
        match step {
            Step::Typed(..) => {
                self.typed[agent] += 1;
                self.since += 1;
                self.waiting.remove(&agent);
            }
            Step::Waits(_) => drop(self.waiting.insert(agent)),
            Step::Done => {
                self.done.insert(agent);
                self.waiting.remove(&agent);
            }
        }
        match self.isolated {
            // Whoever is left waits for what a cut cable withholds.
            Some(member) if self.waiting.len() + self.done.len() == self.typed.len() => self.heal(member, cluster),
            Some(member) if self.since >= 2 * CALM => self.heal(member, cluster),
            None if self.since >= CALM => self.cut(cluster),
            _ => {}
        }
    }

    fn cut(&mut self, cluster: &Cluster) {
        let member = self.cuts % self.typed.len();
        cluster.isolate(member);
        self.isolated = Some(member);
        self.cuts += 1;
        self.since = 0;
        self.say(format_args!("cut {} off", letter(member)));
    }

    fn heal(&mut self, member: usize, cluster: &Cluster) {
        cluster.heal();
        self.isolated = None;
        self.since = 0;
        self.say(format_args!("healed the links of {}", letter(member)));
    }

    /// A plain line, where there is no table.
    fn say(&self, what: std::fmt::Arguments<'_>) {
        if self.drawn.is_none() {
            let typed: usize = self.typed.iter().sum();
            println!("{:>6.1} s  {typed:>6} typed  {what}", self.began.elapsed().as_secs_f64());
        }
    }

    async fn draw(&mut self, cluster: &Cluster) -> anyhow::Result<()> {
        let Some(drawn) = self.drawn else { return self.draw_plain(cluster).await };
        let mut lines = vec![self.title.clone(), self.links(cluster), String::new()];
        lines.push(format!(
            "{:<5} {:>15} {:>12} {:>12} {:>12}  {:<8} {}",
            "peer", "typed", "heads", "carried", "round trips", "in step", "last difference gone in"
        ));
        lines.extend(self.rows(cluster).await?);
        let mut out = std::io::stdout().lock();
        if drawn > 0 {
            write!(out, "\x1b[{drawn}A")?;
        }
        lines.iter().try_for_each(|line| writeln!(out, "\x1b[2K{line}"))?;
        out.flush()?;
        self.drawn = Some(lines.len());
        Ok(())
    }

    /// Every few thousand transactions, the rows of the table.
    async fn draw_plain(&mut self, cluster: &Cluster) -> anyhow::Result<()> {
        let typed: usize = self.typed.iter().sum();
        if typed >= self.said + 4_000 || self.last.is_some() {
            self.said = typed;
            for row in self.rows(cluster).await? {
                self.say(format_args!("{}", row.trim_end()));
            }
        }
        Ok(())
    }

    fn links(&self, cluster: &Cluster) -> String {
        let links = cluster.links.iter().map(|link| {
            let [a, b] = link.ends.map(letter);
            format!("{a}{}{b}", if link.cable.is_whole() { "───" } else { "╌✂╌" })
        });
        let links: Vec<String> = links.collect();
        format!("{:>5.1} s   {}   {} cuts", self.began.elapsed().as_secs_f64(), links.join("   "), self.cuts)
    }

    async fn rows(&self, cluster: &Cluster) -> anyhow::Result<Vec<String>> {
        let mut rows = Vec::new();
        for (agent, member) in cluster.members.iter().enumerate() {
            let status = member.peer.status().await?;
            let links = &status.engine.links;
            let heads = member.document.heads()?;
            let shown = heads.first().map(|head| head.to_string()[..8].to_owned()).unwrap_or_else(|| "none".into());
            let more = if heads.len() > 1 { format!(" +{}", heads.len() - 1) } else { String::new() };
            let own = cluster.links.iter().filter(|link| link.ends.contains(&agent));
            let carried = own.map(|link| link.cable.carried());
            let in_step = links.iter().filter(|link| link.in_step).count();
            rows.push(format!(
                "{:<5} {:>15} {:>12} {:>12} {:>12}  {:<8} {}",
                letter(agent),
                format!("{}/{}", self.typed[agent], self.total[agent]),
                shown + &more,
                bytes(carried.sum()),
                self.trips[agent],
                format!("{in_step}/{}", links.len()),
                self.converged[agent].map(|took| format!("{:.1} ms", took.as_secs_f64() * 1e3)).unwrap_or_default(),
            ));
        }
        Ok(rows)
    }

    fn close(&self, heads: &[foreshore::id::ChangeHash]) {
        let last = self.last.unwrap_or_default();
        println!(
            "byte-identical after {} cuts: {} peers, {} head{}, and the text that the trace ends in; {:.0} ms after the \
             last heal, {:.1} s in all",
            self.cuts,
            self.typed.len(),
            heads.len(),
            if heads.len() == 1 { "" } else { "s" },
            last.as_secs_f64() * 1e3,
            self.began.elapsed().as_secs_f64()
        );
    }
}

/// A, B, C …
fn letter(member: usize) -> char {
    char::from(b'A' + u8::try_from(member % 26).expect("below 26"))
}

fn bytes(count: u64) -> String {
    match count {
        0..10_000 => format!("{count} B"),
        10_000..10_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        _ => format!("{:.1} MB", count as f64 / 1e6),
    }
}
