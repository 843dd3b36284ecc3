//! ZooKeeper's door, by clients that nobody here wrote, and by bytes that no client writes.

use std::io::{BufRead, BufReader, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use foreshore_tests::is_long;
use foreshore_tests::netns::{Process, clean};
use foreshore_tests::voters::{Voters, free_port, until};
use foreshore_tests::zookeeper::{Debian, Raw, command_line, has_debian, kazoo, word};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

const PEER: &str = env!("CARGO_BIN_EXE_foreshore-peer");

const EXISTS: i32 = 3;
const GET_DATA: i32 = 4;
const SET_DATA: i32 = 5;

const NO_NODE: i32 = -101;

/// Peers that vote, each with its door.
fn peers(count: usize, storage: &str) -> (Voters, Vec<String>) {
    let doors: Vec<String> = (0..count).map(|_| format!("127.0.0.1:{}", free_port())).collect();
    let variables = |number: usize| {
        vec![
            ("FORESHORE_ZOOKEEPER".to_owned(), PathBuf::from(&doors[number])),
            ("FORESHORE_STORAGE".to_owned(), PathBuf::from(storage)),
        ]
    };
    let voters = Voters::start(PEER, count, None, variables);
    (voters, doors)
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("zookeeper").join(name)
}

fn exists(client: &mut Raw, path: &str) -> i32 {
    let answer = client.ask(EXISTS, |w| {
        w.string(path).bool(false);
    });
    answer.expect("an answer").error
}

#[test]
fn bytes_that_no_client_writes_harm_nobody() {
    let (voters, doors) = peers(1, "redb");
    let door = doors[0].as_str();
    let mut honest = Raw::open(door).expect("a session");
    assert_eq!(honest.create("/a", b"x", 0).expect("an answer"), 0);

    // Half a frame, and silence; a length that is nobody's; frames that are longer than a frame may be.
    let mut half = TcpStream::connect(door).expect("a connection");
    half.write_all(&[0, 0, 0, 45, 0, 0]).expect("half a frame");
    for first in [[0x7f, 0xff, 0xff, 0xff], [0xff, 0xff, 0xff, 0xff], [0, 0x10, 0, 0]] {
        let mut raw = Raw::open(door).expect("a session");
        raw.stream.write_all(&first).expect("it is sent");
        assert!(raw.is_closed(), "{first:?} is no length of a frame");
        let mut stream = TcpStream::connect(door).expect("a connection");
        stream.write_all(&first).expect("it is sent");
        let closed = std::io::copy(&mut stream, &mut std::io::sink());
        assert_eq!(closed.unwrap_or(0), 0, "{first:?} is no length of a first frame");
    }
    let mut raw = Raw::open(door).expect("a session");
    raw.stream.write_all(&[0, 0, 0, 3, 1, 2, 3]).expect("it is sent");
    assert!(raw.is_closed(), "a frame without a header ends the connection");

    // The longest frame that there is: 8 bytes of header, 6 of the path, 4 of the data's length, 4 of the version.
    let longest = vec![7; 0xf_ffff - 22];
    let set = |client: &mut Raw, data: &[u8]| {
        client.ask(SET_DATA, |w| {
            w.string("/a").buffer(data).i32(-1);
        })
    };
    assert_eq!(set(&mut honest, &longest).expect("an answer").error, 0);
    let mut raw = Raw::open(door).expect("a session");
    // It may be gone before all of it is sent.
    let refused = set(&mut raw, &vec![7; 0xf_ffff - 21]);
    assert!(refused.is_err() && raw.is_closed(), "a byte more is too much");

    // Whatever: each of these is answered or disconnected.
    let mut dice = ChaCha12Rng::seed_from_u64(7);
    for _ in 0..200 {
        let mut raw = Raw::open(door).expect("a session");
        let mut bytes = vec![0; 8 + dice.next_u32() as usize % 200];
        dice.fill_bytes(&mut bytes);
        let code = [1, 2, 3, 4, 5, 7, 14, 15, 21, 22, 100, 101, 105, 106][dice.next_u32() as usize % 14];
        let sent = raw.send(code, |w| {
            w.raw(&bytes);
        });
        assert!(sent.is_ok() && (raw.answer().is_ok() || raw.is_closed()));
    }

    // Much at once for somebody who does not read: it is not fetched before there is room for it.
    let mut flood = Raw::open(door).expect("a session");
    let asked = 300;
    for _ in 0..asked {
        let sent = flood.send(GET_DATA, |w| {
            w.string("/a").bool(false);
        });
        sent.expect("it is taken");
    }
    assert_eq!(exists(&mut honest, "/a"), 0);
    let status: serde_json::Value = serde_json::from_str(&voters.voters[0].ok(&["--json", "status"])).expect("JSON");
    let resident = status["resident_bytes"].as_u64().expect("a number of bytes");
    assert!(resident < 250 << 20, "{resident} bytes for answers of {} that nobody reads", asked << 20);
    for xid in 1..=asked {
        let (found, answer) = flood.answer().expect("an answer");
        assert_eq!((found, answer.error), (xid, 0));
        assert!(answer.body.len() > longest.len());
    }

    for (asked, told) in [
        ("ruok", "imok"),
        ("srvr", "Mode: standalone"),
        ("stat", "Clients:"),
        ("mntr", "zk_znode_count\t2"),
        ("isro", "rw"),
        ("envi", "zookeeper.version=3.8"),
        ("conf", "clientPort="),
        ("cons", ",sid=0x"),
        ("wchs", "connections watching"),
    ] {
        let text = word(door, asked).expect("a word is answered");
        assert!(text.contains(told), "{asked}: {text}");
    }
    assert_eq!(set(&mut honest, b"still").expect("an answer").error, 0);
    drop((half, voters));
}

/// A peer of the space that does not vote, with a door.
fn bystander(voters: &Voters, data: &Path, door: &str) -> Process {
    let first = &voters.voters[0];
    let invitation = first.ok(&["invite", "--print", "--address", &first.listen]);
    let mut join = Command::new(PEER);
    let joined =
        clean(&mut join).arg("--data").arg(data).args(["join", "--name", "default", invitation.trim()]).output();
    assert!(joined.expect("the binary").status.success());
    let mut run = Command::new(PEER);
    clean(&mut run).arg("--data").arg(data).args(["--json", "run", "--http", "off", "--listen", "off"]);
    run.args(voters.addresses().iter().flat_map(|address| ["--dial", address])).args(["--zookeeper", door]);
    let mut child = run.stderr(Stdio::null()).spawn().expect("the binary");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line).expect("it says that it is ready");
    assert!(line.contains("\"ready\""), "{line}");
    Process(child)
}

