//! Kills, damage, strange files.

use std::os::unix::process::CommandExt;
use std::process::Stdio;

use foreshore::io::{Table, WriteOp};
use foreshore::store::{Backend, Redb};

use crate::support::{Home, Running, refuses};

/// How many kills. `cargo xtask test --long` sets the variable.
fn kills() -> u32 {
    if std::env::var_os("FORESHORE_LONG").is_some_and(|value| value != "0") { 200 } else { 10 }
}

#[test]
fn nothing_acknowledged_is_lost_to_a_kill() {
    let home = Home::new();
    let mut acknowledged = 0u32;
    for round in 0..kills() {
        let peer = home.run_with(&["--listen", "off", "--http", "off"]);
        // Killed while commands are on their way: a few writers, each going on until its peer is gone.
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..2u32)
                .map(|writer| {
                    let home = &home;
                    scope.spawn(move || {
                        let mut done = Vec::new();
                        for n in 0..6 {
                            let path = format!("/kills/{round}-{writer}-{n}");
                            let mut command = home.command(&["put", &path, r#"{"x":1}"#]);
                            if !command.output().unwrap().status.success() {
                                break;
                            }
                            done.push(path);
                        }
                        done
                    })
                })
                .collect();
            for _ in 0..round % 5 {
                crate::support::pause();
            }
            peer.kill();
            acknowledged += writers.into_iter().map(|writer| writer.join().unwrap().len() as u32).sum::<u32>();
        });
        let listed = home.ok(&["list", "/kills"]).lines().count() as u32;
        assert!(listed >= acknowledged, "round {round}: {acknowledged} were acknowledged, {listed} are there");
        assert!(home.ok(&["doctor"]).contains("healthy"), "round {round}");
    }
    assert!(acknowledged > 0);
}

