//! Locks under real faults: voters in network namespaces that are stopped, killed and cut apart while sixteen clients work.
//!
//! Each client asks the peer of its namespace for one lock, over its control socket, and does two things under it:
//!
//! - It reads a set, waits a moment, and writes the set back with a mark of its own. Nothing but the lock keeps two of them
//!   apart, so what two holders at once would do is lose a mark. In the end every acknowledged mark has to be there. A client
//!   writes only while the clock says that it may: as long as its last grant said.
//! - It writes a register that refuses a lesser fencing token than it has seen. A holder of the moment is never refused; one
//!   that was superseded and writes all the same always is.
//!
//! Needs root and `ip` (iproute2); without them it says so and does nothing. A slow disk is a library put before the voters'
//! `fdatasync`, which takes `cc`.
#![allow(clippy::disallowed_methods, reason = "a test's own deadlines")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use foreshore_tests::is_long;
use foreshore_tests::netns::Network;
use foreshore_tests::voters::{Answers, Voters, until};
use serde_json::json;

const CLIENTS: usize = 16;

/// The sessions' time to live: short, so that a lock that was lost is soon free.
const TTL: Duration = Duration::from_secs(2);

/// Marks that have to be made in the course of each fault.
const PROGRESS: u64 = 5;

/// Milliseconds of the clock that grants are counted on. `/proc/uptime` has hundredths, rounded down, so this is late if anything.
fn now_millis() -> u64 {
    let text = std::fs::read_to_string("/proc/uptime").unwrap();
    let (seconds, hundredths) = text.split_whitespace().next().unwrap().split_once('.').unwrap();
    seconds.parse::<u64>().unwrap() * 1000 + hundredths.parse::<u64>().unwrap() * 10 + 10
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A mark: which client, and how often it had made one.
type Mark = (usize, u64);

/// What the lock protects, and what is known of how it was used.
#[derive(Default)]
struct World {
    /// Guarded by the lock alone: read, then written back as a whole.
    set: Mutex<BTreeSet<Mark>>,
    acknowledged: Mutex<Vec<Mark>>,
    register: Mutex<Register>,
    late: Mutex<Vec<Late>>,
    marks: AtomicU64,
    stale: AtomicU64,
    over: AtomicBool,
    /// What went wrong in a client.
    wrong: Mutex<Vec<String>>,
}

/// Refuses a lesser token than it has seen.
#[derive(Default)]
struct Register {
    token: u64,
    /// Writes that were taken.
    writes: u64,
}

impl Register {
    fn write(&mut self, token: u64) -> Result<(), u64> {
        if token < self.token {
            return Err(self.token);
        }
        (self.token, self.writes) = (token, self.writes + 1);
        Ok(())
    }
}

impl World {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn blame(&self, what: String) {
        locked(&self.wrong).push(what);
    }

    /// Waits until more was done, and nothing went wrong.
    fn progress(&self, what: &str) {
        let (from, began) = (self.marks.load(Ordering::Relaxed), Instant::now());
        until(&format!("clients get on: {what}"), || {
            assert_eq!(*locked(&self.wrong), [""; 0], "{what}");
            (self.marks.load(Ordering::Relaxed) >= from + PROGRESS).then_some(())
        });
        println!("{what}: {PROGRESS} marks in {:?}", began.elapsed());
    }
}

/// One client: again and again a lock, a mark and a write.
fn client(number: usize, data: &Path, world: &World) {
    let mut made = 0;
    while !world.is_over() {
        // Refused or unreachable: the fault of the moment.
        if turn((number, made), data, world).is_none() {
            std::thread::sleep(Duration::from_millis(50));
        }
        made += 1;
    }
}

/// `None`: the lock was not had.
fn turn(mark: Mark, data: &Path, world: &World) -> Option<()> {
    let request = json!({
        "op": "lock", "space": "", "path": "/set", "shared": false,
        "wait_millis": 3_000, "ttl_millis": TTL.as_millis() as u64, "delay_millis": 0,
    });
    let mut lock = Answers::ask(data, &request).ok()?;
    let grant = loop {
        match lock.next(Duration::from_secs(1)).ok()? {
            Some(line) => break line.get("item").cloned()?,
            None if world.is_over() => return None,
            None => {}
        }
    };
    let (token, until_ms) = (grant["token"].as_u64()?, grant["until_ms"].as_u64()?);
    let mut set = locked(&world.set).clone();
    std::thread::sleep(Duration::from_millis(1 + (mark.0 as u64 * 7 + mark.1 * 13) % 20));
    set.insert(mark);
    let (held, writes) = {
        let mut shared = locked(&world.set);
        let mut register = locked(&world.register);
        let held = now_millis() < until_ms;
        if held {
            *shared = set;
            if let Err(seen) = register.write(token) {
                world.blame(format!("{mark:?} holds token {token}, and the register has seen {seen}"));
            }
        }
        (held, register.writes)
    };
    if held {
        locked(&world.acknowledged).push(mark);
        world.marks.fetch_add(1, Ordering::Relaxed);
    }
    // Some go on writing after their time: what they had is given back, or lost, and is somebody else's by then.
    if !held || mark.1 % 8 == 7 {
        drop(lock);
        locked(&world.late).push(Late { token, mark, writes });
    } else if lock.end().is_ok() {
        let _ = lock.next(Duration::from_secs(1));
    }
    Some(())
}

/// A client that goes on writing after its time.
struct Late {
    token: u64,
    mark: Mark,
    /// How often the register had been written while it was the holder.
    writes: u64,
}

/// Writes with old tokens, each once somebody else has written after its holder's time: that has to be refused.
fn write_late(world: &World) {
    while !world.is_over() {
        std::thread::sleep(Duration::from_millis(5));
        let mut register = locked(&world.register);
        let writes = register.writes;
        for Late { token, mark, .. } in locked(&world.late).extract_if(.., |late| late.writes < writes) {
            match register.write(token) {
                Err(_) => drop(world.stale.fetch_add(1, Ordering::Relaxed)),
                Ok(()) => world.blame(format!("{mark:?} wrote after another with its old token {token}")),
            }
        }
    }
}

/// What is done to the voters.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// The leader is stopped, and goes on when another leads.
    Pause,
    /// The leader is killed, and started again when another leads.
    Kill,
    /// A voter that follows is killed and started again.
    KillFollower,
    /// What the leader sends to one voter is lost.
    OneWay,
    /// What one voter sends to the leader is lost.
    OneWayBack,
    /// The leader and one voter are cut apart; all the others reach both.
    NonTransitive,
    /// The leader's cable is pulled.
    Unplug,
    /// A minority is cut off.
    Minority,
    /// The disks of the leader and of others take their time.
    SlowDisk,
}