#[test]
fn a_session_moves_between_peers_and_none_hangs_without_a_majority() {
    let (mut voters, mut doors) = peers(3, "redb");
    let home = tempfile::tempdir().expect("a directory");
    doors.push(format!("127.0.0.1:{}", free_port()));
    let _bystander = bystander(&voters, home.path(), &doors[3]);

    let mut first = Raw::open(&doors[0]).expect("a session");
    let (session, password) = (first.session, first.password.clone());
    assert_eq!(first.create("/mine", b"x", 1).expect("an answer"), 0);
    // From peer to peer, the one that does not vote included, each connection taking the session from the one before.
    let mut before = first;
    for door in [&doors[1], &doors[3], &doors[2], &doors[3], &doors[0]] {
        // The peer that does not vote may not have found the voters yet.
        let mut next = until("the session is attached", || Raw::attach(door, session, &password).ok());
        assert_eq!(next.session, session, "at {door}");
        assert_eq!(next.sync().expect("an answer").error, 0);
        assert_eq!(exists(&mut next, "/mine"), 0);
        assert!(before.is_closed(), "the connection before {door} ends");
        before = next;
    }
    // Not without the password, and nothing is taken from whoever has it.
    let thief = Raw::attach(&doors[1], session, &[1; 16]).expect("an answer");
    assert_eq!((thief.session, thief.timeout_ms), (0, 0));
    assert_eq!(exists(&mut before, "/mine"), 0);
    // What one writes another reads after `sync`, whichever door it is.
    let mut other = Raw::open(&doors[3]).expect("a session");
    for n in 0..20 {
        assert_eq!(before.create(&format!("/n{n}"), b"", 0).expect("an answer"), 0);
        other.sync().expect("an answer");
        assert_eq!(exists(&mut other, &format!("/n{n}")), 0);
    }
    before.ask(-11, |_| ()).expect("the session is closed");
    other.sync().expect("an answer");
    assert_eq!(exists(&mut other, "/mine"), NO_NODE);
    let over = Raw::attach(&doors[2], session, &password).expect("an answer");
    assert_eq!((over.session, over.timeout_ms), (0, 0), "a closed session is none");

    // Without a majority nobody is answered, and nobody hangs: the connection ends, and a new one is not served.
    let mut waiting = Raw::open(&doors[0]).expect("a session");
    voters.voters[1].kill();
    voters.voters[2].kill();
    let _ = waiting.send(SET_DATA, |w| {
        w.string("/n0").buffer(b"lost?").i32(-1);
    });
    assert!(waiting.is_closed(), "a client without a majority is disconnected");
    until("the door says so", || {
        word(&doors[0], "srvr").is_ok_and(|text| text.contains("not currently")).then_some(())
    });
    voters.restart(1);
    voters.restart(2);
    let mut again = until("there is a majority again", || {
        Raw::attach(&doors[0], waiting.session, &waiting.password)
            .ok()
            .filter(|raw| raw.session != 0)
            .or_else(|| Raw::open(&doors[0]).ok())
    });
    assert_eq!(again.get("/n0").expect("an answer").error, 0);
}

