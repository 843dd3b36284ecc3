//! The stage of the web demo: three native peers with storage, each of which serves the demo's page, and the controls that cut
//! and heal their links. Behind `cargo xtask demo`.
//!
//! The controls are this program's, not the peers': no `foreshore run` has them. They answer this machine only.
#![allow(clippy::disallowed_methods, reason = "a program for people reads the clock")]

use std::io::{IsTerminal, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Parser;
use foreshore::peer::coord::Operation;
use foreshore::peer::{Metadata, Peer, Space};
use foreshore::store::Redb;
use foreshore::trust::Role;
use foreshore_node::control::Server;
use foreshore_node::http;
use foreshore_node::service::Service;
use foreshore_tests::cluster::tcp_port;
use foreshore_tests::stage::{Native, Stage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Parser)]
#[command(about = "Three native peers and the demo's page")]
struct Cli {
    /// Where the first page is served; the others follow at the next ten and twenty. 0: any port
    #[arg(long, default_value_t = 4810)]
    port: u16,
    /// Let other devices of the network open the page and join: listen on every interface
    #[arg(long)]
    share: bool,
    /// Check that the peers are in step and the page is served, and end
    #[arg(long)]
    once: bool,
    /// Say what is served as one line of JSON
    #[arg(long)]
    json: bool,
}

/// What the peers are called.
const NAMES: [&str; 3] = ["Harbour", "Pier", "Buoy"];

/// Links are cut and healed by hand here: a healed one is dialled again soon.
const REDIAL: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];

/// Round-trip times are on show.
const PING: Duration = Duration::from_secs(2);

/// A peer that is cut off fades while somebody looks.
const SOFT_TTL: Duration = Duration::from_secs(6);

/// A change of the group is looked at this often.
const LOOK: Duration = Duration::from_millis(50);

/// How long the peers may take to find each other.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long everything may take to close.
const SHUTDOWN: Duration = Duration::from_secs(8);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = Cli::parse();
    let stores = tempfile::tempdir()?;
    let natives = start(&cli, stores.path()).await?;
    let (stop, stopped) = watch::channel(false);
    let stage = Stage::new(natives.iter().map(|(native, ..)| native.clone()).collect(), stopped.clone());
    let mut doors = Vec::new();
    for (native, listener, control) in natives {
        let service = native.service.clone();
        doors.push(tokio::spawn(control.serve(service.clone(), until(stopped.clone()))));
        let more = http::More { stage: Some(stage.router()), api: None };
        let serve = http::serve(listener, service, http::Access::default(), more, until(stopped.clone()));
        doors.push(tokio::spawn(async move {
            if let Err(error) = serve.await {
                eprintln!("HTTP port: {error}");
            }
        }));
    }
    tokio::time::timeout(PATIENCE, stage.in_step()).await.context("the peers did not find each other")??;
    tokio::time::timeout(PATIENCE, vote(&stage)).await.context("the peers did not become voters")??;
    announce(&cli, &stage, stores.path())?;
    if cli.once {
        check(stage.natives[0].http).await?;
    } else {
        told_to_stop().await?;
    }
    let _ = stop.send(true);
    let closed = async {
        for native in &stage.natives {
            native.peer.shutdown().await?;
        }
        for door in doors {
            door.await?;
        }
        anyhow::Ok(())
    };
    // The stores are temporary: whoever still holds a connection open does not hold up the end.
    tokio::time::timeout(SHUTDOWN, closed).await.unwrap_or(Ok(()))
}

