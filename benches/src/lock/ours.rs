//! Our own voters, each a process with its store on disk, and sessions through one peer beside them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use foreshore::engine::{CoordStatus, Operation};
use foreshore::id::PeerId;
use foreshore::peer::coord::Coordinator;
use foreshore::peer::{Peer, Space};
use foreshore::store::Redb;
use foreshore::trust::Role;
use foreshore_node::doors::FindSpace;
use foreshore_node::doors::zookeeper::Door;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::load::key;
use super::servers::until_ready;

const VOTERS: usize = 3;
/// What this program is told to be a voter.
pub(crate) const FOUND: &str = "found";
pub(crate) const JOIN: &str = "join";
pub(crate) const AGAIN: &str = "again";
const LOOK: Duration = Duration::from_millis(10);

pub(crate) struct Client {
    coordinator: Coordinator,
}

impl Client {
    pub(super) async fn cycle(&mut self, lock: &str) -> anyhow::Result<()> {
        Ok(self.coordinator.lock(lock).await?.release().await?)
    }

    pub(super) async fn write(&mut self, key: &str, value: &[u8]) -> anyhow::Result<()> {
        self.coordinator.tree().set(key, value, None).await?;
        Ok(())
    }

    pub(super) async fn read(&mut self, key: &str) -> anyhow::Result<Vec<u8>> {
        Ok(self.coordinator.tree().linear().get(key).await?.context("the key is there")?.data)
    }
}

pub(super) struct Cluster {
    directory: PathBuf,
    voters: Vec<Option<Voter>>,
    space: Space,
    /// What the clients' sessions go through.
    _peer: Peer,
}

impl Cluster {
    pub(super) async fn start(directory: &Path) -> anyhow::Result<Self> {
        let (mut first, said) = Voter::start(FOUND, &directory.join("0"), "").await?;
        let [writer, voter] = said.split(' ').collect::<Vec<_>>()[..] else { bail!("two invitations, not {said:?}") };
        let mut voters = Vec::new();
        for n in 1..VOTERS {
            let (other, id) = Voter::start(JOIN, &directory.join(n.to_string()), &format!("{writer} {voter}")).await?;
            ensure!(first.ask(&format!("add {id}")).await? == "added", "the first voter adds another");
            voters.push(Some(other));
        }
        voters.insert(0, Some(first));
        let peer = Peer::builder().store(Redb::open(directory.join("clients"))?).spawn().await?;
        let space = peer.join(writer).await?;
        let cluster = Self { directory: directory.to_path_buf(), voters, space, _peer: peer };
        let root = cluster.session().await?;
        for parent in ["/keys", "/locks"] {
            root.tree().create(parent, Vec::new()).await?;
        }
        Ok(cluster)
    }

    /// Where ZooKeeper's clients are served: a door a voter.
    pub(super) async fn doors(&mut self) -> anyhow::Result<Vec<String>> {
        let mut doors = Vec::new();
        for voter in self.voters.iter_mut().flatten() {
            doors.push(voter.ask("door").await?);
        }
        Ok(doors)
    }

    async fn session(&self) -> anyhow::Result<Coordinator> {
        let coordinator = self.space.coordinator().await?;
        coordinator.connected().await?;
        Ok(coordinator)
    }

    pub(super) async fn client(&mut self, n: usize) -> anyhow::Result<Client> {
        let coordinator = self.session().await?;
        if coordinator.tree().get(key(n)).await?.is_none() {
            coordinator.tree().create(key(n), Vec::new()).await?;
        }
        Ok(Client { coordinator })
    }

    pub(super) async fn leader(&mut self) -> anyhow::Result<usize> {
        for (n, voter) in self.voters.iter_mut().enumerate() {
            let Some(voter) = voter else { continue };
            if voter.ask("leads").await? == "true" {
                return Ok(n);
            }
        }
        bail!("none of our voters leads")
    }

    pub(super) async fn kill(&mut self, voter: usize) -> anyhow::Result<()> {
        let mut voter = self.voters[voter].take().context("it is dead already")?;
        Ok(voter.child.kill().await?)
    }

    pub(super) async fn restart(&mut self, voter: usize) -> anyhow::Result<()> {
        let directory = self.directory.join(voter.to_string());
        self.voters[voter] = Some(Voter::start(AGAIN, &directory, "").await?.0);
        Ok(())
    }
}

