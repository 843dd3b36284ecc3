//! Four-letter words: figures for people and monitors, in ZooKeeper's words.

use std::fmt::Write as _;
use std::time::Duration;

use foreshore::coord::session::{MAX_TTL_MS, MIN_TTL_MS};
use foreshore::engine::CoordStatus;
use tokio::time::timeout;

use super::figures::Client;
use super::request::code;
use super::{Inner, MAX_CONNECTIONS};

/// What clients that look for it take for the version of the server: the one whose protocol this is.
const VERSION: &str = concat!("3.8.0-foreshore-", env!("CARGO_PKG_VERSION"), ", built on 1970-01-01 00:00 UTC");

/// How long the group may take to say how it stands.
const PATIENCE: Duration = Duration::from_secs(2);

/// The answer to a word; `None`: it is none.
pub(super) async fn answer(door: &Inner, word: [u8; 4]) -> Option<String> {
    match &word {
        b"ruok" => Some("imok".into()),
        b"envi" => Some(environment()),
        b"conf" => Some(configuration(door)),
        b"cons" => Some(connections(door) + "\n"),
        b"isro" | b"srvr" | b"stat" | b"mntr" | b"wchs" => {
            let Some(status) = group(door).await else {
                // As ZooKeeper says it.
                return Some("This ZooKeeper instance is not currently serving requests\n".into());
            };
            Some(match &word {
                b"isro" => "rw".into(),
                b"srvr" => server(door, &status, ""),
                b"stat" => server(door, &status, &format!("Clients:\n{}\n", connections(door))),
                b"mntr" => monitor(door, &status),
                _ => watches(&status),
            })
        }
        _ => None,
    }
}

/// How the group stands; `None`: it serves nobody here.
async fn group(door: &Inner) -> Option<CoordStatus> {
    let look = async {
        let space = (door.space)().await.ok()?;
        space.coordination_at_a_glance().await.ok()
    };
    let status = timeout(PATIENCE, look).await.ok()??;
    // A peer without a replica passes on, and has no figures; one whose group nobody leads serves nobody.
    (!status.serves || status.leader.is_some()).then_some(status)
}

fn mode(status: &CoordStatus) -> &'static str {
    match status {
        CoordStatus { serves: false, .. } => "observer",
        CoordStatus { leads: true, voters, .. } if voters.len() == 1 => "standalone",
        CoordStatus { leads: true, .. } => "leader",
        _ => "follower",
    }
}

fn server(door: &Inner, status: &CoordStatus, clients: &str) -> String {
    let total = door.figures.total();
    format!(
        "Zookeeper version: {VERSION}\n{clients}Latency min/avg/max: 0/{:.4}/{}\nReceived: {}\nSent: {}\n\
         Connections: {}\nOutstanding: {}\nZxid: {:#x}\nMode: {}\nNode count: {}\n",
        total.mean_ms,
        total.slowest_ms,
        total.received,
        total.sent,
        total.connections,
        total.outstanding,
        status.applied,
        mode(status),
        status.nodes,
    )
}

fn monitor(door: &Inner, status: &CoordStatus) -> String {
    let total = door.figures.total();
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "zk_{name}\t{value}");
    };
    line("version", VERSION.into());
    line("server_state", mode(status).into());
    line("uptime", door.figures.since.elapsed().as_millis().to_string());
    line("min_latency", "0".into());
    line("avg_latency", format!("{:.4}", total.mean_ms));
    line("max_latency", total.slowest_ms.to_string());
    line("packets_received", total.received.to_string());
    line("packets_sent", total.sent.to_string());
    line("num_alive_connections", total.connections.to_string());
    line("outstanding_requests", total.outstanding.to_string());
    line("znode_count", status.nodes.to_string());
    line("ephemerals_count", status.ephemerals.to_string());
    line("watch_count", status.watches.0.to_string());
    line("approximate_data_size", status.tree_bytes.to_string());
    line("global_sessions", status.sessions.to_string());
    if status.leads {
        let behind = |index: u64| status.committed.saturating_sub(index) <= 100;
        line("followers", status.voters.len().saturating_sub(1).to_string());
        line("learners", (status.voters.len() + status.learners.len()).saturating_sub(1).to_string());
        let synced = status.progress.iter().filter(|(peer, index)| status.voters.contains(peer) && behind(*index));
        line("synced_followers", synced.count().saturating_sub(1).to_string());
    }
    text
}

fn watches(status: &CoordStatus) -> String {
    let (all, paths, clients) = status.watches;
    format!("{clients} connections watching {paths} paths\nTotal watches:{all}\n")
}

fn connections(door: &Inner) -> String {
    door.figures.clients().iter().map(connection).collect()
}

fn connection(client: &Client) -> String {
    let Client { from, received, answered, outstanding, .. } = client;
    let mut text = format!(
        " /{}:{}[{}](queued={outstanding},recved={received},sent={}",
        from.ip().to_canonical(),
        from.port(),
        u8::from(client.session.is_some()),
        answered.sent
    );
    if let Some(session) = client.session {
        let _ = write!(
            text,
            ",sid={session:#x},lop={},est={},to={},lcxid={:#x},lzxid={:#x},minlat=0,avglat={},maxlat={}",
            name(client.last_code),
            client.since.elapsed().as_millis(),
            client.ttl_ms,
            client.last_xid,
            answered.zxid,
            answered.total_ms / answered.answers.max(1),
            answered.slowest_ms,
        );
    }
    text + ")\n"
}

/// ZooKeeper's short name of an operation.
fn name(operation: i32) -> &'static str {
    match operation {
        code::CREATE | code::CREATE2 | code::CREATE_CONTAINER | code::CREATE_TTL => "CREA",
        code::DELETE => "DELE",
        code::EXISTS => "EXIS",
        code::GET_DATA => "GETD",
        code::SET_DATA => "SETD",
        code::GET_ACL => "GETA",
        code::SET_ACL => "SETA",
        code::GET_CHILDREN | code::GET_CHILDREN2 => "GETC",
        code::SYNC => "SYNC",
        code::PING => "PING",
        code::MULTI | code::MULTI_READ => "MULT",
        code::CLOSE => "CLOS",
        code::SET_WATCHES | code::SET_WATCHES2 => "SETW",
        0 => "SESS",
        _ => "NA",
    }
}

fn configuration(door: &Inner) -> String {
    let Inner { address, data, .. } = door;
    format!(
        "clientPort={}\nsecureClientPort=-1\ndataDir={}\ndataLogDir={}\ntickTime=100\nmaxClientCnxns={MAX_CONNECTIONS}\n\
         minSessionTimeout={MIN_TTL_MS}\nmaxSessionTimeout={MAX_TTL_MS}\nclientPortListenBacklog=-1\nserverId=0\n",
        address.port(),
        data.display(),
        data.display(),
    )
}

fn environment() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!(
        "Environment:\nzookeeper.version={VERSION}\nhost.name={}\njava.version=none\njava.vendor=none\n\
         os.name={}\nos.arch={}\n",
        host.trim(),
        std::env::consts::OS,
        std::env::consts::ARCH,
    )
}
