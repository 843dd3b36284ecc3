//! A few peers in one process, each with a store in a temporary directory, over real TCP connections that run through
//! [`Cable`]s.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, ensure};
use foreshore::id::ChangeHash;
use foreshore::peer::{Document, Peer, Space};
use foreshore::store::Redb;
use foreshore::trust::Role;
use tempfile::TempDir;

use crate::cable::Cable;
use crate::traces::Trace;
use crate::typist::{self, BODY};

/// Bounds of the wait between two attempts to reach a peer: cables heal often here.
const REDIAL: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(200)];

/// Where the text is.
const PATH: &str = "/demo/text";

/// One peer.
#[derive(Debug)]
pub struct Member {
    /// The peer.
    pub peer: Peer,
    /// The space that all share.
    pub space: Space,
    /// The text that all type into.
    pub document: Document,
}

/// The link between two members.
#[derive(Debug)]
pub struct Link {
    /// The members, ascending.
    pub ends: [usize; 2],
    /// What carries it.
    pub cable: Cable,
}

/// The peers and what links them: everyone with everyone.
#[derive(Debug)]
pub struct Cluster {
    /// The peers.
    pub members: Vec<Member>,
    /// The links.
    pub links: Vec<Link>,
    /// Dropped last: the stores are in it.
    _stores: TempDir,
}

impl Cluster {
    /// A peer for each agent of `trace`, in one space, with the document open everywhere and every cable whole.
    pub async fn start(trace: &Trace) -> anyhow::Result<Self> {
        let stores = tempfile::tempdir()?;
        let template = typist::template(trace)?;
        let mut members: Vec<Member> = Vec::new();
        let mut links = Vec::new();
        let mut listeners: Vec<SocketAddr> = Vec::new();
        for agent in 0..trace.agents {
            let store = Redb::open(stores.path().join(agent.to_string()))?;
            let mut builder = Peer::builder().store(store).listen("/ip4/127.0.0.1/tcp/0").redial(REDIAL[0], REDIAL[1]);
            // The cables are the only ways: nobody is to find another around them.
            builder = builder.network(|net| net.peer_exchange = false);
            for (other, listener) in listeners.iter().enumerate() {
                let cable = Cable::to(*listener).await?;
                builder = builder.bootstrap(multiaddr(cable.address()));
                links.push(Link { ends: [other, agent], cable });
            }
            let peer = builder.spawn().await?;
            listeners.push(listener(&peer)?);
            let space = match members.first() {
                None => peer.create_space("demo").await?,
                // Addresses are left out, or peers would find each other past the cables.
                Some(first) => peer.join(&first.space.invite(Role::Writer).addresses(Vec::new()).await?).await?,
            };
            let document = space.document_with(PATH, &template).await?;
            members.push(Member { peer, space, document });
        }
        Ok(Self { members, links, _stores: stores })
    }

    /// Cuts every cable of one member.
    pub fn isolate(&self, member: usize) {
        self.links.iter().filter(|link| link.ends.contains(&member)).for_each(|link| link.cable.cut());
    }

    /// Makes every cable whole.
    pub fn heal(&self) {
        self.links.iter().for_each(|link| link.cable.heal());
    }

    /// Waits until everyone stands at exactly `heads`, then checks that everyone shows `text` and has the same root.
    pub async fn converge(&self, heads: &[ChangeHash], text: &str) -> anyhow::Result<()> {
        for member in &self.members {
            typist::arrive(&member.space, &member.document, heads).await?;
        }
        let mut roots = Vec::new();
        for (index, member) in self.members.iter().enumerate() {
            let shown = member.text()?;
            ensure!(shown == text, "member {index} has the right heads and shows another text");
            roots.push(member.root().await?);
        }
        ensure!(roots.windows(2).all(|pair| pair[0] == pair[1]), "equal heads and unequal roots: {roots:?}");
        Ok(())
    }

    /// Closes every peer.
    pub async fn close(&self) -> anyhow::Result<()> {
        for member in &self.members {
            member.peer.shutdown().await?;
        }
        Ok(())
    }
}

impl Member {
    /// What the document shows.
    pub fn text(&self) -> anyhow::Result<String> {
        let value = self.document.value()?;
        let text = value.get(BODY).and_then(|body| body.as_str()).context("the document has a text")?;
        Ok(text.to_owned())
    }

    /// Root of everything in the space.
    pub async fn root(&self) -> anyhow::Result<String> {
        let status = self.peer.status().await?;
        let space = status.engine.spaces.iter().find(|space| space.info.id == self.space.id());
        Ok(space.context("the peer has the space")?.root.clone())
    }
}

/// Where to dial somebody on this machine.
pub fn multiaddr(address: SocketAddr) -> String {
    format!("/ip4/{}/tcp/{}", address.ip(), address.port())
}

/// Where a peer listens for TCP.
fn listener(peer: &Peer) -> anyhow::Result<SocketAddr> {
    let addresses = peer.listen_addresses();
    let port = addresses.iter().find_map(|address| tcp_port(&address.to_string()));
    Ok((Ipv4Addr::LOCALHOST, port.with_context(|| format!("no TCP listener in {addresses:?}"))?).into())
}

/// The port in `/ip4/127.0.0.1/tcp/4801/…`; `None` for other transports.
pub fn tcp_port(multiaddr: &str) -> Option<u16> {
    let mut parts = multiaddr.split('/').skip_while(|part| *part != "tcp").skip(1);
    let port = parts.next()?.parse().ok()?;
    parts.next().is_none_or(|next| next == "p2p").then_some(port)
}