const FAULTS: [Fault; 9] = [
    Fault::Pause,
    Fault::OneWay,
    Fault::Kill,
    Fault::NonTransitive,
    Fault::Minority,
    Fault::KillFollower,
    Fault::OneWayBack,
    Fault::SlowDisk,
    Fault::Unplug,
];

struct Stage<'a> {
    network: &'a Network,
    voters: Voters,
    world: &'a World,
    /// What slows disks down as long as it is there; `None` where that cannot be had.
    slow: Option<PathBuf>,
    left: usize,
}

impl Stage<'_> {
    fn others(&self, than: usize) -> impl Iterator<Item = usize> + use<> {
        (0..self.voters.voters.len()).filter(move |number| *number != than)
    }

    /// Waits until one of the others leads.
    fn superseded(&self, leader: usize, what: &str) {
        until(&format!("another leads: {what}"), || self.voters.leader_of(self.others(leader)));
    }

    fn inflict(&mut self, fault: Fault) {
        let what = format!("{fault:?}");
        let leader = self.voters.leader();
        let other = (leader + 1) % self.voters.voters.len();
        match fault {
            Fault::Pause => {
                self.voters.voters[leader].signal("-STOP");
                self.superseded(leader, &what);
                self.world.progress(&what);
                self.voters.voters[leader].signal("-CONT");
            }
            Fault::Kill => {
                self.voters.voters[leader].kill();
                self.superseded(leader, &what);
                self.world.progress(&what);
                self.voters.restart(leader);
            }
            Fault::KillFollower => {
                self.voters.voters[other].kill();
                self.world.progress(&what);
                self.voters.restart(other);
            }
            Fault::OneWay | Fault::OneWayBack | Fault::NonTransitive => {
                let cuts: &[(usize, usize)] = match fault {
                    Fault::OneWay => &[(leader, other)],
                    Fault::OneWayBack => &[(other, leader)],
                    _ => &[(leader, other), (other, leader)],
                };
                cuts.iter().for_each(|(from, to)| self.network.deafen(*from, *to));
                self.world.progress(&what);
                self.world.progress(&what);
                cuts.iter().for_each(|(from, to)| self.network.undeafen(*from, *to));
            }
            Fault::Unplug => {
                self.network.plug(leader, None);
                self.superseded(leader, &what);
                self.world.progress(&what);
                self.network.plug(leader, Some(if leader < self.left { "left" } else { "right" }));
            }
            Fault::Minority => {
                self.network.cut();
                let majority = self.left..self.voters.voters.len();
                until("the greater side has a leader", || self.voters.leader_of(majority.clone()));
                self.world.progress(&what);
                self.refuses(0);
                self.network.heal();
            }
            Fault::SlowDisk => match &self.slow {
                Some(file) => {
                    // So many that every majority waits for one.
                    let count = self.voters.voters.len();
                    let slow = (0..=count / 2).map(|step| (leader + step) % count);
                    let files: Vec<PathBuf> = slow
                        .map(|number| {
                            let maps = self.voters.voters[number].maps();
                            assert!(maps.contains("slow.so"), "voter {number} runs without what slows it down");
                            file.with_extension(number.to_string())
                        })
                        .collect();
                    files.iter().for_each(|file| std::fs::write(file, "").unwrap());
                    self.world.progress(&what);
                    files.iter().for_each(|file| std::fs::remove_file(file).unwrap());
                }
                None => println!("NOT TESTED: a slow disk: no `cc` here to build what slows it down"),
            },
        }
        self.voters.wait_whole();
        self.world.progress("healed");
    }

    /// Who is on the smaller side is told so, and is granted nothing.
    fn refuses(&self, number: usize) {
        let request = json!({
            "op": "lock", "space": "", "path": "/refused", "shared": false,
            "wait_millis": 0, "ttl_millis": TTL.as_millis() as u64, "delay_millis": 0,
        });
        let mut lock = Answers::ask(&self.voters.voters[number].data, &request).unwrap();
        let said = until("the smaller side answers", || lock.next(Duration::from_millis(100)).unwrap());
        let code = &said["failed"]["code"];
        assert!(code == "timeout" || code == "unknown", "{said}");
    }
}

