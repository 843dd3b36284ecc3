//! Processes of somebody else's servers.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::process::{Child, Command};

/// A server that is not ready after that will not be.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(100);

/// Servers of one system, each with the command that starts it.
pub(super) struct Servers {
    commands: Vec<(PathBuf, Vec<String>)>,
    children: Vec<Option<Child>>,
    log: PathBuf,
}

impl Servers {
    /// Starts a process for each command line; what they print goes to files in `directory`.
    pub(super) fn start(directory: &Path, commands: Vec<(PathBuf, Vec<String>)>) -> anyhow::Result<Self> {
        let children = commands.iter().map(|_| None).collect();
        let mut servers = Self { commands, children, log: directory.to_path_buf() };
        (0..servers.commands.len()).try_for_each(|server| servers.launch(server))?;
        Ok(servers)
    }

    pub(super) fn launch(&mut self, server: usize) -> anyhow::Result<()> {
        let (program, arguments) = &self.commands[server];
        let log = std::fs::File::options().create(true).append(true).open(self.log.join(format!("{server}.log")))?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} does not start", program.display()))?;
        self.children[server] = Some(child);
        Ok(())
    }

    pub(super) async fn kill(&mut self, server: usize) -> anyhow::Result<()> {
        let mut child = self.children[server].take().context("it is dead already")?;
        Ok(child.kill().await?)
    }
}

/// Ports that nobody listened on a moment ago.
pub(super) fn free_ports<const N: usize>() -> anyhow::Result<[u16; N]> {
    let mut listeners = Vec::new();
    for _ in 0..N {
        listeners.push(TcpListener::bind("127.0.0.1:0")?);
    }
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

/// The first of these files that exists.
pub(super) fn installed(what: &str, places: &[&str]) -> anyhow::Result<PathBuf> {
    let found = places.iter().map(Path::new).find(|path| path.exists());
    found
        .map(Path::to_path_buf)
        .with_context(|| format!("{what} is not installed: none of {} is there", places.join(", ")))
}

/// Asks until the answer is not an error.
pub(super) async fn until_ready<T>(what: &str, mut ask: impl AsyncFnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let began = Instant::now();
    loop {
        let why = match ask().await {
            Ok(answer) => return Ok(answer),
            Err(why) => why,
        };
        if began.elapsed() > PATIENCE {
            bail!("{what} is not ready: {why:#}");
        }
        tokio::time::sleep(LOOK).await;
    }
}
