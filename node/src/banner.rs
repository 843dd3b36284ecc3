//! What `foreshore run` says first.

use crate::output::{count, plain, short};
use crate::request::{Status, Strong};

/// Facts that the status does not hold.
#[derive(Debug, Clone, Default)]
pub struct FirstWords {
    /// Whether the data directory was made just now.
    pub created: bool,
    /// Whether every listener is on loopback.
    pub loopback: bool,
    /// Whether the demo is built in.
    pub demo: bool,
    /// Whether the HTTP port serves `/v1`.
    pub api: bool,
    /// What had to be arranged otherwise than usual, as whole sentences.
    pub notes: Vec<String>,
}

/// The banner.
pub fn banner(status: &Status, words: &FirstWords) -> String {
    let new = if words.created { "new peer" } else { "peer" };
    let created = if words.created { " (created)" } else { "" };
    let mut lines = vec![format!(
        "foreshore {} · {new} {} · data {}{created}",
        status.version,
        short(&status.peer),
        plain(&status.data)
    )];
    let mut line = |name: &str, value: &str, note: &str| {
        lines.push(format!("  {name:<8}{value:<31} {note}").trim_end().to_owned());
    };
    if let Some(http) = &status.http {
        match words.demo {
            true => line("open", &format!("http://{http}/"), "the demo; /status, /metrics and /healthz beside it"),
            false => line("open", &format!("http://{http}/status"), "health, metrics and status"),
        }
    }
    if let (Some(http), true) = (&status.http, words.api) {
        line("open", &format!("http://{http}/v1"), "JSON over HTTP; /docs and /openapi.json say how");
    }
    if let Some(zookeeper) = &status.zookeeper {
        line("open", zookeeper, "for clients of ZooKeeper");
    }
    if let Some(address) = &status.automerge_repo {
        line("open", &format!("ws://{address}"), "for clients of automerge-repo");
    }
    for space in &status.spaces {
        let documents = match space.documents {
            0 => String::new(),
            n => format!("{} · ", count(n, "document")),
        };
        let words = format!("{documents}{}", strong(&space.strong));
        line("space", &format!("{} ({})", plain(&space.name), short(&space.id)), &words);
    }
    let share = if words.loopback { "loopback only; --listen 0.0.0.0 to share" } else { "" };
    match status.listen.is_empty() {
        true => line("listen", "nowhere", "--listen 127.0.0.1 to be reached"),
        false => line("listen", &listeners(&status.listen), share),
    }
    line("invite", "foreshore invite", "writer link and QR");
    line("try", "foreshore put /hello '{\"hi\":1}'  ·  foreshore watch /", "");
    lines.extend(words.notes.iter().map(|note| format!("  note    {note}")));
    lines.push("Ctrl-C stops; nothing acknowledged is lost.".to_owned());
    lines.join("\n")
}

/// What the group of voters can do, as far as this peer knows.
fn strong(strong: &Strong) -> String {
    let voters = strong.voters();
    match () {
        () if strong.broken.is_some() => "strong state refused: see `foreshore status`".into(),
        () if voters == 0 => "this peer does not vote".into(),
        // The only voter needs nobody.
        () if voters == 1 || strong.leader.is_some() => {
            format!("{}: locks and elections work", count(voters as u64, "voter"))
        }
        () => format!("{}: no majority yet", count(voters as u64, "voter")),
    }
}

/// `tcp 4801 · quic 4801 · ws 4802` from multiaddrs; anything unusual is shown whole.
fn listeners(addresses: &[String]) -> String {
    let mut shown: Vec<String> = Vec::new();
    for address in addresses {
        let text = brief(address).unwrap_or_else(|| plain(address));
        if !shown.contains(&text) {
            shown.push(text);
        }
    }
    // The order in which the documentation names them.
    shown.sort_by_key(|text| ["tcp", "quic", "ws"].iter().position(|kind| text.starts_with(kind)));
    shown.join(" · ")
}

fn brief(address: &str) -> Option<String> {
    let parts: Vec<&str> = address.split('/').collect();
    let (kind, port) = match parts.get(3..)? {
        ["tcp", port, "ws", ..] => ("ws", port),
        ["tcp", port] | ["tcp", port, "p2p", _] => ("tcp", port),
        ["udp", port, "quic-v1", ..] => ("quic", port),
        _ => return None,
    };
    Some(format!("{kind} {port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_minute_reads_as_documented() {
        let me = crate::request::Voting { peer: "12D3".into(), votes: true, leads: true, me: true, lag: None };
        let status = Status {
            version: "0.1.0".into(),
            peer: "12D3KooWabcdefghikQ2".into(),
            data: "./foreshore-data".into(),
            http: Some("127.0.0.1:4800".into()),
            listen: ["tcp/4802/ws/p2p/12D3", "udp/4801/quic-v1", "tcp/4801"]
                .map(|a| format!("/ip4/127.0.0.1/{a}"))
                .into(),
            spaces: vec![crate::request::SpaceStatus {
                name: "default".into(),
                id: "fs1qxxxxxxxxx9x".into(),
                strong: Strong { members: vec![me], ..Strong::default() },
                ..Default::default()
            }],
            ..Default::default()
        };
        let text = banner(&status, &FirstWords { created: true, loopback: true, ..FirstWords::default() });
        assert_eq!(
            text,
            "foreshore 0.1.0 · new peer 12D3…kQ2 · data ./foreshore-data (created)
  open    http://127.0.0.1:4800/status    health, metrics and status
  space   default (fs1q…x9x)              1 voter: locks and elections work
  listen  tcp 4801 · quic 4801 · ws 4802  loopback only; --listen 0.0.0.0 to share
  invite  foreshore invite                writer link and QR
  try     foreshore put /hello '{\"hi\":1}'  ·  foreshore watch /
Ctrl-C stops; nothing acknowledged is lost."
        );
    }
}
