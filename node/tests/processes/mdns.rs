//! Peers that find each other on a local network, in network namespaces of their own. Needs root; says so where it is not
//! had.

use std::process::{Command, Stdio};

use crate::support::{Home, Running, until};

/// Two namespaces with one cable between them; gone with the value.
struct Lan {
    names: [String; 2],
}

impl Lan {
    fn new() -> Option<Self> {
        let names = ["a", "b"].map(|end| format!("fs-mdns-{}-{end}", std::process::id()));
        let lan = Self { names };
        let [a, b] = &lan.names;
        ip(&["netns", "add", a])?;
        ip(&["netns", "add", b])?;
        ip(&["-n", a, "link", "add", "lan0", "type", "veth", "peer", "name", "lan0", "netns", b])?;
        for (name, address) in [(a, "10.77.0.1/24"), (b, "10.77.0.2/24")] {
            ip(&["-n", name, "address", "add", address, "dev", "lan0"])?;
            ip(&["-n", name, "link", "set", "lan0", "up"])?;
            ip(&["-n", name, "link", "set", "lo", "up"])?;
        }
        Some(lan)
    }

    /// A peer in one of the namespaces. Commands reach it through its control socket from anywhere.
    fn run(&self, end: usize, home: &Home, arguments: &[&str]) -> Running {
        let plain = home.command(&[&["--json", "run"], arguments].concat());
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", &self.names[end]]).arg(plain.get_program()).args(plain.get_args());
        inside.current_dir(home.parent()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut running = Running::follow(inside);
        let line = running.line();
        assert!(line.contains("\"ready\""), "{line:?}");
        running
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = ip(&["netns", "delete", name]);
        }
    }
}

fn ip(arguments: &[&str]) -> Option<()> {
    let output = Command::new("ip").args(arguments).output().ok()?;
    output.status.success().then_some(())
}

#[test]
fn peers_of_one_space_find_each_other_by_multicast_and_leave_strangers_alone() {
    let Some(lan) = Lan::new() else {
        eprintln!("SKIPPED: no network namespaces here (root and iproute2 are needed), mDNS is not tested");
        return;
    };
    let (home, other, stranger) = (Home::with_store(), Home::new(), Home::with_store());
    // An invitation that leads nowhere: what they know of each other is the space.
    let invitation = home.ok(&["invite", "--print", "--address", "/ip4/192.0.2.1/tcp/1"]);
    other.ok(&["join", invitation.trim()]);
    let arguments = |address| ["--mdns", "--http", "off", "--listen", address];
    let first = lan.run(0, &home, &arguments("/ip4/10.77.0.1/tcp/0"));
    let third = lan.run(0, &stranger, &arguments("/ip4/10.77.0.1/tcp/0"));
    let second = lan.run(1, &other, &arguments("/ip4/10.77.0.2/tcp/0"));
    home.ok(&["put", "/found", r#"{"by":"multicast"}"#]);
    until("the document has arrived", || {
        let output = other.output(&["get", "/found"]);
        output.status.success().then_some(())
    });
    let peers = other.json(&["peers"]);
    let member = peers.as_array().unwrap().iter().find(|peer| !peer["spaces"].as_array().unwrap().is_empty()).unwrap();
    assert!(member["address"].as_str().unwrap().starts_with("/ip4/10.77.0.1/"), "{member}");
    assert_eq!(member["relayed"], false);
    let strangers = stranger.json(&["peers"]);
    assert!(
        strangers.as_array().unwrap().iter().all(|peer| peer["spaces"].as_array().unwrap().is_empty()),
        "{strangers}"
    );
    for running in [first, second, third] {
        running.kill();
    }
}
