//! Eight honest and three hostile processes on loopback that edit, gossip and restart for some time, and what came of it.
//!
//! `soak --minutes 30` is the whole; the processes are this program with other arguments. Two of the hostile ones are members
//! whose frames are altered, repeated, late or missing ([`foreshore::peer::Builder::liar`]); the third is nobody: it opens
//! connections that say nothing, nonsense, or that something endless follows. Honest ones are killed and started again in turn,
//! but for three, whose resident memory is watched.
//!
//! In the end all of it is quiet, and every honest process must show the same root; memory must not have grown by more than
//! [`SLOPE`] a minute, by a straight line through the second half.

#![allow(clippy::disallowed_methods, reason = "a soak lasts as long as it was told to, by the machine's clock")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::{Parser, Subcommand};
use foreshore::document::Value;
use foreshore::engine::CommandError;
use foreshore::peer::{Lies, Peer, Space};
use foreshore::store::{Redb, RedbOptions};
use foreshore::trust::Role;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::{Value as Json, json};

/// Honest processes.
const HONEST: usize = 8;
/// Those of them that are never restarted.
const STEADY: usize = 3;
/// Documents that all edit.
const DOCUMENTS: u64 = 40;
/// Most bytes a minute by which memory may grow.
const SLOPE: f64 = 1_048_576.0;
/// The store's page cache: small, since one that still fills looks like memory that grows.
const CACHE: usize = 2 << 20;
/// How long everything may take to agree when it is quiet.
const PATIENCE: Duration = Duration::from_secs(180);

#[derive(Parser)]
struct Cli {
    /// How long
    #[arg(long, default_value_t = 3.0)]
    minutes: f64,
    /// What is drawn: who is restarted when
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Subcommand)]
enum Part {
    /// A member
    #[command(hide = true)]
    Member {
        #[arg(long)]
        store: PathBuf,
        #[arg(long)]
        port: u16,
        #[arg(long)]
        dial: Vec<u16>,
        #[arg(long)]
        number: u64,
        /// Lies by this seed
        #[arg(long)]
        liar: Option<u64>,
    },
    /// Nobody
    #[command(hide = true)]
    Stranger {
        #[arg(long)]
        ports: Vec<u16>,
    },
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    match cli.part {
        None => soak(Duration::from_secs_f64(cli.minutes * 60.0), cli.seed),
        Some(Part::Member { store, port, dial, number, liar }) => {
            runtime()?.block_on(member(&store, port, &dial, number, liar))
        }
        Some(Part::Stranger { ports }) => runtime()?.block_on(stranger(ports)),
    }
}

fn say(line: &Json) {
    let mut out = std::io::stdout().lock();
    // Whoever listened may be gone: then this process ends with its input.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn loopback(port: u16) -> String {
    format!("/ip4/127.0.0.1/tcp/{port}")
}