/// A voter's process.
struct Voter {
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

/// Where a voter listens, whenever it runs: its port lies beside its store, as it would in a server's configuration.
fn place(directory: &Path) -> anyhow::Result<String> {
    let file = directory.with_extension("port");
    let port: u16 = match std::fs::read_to_string(&file) {
        Ok(port) => port.parse().context("a port")?,
        Err(_) => std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port(),
    };
    std::fs::create_dir_all(directory)?;
    std::fs::write(&file, port.to_string())?;
    Ok(format!("/ip4/127.0.0.1/tcp/{port}"))
}

impl Voter {
    /// Starts this program as a voter; what it says when it is ready.
    async fn start(role: &str, directory: &Path, invitations: &str) -> anyhow::Result<(Self, String)> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--lock-role", role])
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let input = child.stdin.take().context("the input is piped")?;
        let lines = BufReader::new(child.stdout.take().context("the output is piped")?).lines();
        let mut voter = Self { child, input, lines };
        let ready = voter.ask(invitations).await?;
        Ok((voter, ready))
    }

    async fn ask(&mut self, line: &str) -> anyhow::Result<String> {
        self.input.write_all(format!("{line}\n").as_bytes()).await?;
        self.lines.next_line().await?.context("a voter has ended")
    }
}

/// A voter, from the inside: answers line by line, and ends with its input.
pub(crate) fn play(role: &str, directory: &Path) -> anyhow::Result<()> {
    foreshore_node::runtime()?.block_on(async {
        let mut input = BufReader::new(tokio::io::stdin()).lines();
        let invitations = input.next_line().await?.unwrap_or_default();
        let peer = Peer::builder().store(Redb::open(directory)?).listen(place(directory)?).spawn().await?;
        let space = match role {
            FOUND => {
                let space = peer.create_space("bench").await?;
                once(&space, |status| status.leads).await?;
                println!("{} {}", space.invite(Role::Writer).await?, space.invite(Role::Voter).await?);
                space
            }
            JOIN => {
                let mut space = None;
                for invitation in invitations.split(' ') {
                    space = Some(peer.join(invitation).await?);
                }
                println!("{}", peer.peer_id());
                space.context("an invitation")?
            }
            AGAIN => {
                // A space that was joined has a name of its own here; there is only one.
                let info = peer.spaces().await?.into_iter().next().context("the space is there")?;
                let space = peer.space(info.id).await?.context("the space is there")?;
                // It has its log and hears of a leader: it votes again.
                once(&space, |status| status.serves && status.leader.is_some()).await?;
                println!("ready");
                space
            }
            role => bail!("there is no role {role:?}"),
        };
        let door = open_door(&space, directory).await?;
        while let Some(line) = input.next_line().await? {
            match line.split_once(' ') {
                Some(("add", id)) => {
                    let id = PeerId::from_str(id).context("the id of a peer")?;
                    add(&space, id).await?;
                    println!("added");
                }
                _ if line == "door" => println!("{door}"),
                _ if line == "leads" => println!("{}", space.coordination().await?.leads),
                _ => bail!("unknown line {line:?}"),
            }
        }
        Ok(())
    })
}

/// Serves ZooKeeper's clients for as long as this process lives; where.
async fn open_door(space: &Space, directory: &Path) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let space = space.clone();
    let find: FindSpace = Arc::new(move || {
        let space = space.clone();
        Box::pin(async move { Ok(space) })
    });
    let door = Door::new(find, directory.to_path_buf(), address);
    tokio::spawn(door.serve(listener, std::future::pending()));
    Ok(address)
}

async fn once(space: &Space, holds: impl Fn(&CoordStatus) -> bool) -> anyhow::Result<()> {
    while !holds(&space.coordination().await?) {
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Makes a linked peer a voter: it receives the log first.
async fn add(space: &Space, id: PeerId) -> anyhow::Result<()> {
    for operation in [Operation::Add(id), Operation::Promote(id)] {
        // Until it is linked, its grant is known and it has caught up, this is refused.
        until_ready("the new voter", async || Ok(space.change_voters(operation).await?)).await?;
        let promoted = matches!(operation, Operation::Promote(_));
        once(space, |status| if promoted { status.voters.contains(&id) } else { status.learners.contains(&id) })
            .await?;
    }
    Ok(())
}