/// Starts the peers: each dials the ones before it, and those are all the links there are.
async fn start(cli: &Cli, stores: &Path) -> anyhow::Result<Vec<(Arc<Native>, TcpListener, Server)>> {
    let mut natives: Vec<(Arc<Native>, TcpListener, Server)> = Vec::new();
    let host = if cli.share { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
    for (index, name) in NAMES.into_iter().enumerate() {
        let data = stores.join(name.to_lowercase());
        let mut builder = Peer::builder()
            .store(Redb::open(&data)?)
            .listen(format!("/ip4/{host}/tcp/0").as_str())
            .listen(format!("/ip4/{host}/tcp/0/ws").as_str())
            .redial(REDIAL[0], REDIAL[1])
            .engine(|engine| {
                engine.soft_ttl = SOFT_TTL;
                engine.soft_period = SOFT_TTL / 3;
            })
            // A page is linked to the peer that serves it, and a cut link has no way around it but over other peers.
            .network(|net| {
                net.ping_interval = PING;
                net.peer_exchange = false;
            });
        for (other, ..) in &natives {
            builder = builder.bootstrap(local_tcp(&other.peer)?.as_str());
        }
        let peer = builder.spawn().await?;
        let space = match natives.first() {
            None => {
                let space = peer.create_space("default").await?;
                // It founds the group of voters as long as nobody else may vote.
                space.coordination().await?;
                space
            }
            Some((first, ..)) => {
                // Each writes, votes, and as an admin lets in the pages that it serves.
                for role in [Role::Writer, Role::Admin, Role::Voter] {
                    let invitation = first.space.invite(role).addresses(Vec::new()).await?;
                    peer.join_as(&invitation, "default").await?;
                }
                peer.space("default").await?.context("it has joined")?
            }
        };
        let listener = listen(cli, IpAddr::V4(host), index).await?;
        let http = listener.local_addr()?;
        offer(&space, name, &peer, http).await?;
        let service = Service::new(peer.clone(), data.clone());
        service.set_http(http);
        let control = Server::bind(&data)?;
        natives.push((Arc::new(Native { name, peer, space, service, http }), listener, control));
    }
    Ok(natives)
}

/// Makes one group of voters of all peers. The first one founded it with the space.
async fn vote(stage: &Stage) -> anyhow::Result<()> {
    let first = &stage.natives[0].space;
    for native in &stage.natives[1..] {
        let newcomer = native.peer.peer_id();
        loop {
            let group = first.coordination().await?;
            if group.voters.contains(&newcomer) {
                break;
            }
            let operation = match group.learners.contains(&newcomer) {
                true => Operation::Promote(newcomer),
                false => Operation::Add(newcomer),
            };
            // Refused before somebody leads, while the right to vote is on its way, and until the newcomer has caught up.
            let _ = first.change_voters(operation).await;
            tokio::time::sleep(LOOK).await;
        }
    }
    Ok(())
}

/// The wanted port, or any other if that is taken.
async fn listen(cli: &Cli, host: IpAddr, index: usize) -> anyhow::Result<TcpListener> {
    let wanted = match cli.port {
        0 => 0,
        port => port.saturating_add(10 * u16::try_from(index)?),
    };
    match TcpListener::bind((host, wanted)).await {
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Ok(TcpListener::bind((host, 0)).await?),
        bound => Ok(bound?),
    }
}

/// Registers what a peer offers; whoever is in the space sees it for as long as the peer lives.
async fn offer(space: &Space, name: &str, peer: &Peer, http: SocketAddr) -> anyhow::Result<()> {
    let said = || Metadata::from([("peer".to_owned(), name.to_owned())]);
    space.register("page", &format!("http://127.0.0.1:{}/", http.port()), said()).await?;
    let listening = peer.listen_addresses();
    let ws = listening.iter().map(ToString::to_string).find(|address| address.contains("/ws"));
    let port = ws.as_deref().and_then(|address| address.split('/').nth(4)).context("a WebSocket listener")?.to_owned();
    space.register("sync", &format!("ws://127.0.0.1:{port}"), said()).await?;
    Ok(())
}

fn local_tcp(peer: &Peer) -> anyhow::Result<String> {
    let addresses = peer.listen_addresses();
    let port = addresses.iter().find_map(|address| tcp_port(&address.to_string())).context("a TCP listener")?;
    Ok(format!("/ip4/127.0.0.1/tcp/{port}/p2p/{}", peer.peer_id_text()))
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone, and the program with it.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

fn announce(cli: &Cli, stage: &Stage, stores: &Path) -> anyhow::Result<()> {
    let page = |native: &Native| format!("http://127.0.0.1:{}/", native.http.port());
    let pages: Vec<String> = stage.natives.iter().map(|native| page(native)).collect();
    let mut out = std::io::stdout().lock();
    if cli.json {
        let peers: Vec<String> = stage.natives.iter().map(|native| native.peer.peer_id_text()).collect();
        let ready = serde_json::json!({ "event": "ready", "pages": pages, "peers": peers, "names": NAMES });
        writeln!(out, "{ready}")?;
        return Ok(());
    }
    let demo = if http::has_demo() { "" } else { "   (built without its page: see there)" };
    writeln!(out, "\nForeshore demo: three native peers, linked to each other, and as many pages as you open\n")?;
    writeln!(out, "  open    {}{demo}", pages[0])?;
    let first = stores.join(NAMES[0].to_lowercase());
    writeln!(out, "  shell   foreshore --data {} watch /", first.display())?;
    if !cli.share {
        writeln!(out, "  phone   start it with --share to open the page on another device")?;
    }
    if !cli.once {
        let how = if std::io::stdin().is_terminal() { "Enter or Ctrl-C ends it." } else { "Ctrl-C ends it." };
        writeln!(out, "\n{how} Everything it stores is temporary.")?;
    }
    out.flush()?;
    Ok(())
}

/// Enter, where there is a terminal, or a signal.
async fn told_to_stop() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let entered = async {
        if !std::io::stdin().is_terminal() {
            return std::future::pending().await;
        }
        let _ = tokio::io::stdin().read(&mut [0; 256]).await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        () = entered => {}
    }
    Ok(())
}

/// Asks for the page as a browser does, and for the script that it names.
async fn check(http: SocketAddr) -> anyhow::Result<()> {
    let port = http.port();
    let page = get(port, "/").await?;
    ensure!(page.starts_with("HTTP/1.1 200") && page.contains("text/html"), "the page is not served: {page:.200}");
    ensure!(http::has_demo(), "this program was built without the page");
    let script =
        page.split("src=\"").nth(1).and_then(|rest| rest.split('"').next()).context("the page names no script")?;
    let served = get(port, script).await?;
    ensure!(served.starts_with("HTTP/1.1 200") && served.contains("text/javascript"), "{script} is not served");
    println!("the page is served: / and {script} ({} kB)", served.len() / 1000);
    Ok(())
}

async fn get(port: u16, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