/// Lives until its input ends: makes the space or joins it, edits while it is told to, and says how it stands.
async fn member(store: &Path, port: u16, dial: &[u16], number: u64, liar: Option<u64>) -> anyhow::Result<()> {
    let mut builder =
        Peer::builder().store(Redb::open_with(store, RedbOptions::new().cache_bytes(CACHE))?).listen(loopback(port));
    for other in dial {
        builder = builder.bootstrap(loopback(*other));
    }
    if let Some(seed) = liar {
        builder = builder.liar(Lies::Wire(seed));
    }
    let peer = builder.spawn().await?;
    let (asked, mut asks) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let lines = std::io::stdin().lines().map_while(Result::ok);
        lines.map(|line| serde_json::from_str::<Json>(&line)).map_while(Result::ok).try_for_each(|ask| asked.send(ask))
    });
    let mut space = peer.space("soak").await?;
    let mut editing = true;
    let mut rng = ChaCha12Rng::seed_from_u64(number ^ u64::from(std::process::id()) << 8);
    let (mut edits, mut turn) = (0u64, tokio::time::interval(Duration::from_millis(60)));
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    say(&json!({ "up": true }));
    loop {
        tokio::select! {
            ask = asks.recv() => {
                let Some(ask) = ask else { break };
                if ask["create"].is_boolean() {
                    space = Some(peer.create_space("soak").await?);
                    say(&json!({ "created": true }));
                } else if ask["invite"].is_boolean() {
                    let space = space.as_ref().context("no space")?;
                    say(&json!({ "invitation": space.invite(Role::Writer).addresses(vec![loopback(port)]).await? }));
                } else if let Some(invitation) = ask["join"].as_str() {
                    let joined = peer.join_as(invitation, "soak").await?;
                    space = Some(joined);
                    say(&json!({ "joined": true }));
                } else if let Some(on) = ask["edit"].as_bool() {
                    editing = on;
                } else if ask["status"].is_boolean() {
                    let status = peer.status().await?;
                    let root = status.engine.spaces.first().map(|space| space.root.clone());
                    let members = status.engine.spaces.first().map(|space| space.members);
                    say(&json!({
                        "root": root, "members": members, "edits": edits, "refused": status.engine.refused_changes,
                        "violations": status.network.violations, "links": status.engine.links.len(),
                    }));
                }
            }
            _ = turn.tick(), if editing && space.is_some() => {
                if let Some(space) = &space {
                    // A liar's own peer may refuse what others sent; an honest one's is busy at most.
                    match edit(space, number, &mut rng).await {
                        Ok(()) => edits += 1,
                        Err(error) if liar.is_none() => return Err(error),
                        Err(_) => {}
                    }
                }
            }
        }
    }
    peer.shutdown().await?;
    Ok(())
}

