//! A few `foreshore run` that vote in one space, as processes: started, stopped, killed and started again.

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::netns::{Network, Process, address, clean};

/// Longer than anything takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(50);

/// How long a voter that may be stopped has to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// Looks again and again until there is something to see.
#[allow(clippy::disallowed_methods, reason = "a test's own deadline")]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(began.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(LOOK);
    }
}

/// One peer of a [`Voters`].
#[derive(Debug)]
pub struct Voter {
    /// Its place.
    pub number: usize,
    /// Its data directory.
    pub data: PathBuf,
    /// Its id.
    pub peer: String,
    /// Where others dial it.
    pub listen: String,
    binary: PathBuf,
    namespace: Option<String>,
    variables: Vec<(String, PathBuf)>,
    process: Option<Process>,
}

impl Voter {
    /// Starts its process, which dials these.
    pub fn start(&mut self, others: &[String]) {
        let mut command = match &self.namespace {
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(&self.binary);
                command
            }
            None => Command::new(&self.binary),
        };
        clean(&mut command).arg("--data").arg(&self.data).args(["--json", "run", "--http", "off", "--listen"]);
        command.arg(self.listen.split("/p2p/").next().unwrap_or_default());
        command.args(others.iter().filter(|other| **other != self.listen).flat_map(|other| ["--dial", other]));
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        // Its log goes where a failed test can be looked into.
        let log = self.data.with_extension("log");
        command.stderr(std::fs::File::options().create(true).append(true).open(log).expect("a log"));
        let mut child = command.spawn().expect("the binary is there");
        let mut line = String::new();
        let said = BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line);
        let ready: Json = said
            .map_err(|error| error.to_string())
            .and_then(|_| serde_json::from_str(&line).map_err(|error| error.to_string()))
            .unwrap_or_else(|error| panic!("voter {}: {error}: {line:?}", self.number));
        let status = &ready["status"];
        self.peer = status["peer"].as_str().expect("a status names its peer").to_owned();
        self.listen = status["listen"][0].as_str().expect("it listens").to_owned();
        self.process = Some(Process(child));
    }

    /// Runs a command that succeeds.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(&self.binary);
        let output = clean(&mut command).arg("--data").arg(&self.data).args(arguments).output().expect("the binary");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "voter {}: {arguments:?}: {error}", self.number);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Sends its process a signal.
    pub fn signal(&self, name: &str) {
        self.process.as_ref().expect("it runs").signal(name);
    }

    /// What its process has mapped.
    pub fn maps(&self) -> String {
        let pid = self.process.as_ref().expect("it runs").0.id();
        std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default()
    }

    /// Ends it as a power cut does, short of the disk.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Ends it as a service manager does.
    pub fn stop(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.signal("-TERM");
        let ended = until("the voter stops", || process.0.try_wait().expect("a child can be waited for"));
        assert!(ended.success(), "voter {}: {ended}", self.number);
    }

    /// How it sees the group; `None` if it does not answer.
    pub fn group(&self) -> Option<Json> {
        let mut answers = Answers::ask(&self.data, &json!({ "op": "voters", "space": "" })).ok()?;
        let mut line = answers.next(ANSWER).ok()??;
        line.get_mut("done").map(Json::take)
    }
}

/// What comes back over a control socket.
#[derive(Debug)]
pub struct Answers {
    stream: BufReader<UnixStream>,
    line: Vec<u8>,
}

impl Answers {
    /// Asks the peer of a data directory.
    pub fn ask(data: &Path, request: &Json) -> io::Result<Self> {
        let mut stream = UnixStream::connect(data.join("control.sock"))?;
        stream.set_read_timeout(Some(Duration::from_millis(100)))?;
        stream.write_all(format!("{request}\n").as_bytes())?;
        Ok(Self { stream: BufReader::new(stream), line: Vec::new() })
    }

    /// The next line; `Ok(None)` if none comes in this time.
    #[allow(clippy::disallowed_methods, reason = "a test's own deadline")]
    pub fn next(&mut self, patience: Duration) -> io::Result<Option<Json>> {
        let began = Instant::now();
        loop {
            match self.stream.read_until(b'\n', &mut self.line) {
                Ok(_) if self.line.ends_with(b"\n") => {
                    let line = std::mem::take(&mut self.line);
                    return serde_json::from_slice(&line).map(Some).map_err(io::Error::other);
                }
                Ok(_) => return Err(ErrorKind::UnexpectedEof.into()),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error),
            }
            if began.elapsed() >= patience {
                return Ok(None);
            }
        }
    }

    /// Says that there is no more to come.
    pub fn end(&mut self) -> io::Result<()> {
        self.stream.get_mut().write_all(b"{\"end\":true}\n")
    }
}