#[test]
fn a_kill_during_the_first_start_leaves_a_directory_that_works() {
    for pauses in 0..kills() {
        let home = Home::new();
        let mut command = home.command(&["run", "--listen", "off", "--http", "off"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        for _ in 0..pauses % 6 {
            crate::support::pause();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let peer = home.run_with(&["--listen", "off", "--http", "off"]);
        home.ok(&["put", "/x", r#"{"k":1}"#]);
        peer.stop();
    }
}

#[test]
fn a_kill_during_an_import_leaves_a_store_that_opens_and_takes_the_rest() {
    let home = Home::with_store();
    let peer = home.run_with(&["--listen", "off", "--http", "off"]);
    for n in 0..40 {
        let value = format!(r#"{{"n":{n},"pad":"{}"}}"#, "x".repeat(2000));
        home.ok(&["put", &format!("/docs/{n:03}"), &value]);
    }
    let invitation = home.ok(&["invite", "--print"]);
    home.ok(&["export", "copy"]);
    peer.stop();
    let copy = home.parent().join("copy").to_str().unwrap().to_owned();
    let other = Home::new();
    other.ok(&["join", invitation.trim()]);
    for pauses in 0..kills() / 2 {
        let mut import = Running::follow(other.command(&["import", &copy]));
        for _ in 0..pauses {
            crate::support::pause();
        }
        let _ = import.child.kill();
        let _ = import.child.wait();
        assert!(other.ok(&["doctor"]).contains("healthy"));
    }
    other.ok(&["import", &copy]);
    assert_eq!(other.ok(&["list"]), home.ok(&["list"]));
}

#[test]
fn a_store_of_a_newer_format_is_refused_and_left_alone() {
    let home = Home::with_store();
    let mut store = Redb::open(home.data()).unwrap();
    let newer = WriteOp::Put(Table::Meta, foreshore::store::FORMAT_KEY.to_vec(), vec![99]);
    assert_eq!(store.write(&[(&[newer], None)]), [Ok(())]);
    drop(store);
    let before = std::fs::read(home.data().join("store.redb")).unwrap();
    for arguments in [&["run"][..], &["list"], &["doctor"]] {
        let said = home.fails(5, arguments);
        assert!(said.contains("format 99") && said.contains("newer release"), "{arguments:?}: {said}");
    }
    assert_eq!(std::fs::read(home.data().join("store.redb")).unwrap(), before);
}

#[test]
fn a_damaged_store_is_reported_and_never_a_panic() {
    let home = Home::with_store();
    for n in 0..20 {
        home.ok(&["put", &format!("/docs/{n}"), &format!(r#"{{"n":{n}}}"#)]);
    }
    assert!(home.ok(&["doctor"]).contains("healthy"));
    let file = home.data().join("store.redb");
    let whole = std::fs::read(&file).unwrap();
    let damages: [(&str, Vec<u8>); 4] = [
        ("cut in the middle", whole[..whole.len() / 2].to_vec()),
        ("emptied", Vec::new()),
        ("overwritten", vec![0x5a; whole.len()]),
        ("another file", b"hello".to_vec()),
    ];
    for (what, bytes) in damages {
        std::fs::write(&file, bytes).unwrap();
        for arguments in [&["doctor"][..], &["list"], &["run", "--listen", "off", "--http", "off"]] {
            let said = refuses(home.output(arguments), 6, arguments);
            assert!(said.contains("damaged"), "{what}: {arguments:?}: {said}");
        }
    }
    std::fs::write(&file, &whole).unwrap();
    assert!(home.ok(&["doctor"]).contains("healthy"));
}

#[test]
fn a_changed_chunk_is_found_by_the_doctor() {
    let home = Home::with_store();
    home.ok(&["put", "/doc", r#"{"n":1}"#]);
    home.ok(&["put", "/other", r#"{"n":1}"#]);
    let mut store = Redb::open(home.data()).unwrap();
    let scan = foreshore::io::ReadOp::Scan { table: Table::Chunks, from: vec![], to: None, limit: 1 };
    let rows = store.read(&[scan]).unwrap().remove(0);
    let (key, value) = rows.row(0).unwrap();
    let mut changed = value.to_vec();
    *changed.last_mut().unwrap() ^= 1;
    assert_eq!(store.write(&[(&[WriteOp::Put(Table::Chunks, key.to_vec(), changed)], None)]), [Ok(())]);
    drop(store);
    let output = home.output(&["--json", "doctor"]);
    assert_eq!(output.status.code(), Some(6));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["healthy"], &report["opened"]), (&false.into(), &true.into()));
    assert_eq!(report["findings"][0]["table"], "chunks");
    assert_eq!(report["damaged"], 1, "{report}");
}

/// Root may write anywhere, so the command runs as another user where the tests run as root.
#[test]
fn a_directory_that_cannot_be_written_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new();
    std::fs::create_dir(home.data()).unwrap();
    let set = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    set(home.parent(), 0o755);
    set(&home.data(), 0o555);
    let mut command = home.command(&["run", "--listen", "off", "--http", "off"]);
    if rustix::process::geteuid().is_root() {
        command.uid(65_534).gid(65_534);
    }
    match command.output() {
        // A build directory that only root may enter.
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => eprintln!("skipped: {e}"),
        output => {
            let said = refuses(output.unwrap(), 5, &["run"]);
            assert!(said.contains("data cannot be written"), "{said}");
        }
    }
    set(&home.data(), 0o755);
}

/// What a shell does in a mount namespace of its own, on a disk of 3 MB. Status 77: the machine does not allow that.
const FULL_DISK: &str = r#"
mount -t tmpfs -o size=3m none "$1" || exit 77
cd "$1" || exit 77
"$2" --data d space create default || exit 1
"$2" --data d put /before '{"n":1}' || exit 2
head -c 4000000 /dev/zero > fill 2>/dev/null
big="{\"x\":\"$(head -c 60000 /dev/urandom | base64 -w0)\"}"
said=$("$2" --data d put /big "$big" 2>&1) && exit 3
grep -q "disk is full" <<< "$said" || exit 4
# With nowhere to complain to, it ends all the same.
timeout 60 "$2" --data d put /big "$big" 2> fill2
test $? = 5 || exit 8
rm fill
"$2" --data d put /big "$big" || exit 6
"$2" --data d get /before || exit 5
"$2" --data d doctor || exit 7
"#;

/// A command whose stderr lay on the full disk once hung: the failing log line panicked the task that wrote it.
#[test]
fn a_full_disk_is_named_and_works_again_once_there_is_room() {
    let place = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "bash", "-c", FULL_DISK, "bash"]).arg(place.path());
    command.arg(env!("CARGO_BIN_EXE_foreshore"));
    match command.output() {
        Err(e) => eprintln!("skipped: unshare: {e}"),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
            match output.status.code() {
                Some(0) => {}
                _ if said.contains("unshare failed") || output.status.code() == Some(77) => {
                    eprintln!("skipped: {said}")
                }
                status => panic!("step {status:?}: {said}"),
            }
        }
    }
}
