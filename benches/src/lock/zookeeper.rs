//! Debian's ZooKeeper, through crate zookeeper-client.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use zookeeper_client::{Acls, CreateMode, Error};

use super::load::{ONE_LOCK, key, lock};
use super::servers::{Servers, free_ports, installed, until_ready};

const SERVERS: usize = 3;
/// Its time unit, as in the example that it comes with.
const TICK_MS: u32 = 2_000;

pub(crate) struct Client {
    client: zookeeper_client::Client,
}

impl Client {
    /// A client of these servers, whoever made them, whose lock and key are there.
    pub(super) async fn connect(hosts: &[String], n: usize) -> anyhow::Result<Self> {
        // Clients are spread over the servers, as each shuffles the list for itself.
        let client = zookeeper_client::Client::connect(&hosts.join(",")).await?;
        for parent in ["/keys", "/locks"] {
            make(&client, parent).await?;
        }
        make(&client, &key(n)).await?;
        make(&client, &lock(n)).await?;
        Ok(Client { client })
    }

    pub(super) async fn cycle(&mut self, lock: &str) -> anyhow::Result<()> {
        let sequential = CreateMode::EphemeralSequential.with_acls(Acls::anyone_all());
        let (_, sequence) = self.client.create(&format!("{lock}/n-"), &[], &sequential).await?;
        let mine = format!("n-{sequence}");
        loop {
            let mut names = self.client.list_children(lock).await?;
            names.sort_unstable();
            let at = names.iter().position(|name| *name == mine).context("the own node is there")?;
            let Some(before) = at.checked_sub(1) else { break };
            let (stat, gone) = self.client.check_and_watch_stat(&format!("{lock}/{}", names[before])).await?;
            if stat.is_some() {
                gone.changed().await;
            }
        }
        Ok(self.client.delete(&format!("{lock}/{mine}"), None).await?)
    }

    pub(super) async fn write(&mut self, key: &str, value: &[u8]) -> anyhow::Result<()> {
        self.client.set_data(key, value, None).await?;
        Ok(())
    }

    pub(super) async fn read(&mut self, key: &str) -> anyhow::Result<Vec<u8>> {
        // Both are on their way at once; the server does them in order.
        let (sync, read) = (self.client.sync(key), self.client.get_data(key));
        sync.await?;
        Ok(read.await?.0)
    }
}

pub(super) struct Cluster {
    pub(super) servers: Servers,
    ports: [u16; SERVERS],
}

impl Cluster {
    pub(super) async fn start(directory: &Path) -> anyhow::Result<Self> {
        let java = installed("java", &["/usr/bin/java"])?;
        let library = installed("ZooKeeper (Debian: zookeeper)", &["/usr/share/java/zookeeper.jar"])?;
        std::fs::create_dir_all(directory)?;
        let ports = free_ports::<{ 3 * SERVERS }>()?;
        let mut commands = Vec::new();
        for n in 0..SERVERS {
            let file = configure(directory, n, &ports)?;
            let arguments = [
                "-Xmx512m".to_owned(),
                "-cp".to_owned(),
                library.display().to_string(),
                "org.apache.zookeeper.server.quorum.QuorumPeerMain".to_owned(),
                file.display().to_string(),
            ];
            commands.push((java.clone(), arguments.to_vec()));
        }
        let servers = Servers::start(directory, commands)?;
        let mut cluster = Self { servers, ports: std::array::from_fn(|n| ports[n]) };
        for server in 0..SERVERS {
            cluster.ready(server).await?;
        }
        let client = cluster.client(0).await?;
        for directory in ["/keys", "/locks"] {
            make(&client.client, directory).await?;
        }
        make(&client.client, ONE_LOCK).await?;
        Ok(cluster)
    }

    pub(super) async fn client(&mut self, n: usize) -> anyhow::Result<Client> {
        Client::connect(&self.hosts(), n).await
    }

    /// Where its servers answer.
    pub(super) fn hosts(&self) -> Vec<String> {
        self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect()
    }

    pub(super) async fn leader(&self) -> anyhow::Result<usize> {
        for (n, port) in self.ports.iter().enumerate() {
            if word(*port, "srvr").await.is_ok_and(|answer| answer.contains("Mode: leader")) {
                return Ok(n);
            }
        }
        anyhow::bail!("no server of ZooKeeper leads")
    }

    async fn ready(&self, server: usize) -> anyhow::Result<()> {
        let port = self.ports[server];
        until_ready("ZooKeeper", async || {
            let answer = word(port, "srvr").await?;
            ensure!(answer.contains("Mode: "), "it says {answer:?}");
            Ok(())
        })
        .await
    }

    pub(super) async fn restart(&mut self, server: usize) -> anyhow::Result<()> {
        self.servers.launch(server)?;
        self.ready(server).await
    }
}

/// Writes a server's configuration and its number.
fn configure(directory: &Path, n: usize, ports: &[u16; 3 * SERVERS]) -> anyhow::Result<PathBuf> {
    let data = directory.join(n.to_string());
    std::fs::create_dir_all(&data)?;
    std::fs::write(data.join("myid"), (n + 1).to_string())?;
    let mut text = format!(
        "tickTime={TICK_MS}\ninitLimit=10\nsyncLimit=5\ndataDir={}\nclientPort={}\nclientPortAddress=127.0.0.1\n\
         maxClientCnxns=0\nadmin.enableServer=false\n4lw.commands.whitelist=srvr\n",
        data.display(),
        ports[n]
    );
    for other in 0..SERVERS {
        let (follow, elect) = (ports[SERVERS + 2 * other], ports[SERVERS + 2 * other + 1]);
        text += &format!("server.{}=127.0.0.1:{follow}:{elect}\n", other + 1);
    }
    let file = directory.join(format!("{n}.cfg"));
    std::fs::write(&file, text)?;
    Ok(file)
}

async fn make(client: &zookeeper_client::Client, path: &str) -> anyhow::Result<()> {
    match client.create(path, &[], &CreateMode::Persistent.with_acls(Acls::anyone_all())).await {
        Ok(_) | Err(Error::NodeExists) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// One of its four-letter words.
async fn word(port: u16, word: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(word.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
