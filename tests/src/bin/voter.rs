//! One native peer in a process of its own that votes, or could. Driven over standard input, a JSON object a line, each
//! answered by one; the browser's tests start a group of them and kill the one that leads. Ends when its input does.
//!
//! | in | |
//! |---|---|
//! | `{"create": NAME}` | makes the space |
//! | `{"invite": ROLE}` | an invitation into it |
//! | `{"join": TEXT}` | becomes a member, or gets another role |
//! | `{"change": "add", "peer": PEER}` | changes the group; `promote`, `remove`, `transfer` likewise |
//! | `{"status": true}` | how the group stands |
//! | `{"text": PATH}` | what a document's field `body` holds |

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use foreshore::peer::coord::Operation;
use foreshore::peer::{Peer, PeerId, Space, peer_text};
use foreshore::store::Redb;
use foreshore::trust::Role;
use foreshore_tests::cluster::tcp_port;
use serde_json::{Value as Json, json};
use tokio::io::{AsyncBufReadExt, BufReader};

#[derive(Parser)]
struct Cli {
    /// Data directory
    #[arg(long)]
    data: PathBuf,
    /// Peers to stay connected to
    #[arg(long)]
    dial: Vec<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let mut builder = Peer::builder()
        .store(Redb::open(&cli.data)?)
        .listen("/ip4/127.0.0.1/tcp/0")
        .listen("/ip4/127.0.0.1/tcp/0/ws")
        .redial(Duration::from_millis(50), Duration::from_secs(1));
    for address in &cli.dial {
        builder = builder.bootstrap(address);
    }
    let peer = builder.spawn().await?;
    let listening: Vec<String> = peer.listen_addresses().iter().map(ToString::to_string).collect();
    let tcp = listening.iter().find_map(|address| tcp_port(address)).context("a TCP listener")?;
    let ws = listening.iter().find(|address| address.contains("/ws")).and_then(|address| address.split('/').nth(4));
    let dial = format!("/ip4/127.0.0.1/tcp/{tcp}/p2p/{}", peer.peer_id_text());
    say(
        json!({ "peer": peer.peer_id_text(), "dial": dial, "ws": format!("ws://127.0.0.1:{}", ws.context("WebSockets")?) }),
    );
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let answer = answer(&peer, &serde_json::from_str(&line)?).await;
        say(answer.unwrap_or_else(|error| json!({ "error": format!("{error:#}") })));
    }
    peer.shutdown().await?;
    Ok(())
}

async fn answer(peer: &Peer, request: &Json) -> anyhow::Result<Json> {
    if let Some(name) = request["create"].as_str() {
        let space = peer.create_space(name).await?;
        // It founds the group as long as nobody else may vote.
        space.coordination().await?;
        return Ok(json!({ "space": space.id().to_bech32() }));
    }
    if let Some(invitation) = request["join"].as_str() {
        return Ok(json!({ "space": peer.join_as(invitation, "group").await?.id().to_bech32() }));
    }
    let space = the_space(peer).await?;
    if let Some(role) = request["invite"].as_str() {
        let role: Role = role.parse()?;
        return Ok(json!({ "invitation": space.invite(role).addresses(Vec::new()).await? }));
    }
    if let Some(change) = request["change"].as_str() {
        let other = find(peer, request["peer"].as_str().context("whom?")?).await?;
        let operation = match change {
            "add" => Operation::Add(other),
            "promote" => Operation::Promote(other),
            "remove" => Operation::Remove(other),
            "transfer" => Operation::Transfer(other),
            other => bail!("what is {other}?"),
        };
        space.change_voters(operation).await?;
        return Ok(json!({}));
    }
    if let Some(path) = request["text"].as_str() {
        let value = space.document(path).await?.value()?;
        return Ok(json!({ "text": value.get("body").and_then(|body| body.as_str()) }));
    }
    if request["status"].is_boolean() {
        let status = space.coordination().await?;
        let names = |peers: &[PeerId]| peers.iter().map(peer_text).collect::<Vec<_>>();
        return Ok(json!({
            "leads": status.leads, "term": status.term, "leader": status.leader.as_ref().map(peer_text),
            "voters": names(&status.voters), "learners": names(&status.learners),
            "applied": status.applied, "digest": status.digest, "sessions": status.sessions,
        }));
    }
    bail!("what is {request}?")
}

async fn the_space(peer: &Peer) -> anyhow::Result<Space> {
    let spaces = peer.spaces().await?;
    let info = spaces.first().context("create or join first")?;
    peer.space(info.id).await?.context("it was just listed")
}

/// A peer that is linked.
async fn find(peer: &Peer, text: &str) -> anyhow::Result<PeerId> {
    let links = peer.status().await?.network.links;
    let known = links.iter().map(|link| link.peer).chain([peer.peer_id()]);
    known.into_iter().find(|id| peer_text(id) == text).with_context(|| format!("no link with {text}"))
}

fn say(line: Json) {
    // Whoever started this process ends it by closing its input; a closed output is no news then.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