/// Builds what slows disks down, in a directory; the library.
fn slow_disk(directory: &Path) -> Option<PathBuf> {
    const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>
static void slow(void) {
    const char *file = getenv("SLOW_DISK");
    if (file && access(file, F_OK) == 0) usleep(150000);
}
int fdatasync(int fd) {
    slow();
    return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
}
int fsync(int fd) {
    slow();
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}
"#;
    let (source, library) = (directory.join("slow.c"), directory.join("slow.so"));
    std::fs::write(&source, SOURCE).unwrap();
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).arg("-ldl").output();
    built.is_ok_and(|output| output.status.success()).then_some(library)
}

fn faults(count: usize) {
    let left = count / 2;
    let network = match Network::lay(count, left) {
        Ok(network) => network,
        Err(why) => {
            eprintln!("SKIPPED, and nothing was tested: this machine has no network namespaces for us: {why}");
            return;
        }
    };
    let directory = tempfile::tempdir().unwrap();
    let library = slow_disk(directory.path());
    let switch = directory.path().join("slow");
    let variables = |number: usize| match &library {
        Some(library) => vec![
            ("LD_PRELOAD".to_owned(), library.clone()),
            ("SLOW_DISK".to_owned(), switch.with_extension(number.to_string())),
        ],
        None => Vec::new(),
    };
    let voters = Voters::start(env!("CARGO_BIN_EXE_foreshore-peer"), count, Some(&network), variables);
    let world = World::default();
    let homes: Vec<PathBuf> = voters.voters.iter().map(|voter| voter.data.clone()).collect();
    let mut stage =
        Stage { network: &network, voters, world: &world, slow: library.is_some().then_some(switch.clone()), left };
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (data, world) = (&homes[number % count], &world);
            scope.spawn(move || client(number, data, world));
        }
        scope.spawn(|| write_late(&world));
        // However this ends, the clients do.
        let _over = Over(&world);
        world.progress("together");
        for _ in 0..if is_long() { 10 } else { 1 } {
            FAULTS.into_iter().for_each(|fault| stage.inflict(fault));
        }
    });
    assert_eq!(*locked(&world.wrong), [""; 0]);
    let (set, acknowledged) = (locked(&world.set), locked(&world.acknowledged));
    let lost: Vec<&Mark> = acknowledged.iter().filter(|mark| !set.contains(mark)).collect();
    assert!(lost.is_empty(), "of {} acknowledged marks these are lost: {lost:?}", acknowledged.len());
    let stale = world.stale.load(Ordering::Relaxed);
    assert!(stale > 0, "nobody wrote late");
    stage.voters.agree();
    println!("{} marks, {stale} late writes refused", acknowledged.len());
}

struct Over<'a>(&'a World);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

#[test]
fn three_voters_keep_one_holder_through_faults() {
    faults(3);
}

#[test]
fn five_voters_keep_one_holder_through_faults() {
    faults(5);
}
