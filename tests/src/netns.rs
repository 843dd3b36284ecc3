//! Processes in network namespaces of their own, whose cables can be cut.
//!
//! ```text
//!   fs-<pid>-0 … ── bridge `left` ══ trunk ══ bridge `right` ── … fs-<pid>-n        bridges in fs-<pid>-switch
//! ```
//!
//! Needs root and `ip` (iproute2). Namespaces that an earlier run was killed with are removed by the next one.

use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The namespaces of this process. Dropping it removes them.
#[derive(Debug)]
pub struct Network {
    prefix: String,
    peers: usize,
}

fn ip(arguments: &str) -> Result<String, String> {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().map_err(|e| format!("ip: {e}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

impl Network {
    /// Lays the cables of so many peers, the first `left` of them on the left bridge. An error is a machine that has no
    /// namespaces for us.
    pub fn lay(peers: usize, left: usize) -> Result<Self, String> {
        Self::sweep();
        let network = Self { prefix: format!("fs-{}", std::process::id()), peers };
        let switch = network.switch();
        ip(&format!("netns add {switch}"))?;
        for bridge in ["left", "right"] {
            ip(&format!("-n {switch} link add {bridge} type bridge"))?;
            ip(&format!("-n {switch} link set {bridge} up"))?;
        }
        ip(&format!("-n {switch} link add trunk type veth peer name knurt"))?;
        ip(&format!("-n {switch} link set trunk master left"))?;
        ip(&format!("-n {switch} link set knurt master right"))?;
        ip(&format!("-n {switch} link set knurt up"))?;
        for peer in 0..peers {
            let (namespace, bridge) = (network.namespace(peer), if peer < left { "left" } else { "right" });
            ip(&format!("netns add {namespace}"))?;
            ip(&format!("-n {switch} link add port{peer} type veth peer name eth0 netns {namespace}"))?;
            ip(&format!("-n {switch} link set port{peer} master {bridge} up"))?;
            ip(&format!("-n {namespace} addr add {}/24 dev eth0", address(peer)))?;
            ip(&format!("-n {namespace} link set lo up"))?;
            ip(&format!("-n {namespace} link set eth0 up"))?;
        }
        network.heal();
        Ok(network)
    }

    /// Removes what runs left behind that could not tidy up.
    fn sweep() {
        let listed = ip("netns list").unwrap_or_default();
        for name in listed.lines().filter_map(|line| line.split_whitespace().next()) {
            let pid =
                name.strip_prefix("fs-").and_then(|rest| rest.split('-').next()).and_then(|p| p.parse::<u32>().ok());
            if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
                let _ = ip(&format!("netns del {name}"));
            }
        }
    }

    fn switch(&self) -> String {
        format!("{}-switch", self.prefix)
    }

    /// The name of a peer's namespace.
    pub fn namespace(&self, peer: usize) -> String {
        format!("{}-{peer}", self.prefix)
    }

    fn set(&self, arguments: &str) {
        ip(arguments).expect("what was laid can be moved");
    }

    /// Parts left from right.
    pub fn cut(&self) {
        self.set(&format!("-n {} link set trunk down", self.switch()));
    }

    /// Joins left and right.
    pub fn heal(&self) {
        self.set(&format!("-n {} link set trunk up", self.switch()));
    }

    /// Pulls a peer's cable, or plugs it into a bridge.
    pub fn plug(&self, peer: usize, bridge: Option<&str>) {
        let to = bridge.map_or("down".to_owned(), |bridge| format!("master {bridge} up"));
        self.set(&format!("-n {} link set port{peer} {to}", self.switch()));
    }

    /// Nothing that `from` sends reaches `to` any more; what `to` sends still arrives at `from`.
    pub fn deafen(&self, from: usize, to: usize) {
        self.set(&format!("-n {} route replace blackhole {}/32", self.namespace(from), address(to)));
    }

    /// Undoes [`Network::deafen`].
    pub fn undeafen(&self, from: usize, to: usize) {
        self.set(&format!("-n {} route del blackhole {}/32", self.namespace(from), address(to)));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in (0..self.peers).map(|peer| self.namespace(peer)).chain([self.switch()]) {
            let _ = ip(&format!("netns del {name}"));
        }
    }
}

/// A peer's address.
pub fn address(peer: usize) -> String {
    format!("10.98.76.{}", peer + 1)
}

/// A process that is ended with this.
#[derive(Debug)]
pub struct Process(pub Child);

impl Process {
    /// Sends it a signal, named as `kill` wants it: `-STOP`.
    pub fn signal(&self, name: &str) {
        let told = Command::new("kill").args([name, &self.0.id().to_string()]).status();
        assert!(told.is_ok_and(|told| told.success()), "{name} did not reach {}", self.0.id());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A command that this test's own environment does not configure, with pipes.
pub fn clean(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("FORESHORE_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped())
}