/// The peers.
#[derive(Debug)]
pub struct Voters {
    /// By number.
    pub voters: Vec<Voter>,
    /// Dropped last: the stores are in it.
    home: TempDir,
}

impl Drop for Voters {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.home.disable_cleanup(true);
            println!("stores and logs are kept in {}", self.home.path().display());
        }
    }
}

impl Voters {
    /// Starts so many peers that vote in the space `default`; each in its namespace of `network`, or all on loopback.
    /// `variables` are each one's environment.
    pub fn start(
        binary: &str,
        count: usize,
        network: Option<&Network>,
        variables: impl Fn(usize) -> Vec<(String, PathBuf)>,
    ) -> Self {
        let home = tempfile::tempdir().expect("a directory for stores");
        let mut group = Self { voters: Vec::new(), home };
        for number in 0..count {
            let mut voter = Voter {
                number,
                data: group.home.path().join(number.to_string()),
                peer: String::new(),
                listen: match network {
                    Some(_) => format!("/ip4/{}/tcp/4801", address(number)),
                    None => format!("/ip4/127.0.0.1/tcp/{}", free_port()),
                },
                binary: binary.into(),
                namespace: network.map(|network| network.namespace(number)),
                variables: variables(number),
                process: None,
            };
            let others = group.addresses();
            if let Some(first) = group.voters.first() {
                for role in ["writer", "voter"] {
                    let invitation = first.ok(&["invite", "--print", "--role", role, "--address", &first.listen]);
                    voter.ok(&["join", "--name", "default", invitation.trim()]);
                }
            }
            voter.start(&others);
            if let Some(first) = group.voters.first() {
                until("the newcomer is linked", || first.ok(&["--json", "peers"]).contains(&voter.peer).then_some(()));
                first.ok(&["voters", "add", &voter.peer]);
            }
            group.voters.push(voter);
        }
        group.wait_whole();
        group
    }

    /// Where they are dialled.
    pub fn addresses(&self) -> Vec<String> {
        self.voters.iter().map(|voter| voter.listen.clone()).collect()
    }

    /// Starts one again.
    pub fn restart(&mut self, number: usize) {
        let others = self.addresses();
        self.voters[number].start(&others);
    }

    /// Who leads, by the newest term that any of these says it leads in.
    pub fn leader_of(&self, among: impl Iterator<Item = usize>) -> Option<(u64, usize)> {
        let leading = among.filter_map(|number| {
            let group = self.voters[number].group()?;
            (group["role"] == "leader").then(|| group["term"].as_u64().map(|term| (term, number)))?
        });
        leading.max()
    }

    /// Waits until one leads, whoever it is.
    pub fn leader(&self) -> usize {
        until("somebody leads", || self.leader_of(0..self.voters.len())).1
    }

    /// Waits until everybody follows the same leader in the same term, and all of them vote.
    pub fn wait_whole(&self) {
        let count = self.voters.len();
        let mut seen = Vec::new();
        let whole = |seen: &mut Vec<Option<Json>>| {
            *seen = self.voters.iter().map(Voter::group).collect();
            let said: Option<Vec<_>> = seen
                .iter()
                .map(|group| {
                    let group = group.as_ref()?;
                    let votes = group["members"].as_array()?.iter().filter(|member| member["votes"] == true).count();
                    (votes == count).then(|| Some((group["leader"].as_str()?, group["term"].as_u64()?)))?
                })
                .collect();
            said.filter(|said| said.windows(2).all(|pair| pair[0] == pair[1])).map(drop)
        };
        let began = std::cell::Cell::new(0_u32);
        until("everybody follows one leader", || {
            began.set(began.get() + 1);
            if began.get().is_multiple_of(200) {
                println!("still apart: {seen:?}");
            }
            whole(&mut seen)
        });
    }

    /// Waits until all have applied the same entry, and checks that they then have the same state.
    pub fn agree(&self) {
        let states = until("everybody has applied the same", || {
            let groups: Option<Vec<Json>> = self.voters.iter().map(Voter::group).collect();
            let groups = groups?;
            groups.windows(2).all(|pair| pair[0]["applied"] == pair[1]["applied"]).then_some(groups)
        });
        for state in &states[1..] {
            assert_eq!(state["digest"], states[0]["digest"], "{state}, and {}", states[0]);
        }
        assert!(states[0]["digest"].is_string(), "{}", states[0]);
    }
}

/// A port that nobody listens on at the moment.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    listener.expect("loopback has a free port").port()
}