#[test]
fn kazoo_and_all_its_recipes_work_across_the_death_of_the_leader() {
    let python = match kazoo(env!("CARGO_TARGET_TMPDIR")) {
        Ok(python) => python,
        Err(why) => return println!("NOT TESTED: kazoo: {why}"),
    };
    let (mut voters, doors) = peers(3, "redb");
    let mut child = Command::new(python)
        .arg(script("recipes.py"))
        .arg(doors.join(","))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python starts");
    let mut input = child.stdin.take().expect("it is piped");
    let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let mut process = Process(child);
    let mut said = Vec::new();
    for line in lines {
        let line = line.expect("text");
        println!("{line}");
        if line == "kill the leader" {
            let leader = voters.leader();
            voters.voters[leader].kill();
            writeln!(input, "done").expect("it listens");
        }
        said.push(line);
    }
    let ended = process.0.wait().expect("a child can be waited for");
    assert!(ended.success(), "kazoo: {said:#?}");
    assert!(said.iter().any(|line| line.starts_with("across a kill: ok")), "{said:#?}");
    for number in 0..3 {
        if voters.voters[number].group().is_none() {
            voters.restart(number);
        }
    }
    voters.wait_whole();
    voters.agree();
}

#[test]
fn generated_sequences_are_answered_as_debians_zookeeper_answers_them() {
    if let Err(why) = has_debian() {
        return println!("NOT TESTED: comparison with ZooKeeper: {why}");
    }
    let home = tempfile::tempdir().expect("a directory");
    let debian = Debian::start(home.path(), free_port());
    let (_voters, doors) = peers(1, "memory");
    // One after the other with every zxid compared, then long ones side by side.
    let times = if is_long() { 10 } else { 1 };
    for (seed, sequences, workers, length) in [(1, 500 * times, 1, 24), (1_000_000, 2_500 * times, 6, 40)] {
        let numbers = [seed, sequences, workers, length].map(|number: u64| number.to_string());
        let mut compare = Command::new("python3");
        compare.arg(script("compare.py")).arg(&doors[0]).arg(&debian.address).args(numbers);
        let output = compare.output().expect("python3");
        let text = String::from_utf8_lossy(&output.stdout);
        println!("{text}");
        assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    }
}

const COMMANDS: &str = "\
create /cli data
get -s /cli
set -s /cli other
get /cli
set -v 0 /cli never
create -e /cli/mine x
create -e /cli/mine/child x
create -s /cli/s- y
create -s -e /cli/s- z
create -c /cli/container
create -c /cli/container/inner
create -t 100000 /cli/ttl z
ls -s /cli
ls -R /cli
stat /cli
getAllChildrenNumber /cli
getEphemerals /cli
setAcl -s /cli/ttl world:anyone:r
getAcl -s /cli/ttl
set /cli/ttl never
get /cli/none
delete /cli
addWatch /cli
create /cli/watched 1
set /cli/watched 2
delete /cli/watched
removewatches /cli
addWatch -m PERSISTENT /cli
create /cli/again
get -w /cli
set /cli last
addauth digest joe:secret
create /cli/joes x auth::cdrwa
getAcl /cli/joes
whoami
sync /cli
deleteall /cli
ls /cli
close
quit
";

/// What two servers cannot have alike: zxids, times and who a session is; and whether the command line still says, while it
/// ends, that it has closed its session.
fn alike(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let told =
        |line: &&str| !line.starts_with("Connecting to") && !line.contains("state:Closed") && *line != "WATCHER::";
    for line in text.lines().filter(|line| !line.is_empty()).filter(told) {
        let named = ["cZxid", "mZxid", "pZxid", "ctime", "mtime"].into_iter().find(|name| line.starts_with(name));
        let owner = line.strip_prefix("ephemeralOwner = 0x").filter(|owner| *owner != "0");
        lines.push(match (named, owner) {
            (Some(name), _) => name.to_owned(),
            (_, Some(_)) => "ephemeralOwner = a session".to_owned(),
            _ => line.to_owned(),
        });
    }
    // What comes of its threads, and of its sets, has no order.
    lines.sort();
    lines
}

#[test]
fn zookeepers_command_line_prints_what_it_prints_for_zookeeper() {
    if let Err(why) = has_debian() {
        return println!("NOT TESTED: ZooKeeper's command line: {why}");
    }
    let home = tempfile::tempdir().expect("a directory");
    let debian = Debian::start(home.path(), free_port());
    let (_voters, doors) = peers(1, "memory");
    let [ours, theirs] =
        [doors[0].as_str(), debian.address.as_str()].map(|at| alike(&command_line(home.path(), at, COMMANDS)));
    assert!(theirs.iter().any(|line| line.contains("NodeDeleted")), "{theirs:#?}");
    assert_eq!(ours, theirs);
}
