//! The HTTP door, by clients that nobody here wrote: Schemathesis, and the lines of `docs/http.md`, by `curl`.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use foreshore_tests::http::{Door, curl, schemathesis};
use foreshore_tests::is_long;

const PEER: &str = env!("CARGO_BIN_EXE_foreshore-peer");

/// How long a line that is documented has to be said.
const PATIENCE_S: u32 = 60;

#[test]
fn schemathesis_finds_nothing() {
    let program = match schemathesis(env!("CARGO_TARGET_TMPDIR")) {
        Ok(program) => program,
        Err(why) => return println!("NOT TESTED: the HTTP door by Schemathesis: {why}"),
    };
    let door = Door::start(PEER, &[]);
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("http");
    let directory = tempfile::tempdir().expect("a directory");
    let examples = if is_long() { "200" } else { "20" };
    let output = Command::new(program)
        .current_dir(directory.path())
        .arg("--config-file")
        .arg(here.join("schemathesis.toml"))
        .arg("run")
        .arg(format!("http://{}/openapi.json", door.address))
        .args(["--max-examples", examples, "--request-timeout", "30", "--no-color", "--seed", "1"])
        .env("SCHEMATHESIS_HOOKS", "hooks")
        .env("PYTHONPATH", &here)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("FORESHORE_BOOKMARK", bookmark(&door))
        .output()
        .expect("Schemathesis starts");
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "Schemathesis found something");
    let operations = said.lines().find_map(|line| line.trim().strip_prefix("Tested: ")).expect("it says how many");
    assert!(operations.trim().parse::<u32>().expect("a number") >= 29, "{operations} operations were tested");
}

/// A bookmark that the peer gives.
fn bookmark(door: &Door) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(&door.address).expect("a connection");
    let body = r#"{"n":1}"#;
    let request = format!(
        "PUT /v1/documents/seen HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).expect("it is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let found = answer.lines().find_map(|line| line.strip_prefix("foreshore-bookmark: "));
    found.expect("a write has a bookmark").to_owned()
}

/// One command of the documentation, and what it is said to print.
struct Documented {
    command: String,
    prints: Vec<String>,
}

/// The blocks of commands, in their order.
fn blocks(text: &str) -> Vec<Vec<Documented>> {
    let mut blocks = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        match (line, inside) {
            ("```console", false) => {
                inside = true;
                blocks.push(Vec::new());
            }
            ("```", true) => inside = false,
            (line, true) => {
                let block: &mut Vec<Documented> = blocks.last_mut().expect("it is inside of one");
                match line.strip_prefix("$ ") {
                    Some(command) => block.push(Documented { command: command.into(), prints: Vec::new() }),
                    None => block.last_mut().expect("a command comes first").prints.push(line.into()),
                }
            }
            _ => {}
        }
    }
    blocks
}

/// Whether a line is what a pattern says, in which `…` stands for anything.
fn fits(line: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let mut last = None;
    for part in parts {
        if let Some(part) = last.replace(part) {
            match rest.split_once(part) {
                Some((_, after)) => rest = after,
                None => return false,
            }
        }
    }
    last.map_or(rest.is_empty(), |last| rest.ends_with(last))
}

#[test]
fn patterns_say_what_they_say() {
    assert!(fits("abc", "abc") && fits("abc", "a…c") && fits("abcbc", "a…c") && fits("", "…") && fits("x", "…x…"));
    assert!(!fits("abc", "ab") && !fits("abc", "b…") && !fits("abc", "…b") && !fits("abc", "a…x…c"));
}

struct Shell {
    home: PathBuf,
    variables: BTreeMap<String, String>,
    /// Streams, which go on until the block that began them is over.
    streams: Vec<Child>,
}

impl Shell {
    fn run(&mut self, line: &Documented) {
        let name = line.command.split_once('=').map(|(name, _)| name.to_owned());
        let name = name.filter(|name| name.bytes().all(|byte| byte.is_ascii_uppercase()));
        // A variable is kept for the commands that follow.
        let text = match &name {
            Some(name) => format!("{}; printf '%s\\n' \"${name}\"", line.command),
            None => line.command.clone(),
        };
        let is_stream = line.command.starts_with("curl -N");
        let mut command = Command::new("timeout");
        command.args([&PATIENCE_S.to_string(), "bash", "-c", &format!("exec 2>&1; {text}")]).current_dir(&self.home);
        command.envs(&self.variables).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("bash starts");
        let mut said = Vec::new();
        let mut wanted = line.prints.iter();
        let mut next = wanted.next();
        for printed in BufReader::new(child.stdout.take().expect("it is piped")).lines() {
            let printed = printed.expect("text");
            let printed = printed.trim_end_matches('\r');
            if next.is_some_and(|pattern| fits(printed, pattern)) {
                next = wanted.next();
            }
            said.push(printed.to_owned());
            if is_stream && next.is_none() {
                self.streams.push(child);
                return;
            }
        }
        let status = child.wait().expect("it ends");
        assert!(status.success() && next.is_none(), "{}: {status}: {said:#?}, without {next:?}", line.command);
        if let Some(name) = name {
            let value = said.join("\n");
            assert!(!value.is_empty(), "{} is empty", line.command);
            self.variables.insert(name, value);
        }
    }

    fn end_streams(&mut self) {
        for mut stream in self.streams.drain(..) {
            // `timeout` hands the signal on to what it runs, which a kill of itself would not end.
            let _ = Command::new("kill").arg(stream.id().to_string()).status();
            stream.wait().expect("it ends");
        }
    }
}

#[test]
fn every_line_of_the_documentation_does_what_it_says() {
    if let Err(why) = curl() {
        return println!("NOT TESTED: the lines of docs/http.md: {why}");
    }
    let door = Door::start(PEER, &[]);
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/http.md")).expect("the page");
    let directory = tempfile::tempdir().expect("a directory");
    let bin = directory.path().join("bin");
    std::fs::create_dir(&bin).expect("a directory");
    std::os::unix::fs::symlink(PEER, bin.join("foreshore")).expect("a link");
    std::fs::write(directory.path().join(".curlrc"), "silent\nshow-error\nwrite-out = \"\\n\"\n").expect("a file");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let variables = [
        ("PATH", path),
        ("FORESHORE_DATA", door.data.display().to_string()),
        ("CURL_HOME", directory.path().display().to_string()),
    ];
    let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let mut shell = Shell { home: directory.path().to_owned(), variables, streams: Vec::new() };
    let mut commands = 0;
    for block in blocks(&text.replace("127.0.0.1:4800", &door.address)) {
        for line in &block {
            println!("$ {}", line.command);
            shell.run(line);
            commands += 1;
        }
        shell.end_streams();
    }
    assert!(commands > 25, "{commands} commands were found");
}
