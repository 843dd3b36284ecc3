//! Figures of the peer and its process.

use std::sync::PoisonError;

use foreshore::peer::{Address, PeerStatus};

use super::{Service, refused};
use crate::failure::Failure;
use crate::request::{Neighbour, SpaceStatus, Status, Strong};

impl Service {
    pub(super) async fn status_now(&self) -> Result<Status, Failure> {
        let shared = &self.shared;
        let PeerStatus { engine, network } = shared.peer.status().await.map_err(refused)?;
        let mut spaces = Vec::with_capacity(engine.spaces.len());
        for space in &engine.spaces {
            let strong = match shared.peer.space(space.info.id).await.map_err(refused)? {
                Some(found) => self.strong(&found).await?,
                None => Strong::default(),
            };
            spaces.push(SpaceStatus {
                name: space.info.name.clone(),
                id: space.info.id.to_bech32(),
                documents: space.info.documents,
                members: space.members,
                pending: space.pending,
                root: space.root.clone(),
                strong,
            });
        }
        let peers = engine.links.iter().map(|link| {
            let net = network.links.iter().find(|net| net.link == link.link);
            Neighbour {
                peer: foreshore::peer::peer_text(&link.peer),
                device: link.device.map(|device| device.to_string()),
                address: net.map(|net| net.address.to_string()),
                relayed: net.is_some_and(|net| net.relayed),
                spaces: link.spaces.iter().map(|id| id.to_bech32()).collect(),
                in_step: link.in_step,
                bytes_sent: link.bytes_sent,
                bytes_received: link.bytes_received,
                round_trips: link.round_trips,
                rtt_ms: net.and_then(|net| net.rtt).map(|rtt| rtt.as_secs_f64() * 1e3),
            }
        });
        let zookeeper = *shared.zookeeper.lock().unwrap_or_else(PoisonError::into_inner);
        let automerge_repo = *shared.automerge_repo.lock().unwrap_or_else(PoisonError::into_inner);
        let http = *shared.http.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").into(),
            peer: shared.peer.peer_id_text(),
            device: shared.peer.device().to_string(),
            data: shared.data.display().to_string(),
            pid: std::process::id(),
            uptime_seconds: shared.started.elapsed().as_secs(),
            listen: network.listen.iter().map(Address::to_string).collect(),
            http: http.map(|address| address.to_string()),
            zookeeper: zookeeper.map(|address| address.to_string()),
            automerge_repo: automerge_repo.map(|address| address.to_string()),
            spaces,
            peers: peers.collect(),
            hot_documents: engine.hot_documents,
            hot_bytes: engine.hot_bytes,
            log_bytes: engine.log_bytes,
            orphans: engine.orphans,
            refused_changes: engine.refused_changes,
            storage_writes: engine.storage_writes,
            storage_bytes: storage_bytes(&shared.data),
            signatures_checked: engine.signatures_checked,
            soft_owners: engine.soft_owners,
            soft_bytes: engine.soft_bytes,
            soft_refused: engine.soft_refused,
            topic_streams: engine.topic_streams,
            topic_bytes: engine.topic_bytes,
            topic_delivered: engine.topic_delivered,
            topic_dropped: engine.topic_dropped,
            topic_refused: engine.topic_refused,
            connections: network.connections as u64,
            known_peers: network.known as u64,
            relay_reservations: network.reservations as u64,
            refused_connections: network.refused,
            violations: network.violations,
            resident_bytes: resident_bytes(),
            trouble: shared.trouble.borrow().clone(),
        })
    }
}

/// Allocated bytes of the store and its journal.
fn storage_bytes(data: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let allocated = |name| Some(std::fs::metadata(data.join(name)).ok()?.blocks() * 512);
    ["store.redb", "store.journal"].into_iter().filter_map(allocated).sum()
}

/// Resident memory of this process, from Linux's `/proc`; 0 elsewhere.
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
