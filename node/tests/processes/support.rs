//! Processes and conditions.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

#[allow(clippy::disallowed_methods, reason = "a test's own deadline")]
fn now() -> Instant {
    Instant::now()
}

#[allow(clippy::disallowed_methods, reason = "a pause between two looks at a condition")]
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

/// Looks again and again until there is something to see.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        pause();
    }
}

/// A data directory and the commands that work on it.
pub(crate) struct Home {
    parent: tempfile::TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self { parent: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.parent.path().join("data")
    }

    pub(crate) fn parent(&self) -> &Path {
        self.parent.path()
    }

    /// A home with a store and its space `default`, and no peer running.
    pub(crate) fn with_store() -> Self {
        let home = Self::new();
        home.ok(&["space", "create", "default"]);
        home
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_foreshore"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("FORESHORE_")) {
            command.env_remove(name);
        }
        command.current_dir(self.parent()).args(["--data", "data"]).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that succeeds; what it printed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {}: {error}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command with `--json` that succeeds; the value it printed.
    pub(crate) fn json(&self, arguments: &[&str]) -> Json {
        serde_json::from_str(&self.ok(&[&["--json"], arguments].concat())).unwrap()
    }

    /// Runs a command that fails with a status; what it said.
    pub(crate) fn fails(&self, status: i32, arguments: &[&str]) -> String {
        refuses(self.output(arguments), status, arguments)
    }

    /// Runs a command with something on its standard input.
    pub(crate) fn feed(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Starts a peer that listens on TCP and HTTP ports of the system's choice.
    pub(crate) fn run(&self) -> Running {
        self.run_with(&["--listen", "/ip4/127.0.0.1/tcp/0", "--http", "127.0.0.1:0"])
    }

    pub(crate) fn run_with(&self, arguments: &[&str]) -> Running {
        let mut child = self.command(&[&["--json", "run"], arguments].concat()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        let ready: Json = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}"));
        assert_eq!(ready["event"], "ready");
        Running { child, lines, status: ready["status"].clone() }
    }
}

/// Checks that a command failed as it should; what it said.
pub(crate) fn refuses(output: Output, status: i32, what: &[&str]) -> String {
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(status), "{what:?}: {error}");
    assert!(!error.contains("panicked"), "{what:?}: {error}");
    error
}

/// A process that prints lines.
pub(crate) struct Running {
    pub(crate) child: Child,
    lines: BufReader<ChildStdout>,
    /// What a peer said when it was ready.
    pub(crate) status: Json,
}

impl Running {
    /// A command that prints a line for each thing that happens.
    pub(crate) fn follow(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines, status: Json::Null }
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line
    }

    /// The first line that comes while something is done again and again: whatever listens has begun to.
    pub(crate) fn line_while(&mut self, mut again: impl FnMut()) -> String {
        std::thread::scope(|scope| {
            let line = scope.spawn(|| self.line());
            until("a line", || {
                again();
                line.is_finished().then_some(())
            });
            line.join().unwrap()
        })
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for its end; the exit status.
    pub(crate) fn end(&mut self) -> Option<i32> {
        until("the process ends", || self.child.try_wait().unwrap()).code()
    }

    /// Stops a peer as a service manager does.
    pub(crate) fn stop(mut self) {
        self.signal(rustix::process::Signal::TERM);
        assert_eq!(self.end(), Some(0));
    }

    /// Ends it as a power cut does, short of the disk.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes a home's store a member that may vote, before its peer runs.
pub(crate) fn join_as_voter(host: &Home, guest: &Home) {
    for role in ["writer", "voter"] {
        let invitation = host.ok(&["invite", "--print", "--role", role]);
        guest.ok(&["join", "--name", "default", invitation.trim()]);
    }
}

/// Three peers that vote in one space, the first one leading.
pub(crate) fn trio() -> ([Home; 3], [Running; 3]) {
    let homes: [Home; 3] = std::array::from_fn(|_| Home::new());
    let first = homes[0].run();
    let others = [1, 2].map(|n| {
        join_as_voter(&homes[0], &homes[n]);
        let peer = homes[n].run();
        let id = peer_id(&peer.status);
        until("the newcomer is linked", || homes[0].ok(&["--json", "peers"]).contains(&id).then_some(()));
        homes[0].ok(&["voters", "add", &id]);
        peer
    });
    for home in &homes {
        until("everybody knows the three", || {
            let group = home.json(&["voters"]);
            let voters = group["members"].as_array().unwrap().iter().filter(|member| member["votes"] == true).count();
            (voters == 3 && group["leader"].is_string()).then_some(())
        });
    }
    let [second, third] = others;
    (homes, [first, second, third])
}

/// The id in a status.
pub(crate) fn peer_id(status: &Json) -> String {
    status["peer"].as_str().unwrap().to_owned()
}

/// A GET on the peer's HTTP port: the whole answer.
pub(crate) fn get(status: &Json, path: &str) -> String {
    use std::io::Read;
    let address = status["http"].as_str().unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
