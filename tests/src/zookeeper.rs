//! What tests of ZooKeeper's door need: a raw client, Debian's server, and whether real clients are there.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use foreshore_node::doors::zookeeper::jute::{Reader, Writer};

use crate::netns::Process;
use crate::voters::{PATIENCE, until};

/// Where Debian keeps ZooKeeper's classes.
const JAR: &str = "/usr/share/java/zookeeper.jar";

/// One connection, byte by byte.
#[derive(Debug)]
pub struct Raw {
    /// The socket.
    pub stream: TcpStream,
    /// The session's number; 0: there is none.
    pub session: i64,
    /// Its password.
    pub password: Vec<u8>,
    /// How long it lives without a sign of life, in milliseconds.
    pub timeout_ms: i32,
    xid: i32,
}

/// What a request came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The newest entry.
    pub zxid: i64,
    /// ZooKeeper's number of the error.
    pub error: i32,
    /// What follows the header.
    pub body: Vec<u8>,
}

impl Raw {
    /// A connection with a new session.
    pub fn open(address: &str) -> io::Result<Self> {
        Self::attach(address, 0, &[0; 16])
    }

    /// A connection for a session that there is.
    pub fn attach(address: &str, session: i64, password: &[u8]) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut raw = Self { stream, session: 0, password: Vec::new(), timeout_ms: 0, xid: 0 };
        let mut w = Writer::default();
        w.i32(0).i64(0).i32(10_000).i64(session).buffer(password).bool(false);
        raw.stream.write_all(&w.frame())?;
        let frame = raw.frame()?;
        let mut r = Reader::new(&frame);
        let mut read = || {
            r.i32("version")?;
            let (timeout, session) = (r.i32("timeout")?, r.i64("session")?);
            Ok((timeout, session, r.buffer("password")?.unwrap_or_default().to_vec()))
        };
        (raw.timeout_ms, raw.session, raw.password) = read().map_err(malformed)?;
        Ok(raw)
    }

    /// The next frame.
    pub fn frame(&mut self) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame)?;
        Ok(frame)
    }

    /// Sends a request and does not wait; its number.
    pub fn send(&mut self, code: i32, body: impl FnOnce(&mut Writer)) -> io::Result<i32> {
        self.xid += 1;
        let mut w = Writer::default();
        w.i32(self.xid).i32(code);
        body(&mut w);
        self.stream.write_all(&w.frame())?;
        Ok(self.xid)
    }

    /// The next answer and its number. Events are left out.
    pub fn answer(&mut self) -> io::Result<(i32, Answer)> {
        loop {
            let frame = self.frame()?;
            let mut r = Reader::new(&frame);
            let mut read = || Ok((r.i32("xid")?, r.i64("zxid")?, r.i32("error")?));
            let (xid, zxid, error) = read().map_err(malformed)?;
            if xid != -1 {
                let body = frame[frame.len() - r.remaining()..].to_vec();
                return Ok((xid, Answer { zxid, error, body }));
            }
        }
    }

    /// Asks, and waits for the answer.
    pub fn ask(&mut self, code: i32, body: impl FnOnce(&mut Writer)) -> io::Result<Answer> {
        let asked = self.send(code, body)?;
        let (xid, answer) = self.answer()?;
        assert_eq!(xid, asked, "answers come in the order of requests");
        Ok(answer)
    }

    /// Creates a node for everybody; the error's number.
    pub fn create(&mut self, path: &str, data: &[u8], flags: i32) -> io::Result<i32> {
        let answer = self.ask(1, |w| {
            w.string(path).buffer(data).list(&[31], |w, perms| {
                w.i32(*perms).string("world").string("anyone");
            });
            w.i32(flags);
        });
        answer.map(|answer| answer.error)
    }

    /// Asks for a node's data.
    pub fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.ask(4, |w| {
            w.string(path).bool(false);
        })
    }

    /// Waits until everything that was acknowledged to anyone can be read here.
    pub fn sync(&mut self) -> io::Result<Answer> {
        self.ask(9, |w| {
            w.string("/");
        })
    }

    /// Whether the server has closed the connection, which is waited for.
    pub fn is_closed(&mut self) -> bool {
        let mut rest = [0; 4096];
        loop {
            match self.stream.read(&mut rest) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return true,
                Err(_) => return false,
            }
        }
    }
}

fn malformed(error: foreshore_node::doors::zookeeper::jute::JuteError) -> io::Error {
    io::Error::other(error)
}

/// The answer to a four-letter word.
pub fn word(address: &str, word: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(word.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Python with kazoo, or why there is none. `cargo xtask test` makes it, beside what cargo keeps for tests.
pub fn kazoo(temporary: &str) -> Result<PathBuf, String> {
    let python = Path::new(temporary).with_file_name("kazoo").join("bin/python");
    if python.exists() { Ok(python) } else { Err(format!("{} is not there", python.display())) }
}

/// Whether Debian's ZooKeeper is there.
pub fn has_debian() -> Result<(), String> {
    for file in [JAR, "/usr/bin/java"] {
        if !Path::new(file).exists() {
            return Err(format!("{file} is not there (Debian: zookeeper, default-jre-headless)"));
        }
    }
    Ok(())
}

/// Debian's ZooKeeper, one server with its files in memory where there is room for that.
#[derive(Debug)]
pub struct Debian {
    _process: Process,
    /// Where it answers.
    pub address: String,
}

impl Debian {
    /// Starts it, and waits until it answers.
    pub fn start(directory: &Path, port: u16) -> Self {
        let file = directory.join("zoo.cfg");
        let text = format!(
            "tickTime=2000\ndataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\nmaxClientCnxns=0\n\
             admin.enableServer=false\n4lw.commands.whitelist=*\nextendedTypesEnabled=true\n",
            directory.join("data").display()
        );
        std::fs::write(&file, text).expect("its configuration");
        let log = std::fs::File::create(directory.join("debian.log")).expect("a log");
        let child = Command::new("/usr/bin/java")
            .args(["-Xmx400m", "-Dzookeeper.extendedTypesEnabled=true", "-Dzookeeper.forceSync=no", "-cp", JAR])
            .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
            .arg(&file)
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("java starts");
        let address = format!("127.0.0.1:{port}");
        let debian = Self { _process: Process(child), address };
        until("ZooKeeper answers", || {
            word(&debian.address, "srvr").is_ok_and(|text| text.contains("Mode")).then_some(())
        });
        debian
    }
}

/// Runs ZooKeeper's command line client on a script, and gives back what it printed.
pub fn command_line(directory: &Path, address: &str, script: &str) -> String {
    let file = directory.join("script");
    std::fs::write(&file, script).expect("a script");
    let output = Command::new("/usr/bin/java")
        .args(["-Xmx200m", "-cp", JAR, "org.apache.zookeeper.ZooKeeperMain", "-server", address])
        .stdin(std::fs::File::open(&file).expect("the script"))
        .output()
        .expect("java starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}