/// One edit, or now and then a deletion, and now and then a signal and a soft entry beside it.
async fn edit(space: &Space, number: u64, rng: &mut ChaCha12Rng) -> anyhow::Result<()> {
    let path = format!("/d/{}", rng.next_u64() % DOCUMENTS);
    if rng.next_u64().is_multiple_of(100) {
        // So that no history grows without end.
        space.delete(&*path).await?;
        return Ok(());
    }
    let document = space.document(&*path).await?;
    let value = (rng.next_u64() >> 40) as i64;
    if value % 10 == 0 {
        // Both happen whether or not they are awaited.
        drop(space.topic::<i64>("/said")?.publish(&value)?);
        drop(space.soft::<i64>("/who")?.set(&number.to_string(), &value)?);
    }
    let edited = document.edit(|draft| draft.put(&format!("k{number}"), Value::Int(value)));
    // Deleted meanwhile: the next edit opens what comes after it.
    let Ok(commit) = edited else { return Ok(()) };
    match commit.durable().await {
        Ok(_) | Err(CommandError::Deleted(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Connections that say nothing, nonsense, and the beginnings of what would never end.
async fn stranger(ports: Vec<u16>) -> anyhow::Result<()> {
    use tokio::io::AsyncWriteExt;
    let mut rng = ChaCha12Rng::from_seed([5; 32]);
    let mut held = Vec::new();
    say(&json!({ "up": true }));
    loop {
        for port in &ports {
            let opened =
                tokio::time::timeout(Duration::from_secs(2), tokio::net::TcpStream::connect(("127.0.0.1", *port)));
            let Ok(Ok(mut socket)) = opened.await else { continue };
            let mut noise = vec![0; 1 + (rng.next_u64() % 20_000) as usize];
            rng.fill_bytes(&mut noise);
            let said: &[u8] = match rng.next_u64() % 4 {
                0 => &[],
                1 => &noise,
                2 => b"\x13/multistream/1.0.0\n\x07/noise\n\xff\xff",
                _ => b"GET / HTTP/1.1\r\nOrigin: http://elsewhere.example\r\n",
            };
            // It is hostile: whether it was heard is nothing to it.
            let _ = tokio::time::timeout(Duration::from_secs(1), socket.write_all(said)).await;
            held.push(socket);
        }
        // Slow ones are kept open, the oldest give way.
        let surplus = held.len().saturating_sub(200);
        held.drain(..surplus);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A process and what it says.
struct Running {
    child: Child,
    input: ChildStdin,
    lines: mpsc::Receiver<Json>,
}

impl Running {
    fn start(arguments: &[String]) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take().context("piped")?;
        let out = BufReader::new(child.stdout.take().context("piped")?);
        let (said, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let read = out.lines().map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok());
            read.into_iter().try_for_each(|line| said.send(line))
        });
        let mut running = Self { child, input, lines };
        running.hear("up")?;
        Ok(running)
    }

    fn ask(&mut self, what: &Json) -> anyhow::Result<()> {
        writeln!(self.input, "{what}")?;
        Ok(self.input.flush()?)
    }

    fn hear(&mut self, key: &str) -> anyhow::Result<Json> {
        loop {
            let line = self.lines.recv_timeout(Duration::from_secs(60)).with_context(|| format!("no {key}"))?;
            if !line[key].is_null() {
                return Ok(line);
            }
        }
    }

    fn status(&mut self) -> anyhow::Result<Json> {
        self.ask(&json!({ "status": true }))?;
        self.hear("edits")
    }

    /// Resident bytes that are its own, where the system tells: what it has of files, its program before all, comes and goes.
    fn resident(&self) -> Option<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let own = text.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
        Some(own.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1_024)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The processes, and how each is started.
struct Cast {
    honest: Vec<Running>,
    hostile: Vec<Running>,
    arguments: Vec<Vec<String>>,
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn arguments(stores: &Path, number: usize, ports: &[u16], liar: Option<u64>) -> Vec<String> {
    let store = stores.join(number.to_string()).display().to_string();
    let mut arguments = vec!["member".to_owned(), "--store".into(), store];
    arguments.extend(["--port".into(), ports[number].to_string(), "--number".into(), number.to_string()]);
    for other in ports.iter().take(HONEST).filter(|port| **port != ports[number]) {
        arguments.extend(["--dial".into(), other.to_string()]);
    }
    if let Some(seed) = liar {
        arguments.extend(["--liar".into(), seed.to_string()]);
    }
    arguments
}

impl Cast {
    fn start(stores: &Path) -> anyhow::Result<Self> {
        let ports = (0..HONEST + 2).map(|_| free_port()).collect::<anyhow::Result<Vec<u16>>>()?;
        let lies = |number: usize| number.checked_sub(HONEST).map(|n| 1 + n as u64);
        let arguments: Vec<Vec<String>> =
            (0..HONEST + 2).map(|number| arguments(stores, number, &ports, lies(number))).collect();
        let mut all: Vec<Running> = Vec::new();
        for (number, arguments) in arguments.iter().enumerate() {
            let mut running = Running::start(arguments)?;
            if number == 0 {
                running.ask(&json!({ "create": true }))?;
                running.hear("created")?;
            } else {
                all[0].ask(&json!({ "invite": true }))?;
                let invitation = all[0].hear("invitation")?["invitation"].clone();
                running.ask(&json!({ "join": invitation }))?;
                running.hear("joined")?;
            }
            all.push(running);
        }
        let mut hostile = all.split_off(HONEST);
        let strangers = ports.iter().take(HONEST).flat_map(|port| ["--ports".to_owned(), port.to_string()]);
        hostile.push(Running::start(&std::iter::once("stranger".to_owned()).chain(strangers).collect::<Vec<_>>())?);
        Ok(Self { honest: all, hostile, arguments })
    }

    /// The root that all honest processes show, if it is one.
    fn root(&mut self) -> anyhow::Result<Result<String, Vec<String>>> {
        let mut roots = Vec::new();
        for running in &mut self.honest {
            roots.push(running.status()?["root"].as_str().context("a root")?.to_owned());
        }
        Ok(if roots.windows(2).all(|pair| pair[0] == pair[1]) { Ok(roots.swap_remove(0)) } else { Err(roots) })
    }
}

fn soak(time: Duration, seed: u64) -> anyhow::Result<()> {
    let stores = tempfile::tempdir()?;
    let mut cast = Cast::start(stores.path())?;
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    let began = Instant::now();
    let mut samples: BTreeMap<usize, Vec<(f64, f64)>> = BTreeMap::new();
    let (mut restarts, mut restarted_at) = (0, Instant::now());
    println!("{HONEST} honest, 3 hostile processes, {} minutes, seed {seed}", time.as_secs_f64() / 60.0);
    while began.elapsed() < time {
        std::thread::sleep(Duration::from_secs(1));
        for (number, running) in cast.honest.iter_mut().enumerate() {
            if let Some(status) = running.child.try_wait()? {
                bail!("honest process {number} ended: {status}");
            }
            if let Some(bytes) = running.resident().filter(|_| number < STEADY) {
                samples.entry(number).or_default().push((began.elapsed().as_secs_f64() / 60.0, bytes as f64));
            }
        }
        if restarted_at.elapsed() > Duration::from_secs(15) {
            restarted_at = Instant::now();
            let number = STEADY + (rng.next_u64() % (HONEST + 2 - STEADY) as u64) as usize;
            // As by `kill -9`; it starts again on the same store.
            let arguments = cast.arguments[number].clone();
            let place = match number.checked_sub(HONEST) {
                None => &mut cast.honest[number],
                Some(liar) => &mut cast.hostile[liar],
            };
            place.child.kill()?;
            place.child.wait()?;
            *place = Running::start(&arguments)?;
            restarts += 1;
        }
    }
    let mut figures = Vec::new();
    for running in &mut cast.honest {
        running.ask(&json!({ "edit": false }))?;
        figures.push(running.status()?);
    }
    cast.hostile.clear();
    let quiet = Instant::now();
    let root = loop {
        match cast.root()? {
            Ok(root) => break root,
            Err(roots) => ensure!(quiet.elapsed() < PATIENCE, "not converged after {PATIENCE:?}: {roots:?}"),
        }
        std::thread::sleep(Duration::from_millis(500));
    };
    let sum = |key: &str| figures.iter().filter_map(|figures| figures[key].as_u64()).sum::<u64>();
    println!("converged {:.1} s after the last edit, root {root}", quiet.elapsed().as_secs_f64());
    println!(
        "{restarts} restarts; since the last of each: {} edits, {} changes refused, {} violations counted",
        sum("edits"),
        sum("refused"),
        sum("violations")
    );
    let mut steepest = f64::MIN;
    for (number, samples) in &samples {
        let settled = &samples[samples.len() / 2..];
        let slope = slope(settled);
        let [first, last] =
            [samples.first(), samples.last()].map(|it| it.map_or(0.0, |(_, bytes)| bytes / 1_048_576.0));
        println!(
            "process {number}: {first:.1} MiB at first, {last:.1} MiB at last, {:.2} MiB a minute",
            slope / 1_048_576.0
        );
        steepest = steepest.max(slope);
    }
    // A minute tells nothing about slopes.
    if time >= Duration::from_secs(600) {
        ensure!(steepest <= SLOPE, "memory grows by {steepest:.0} bytes a minute, the bound is {SLOPE}");
    }
    Ok(())
}

/// Least squares: by how much y grows with x.
fn slope(samples: &[(f64, f64)]) -> f64 {
    let count = samples.len().max(1) as f64;
    let (x, y) = samples.iter().fold((0.0, 0.0), |(x, y), sample| (x + sample.0 / count, y + sample.1 / count));
    let (above, below) = samples.iter().fold((0.0, 0.0), |(above, below), sample| {
        (above + (sample.0 - x) * (sample.1 - y), below + (sample.0 - x).powi(2))
    });
    if below == 0.0 { 0.0 } else { above / below }
}
