//! Figures in the text format of Prometheus (OpenMetrics 1.0), made anew for each scrape.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::{counter::Counter, info::Info};
use prometheus_client::registry::{Registry, Unit};

use crate::request::Status;

pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Spaces and peers that get rows of their own; what a scrape costs stays bounded.
const MAX_ROWS: usize = 256;

type Level = Gauge<i64>;
type Total = Counter<u64, AtomicU64>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SpaceLabel {
    space: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DigestLabel {
    space: String,
    digest: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PeerLabel {
    peer: String,
}

/// The figures as text.
pub(super) fn text(status: &Status) -> String {
    let mut registry = Registry::with_prefix("foreshore");
    let build = Info::new(vec![("version".to_owned(), status.version.clone())]);
    registry.register("build", "Version of this peer", build);
    process(&mut registry, status);
    spaces(&mut registry, status);
    strong(&mut registry, status);
    peers(&mut registry, status);
    let mut out = String::new();
    match encode(&mut out, &registry) {
        Ok(()) => out,
        // Writing to a string does not fail.
        Err(_) => String::from("# EOF\n"),
    }
}

fn level(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let gauge = Level::default();
    gauge.set(value.try_into().unwrap_or(i64::MAX));
    registry.register(name, help, gauge);
}

fn bytes(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let gauge = Level::default();
    gauge.set(value.try_into().unwrap_or(i64::MAX));
    registry.register_with_unit(name, help, Unit::Bytes, gauge);
}

fn total(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let counter = Total::default();
    counter.inc_by(value);
    registry.register(name, help, counter);
}

fn process(registry: &mut Registry, status: &Status) {
    level(registry, "uptime_seconds", "Seconds since the start", status.uptime_seconds);
    bytes(registry, "resident", "Resident memory of the process", status.resident_bytes);
    bytes(registry, "storage", "Bytes that the store occupies on its device", status.storage_bytes);
    level(registry, "storage_trouble", "1 while writes fail", u64::from(status.trouble.is_some()));
    total(registry, "storage_writes", "Durable storage transactions", status.storage_writes);
    level(registry, "hot_documents", "Documents in use", status.hot_documents);
    bytes(registry, "hot", "Estimated memory of documents in use", status.hot_bytes);
    bytes(registry, "log", "Estimated memory of loaded logs", status.log_bytes);
    level(registry, "orphans", "Changes that wait for their dependencies", status.orphans);
    total(registry, "refused_changes", "Changes refused by the ingest checks", status.refused_changes);
    total(registry, "signatures_checked", "Signatures checked", status.signatures_checked);
    level(registry, "soft_owners", "Owners of soft state that live", status.soft_owners);
    bytes(registry, "soft", "Paths and values of soft entries", status.soft_bytes);
    total(registry, "soft_refused", "News of soft state that was dropped", status.soft_refused);
    level(registry, "topic_streams", "Streams of signals by others that are kept track of", status.topic_streams);
    bytes(registry, "topic", "Signals that wait for links or are kept a moment for neighbours", status.topic_bytes);
    total(registry, "topic_delivered", "Signals handed to programs", status.topic_delivered);
    total(registry, "topic_dropped", "Signals dropped because a link was too slow", status.topic_dropped);
    total(registry, "topic_refused", "Signals of others not taken", status.topic_refused);
    level(registry, "connections", "Connections to peers", status.connections);
    level(registry, "known_peers", "Peers in the address book", status.known_peers);
    level(registry, "relay_reservations", "Reservations at relays that stand", status.relay_reservations);
    total(registry, "refused_connections", "Connections refused", status.refused_connections);
    total(registry, "violations", "Links closed because their bytes were not the protocol", status.violations);
}

fn spaces(registry: &mut Registry, status: &Status) {
    let [documents, members, pending] = std::array::from_fn(|_| Family::<SpaceLabel, Level>::default());
    for space in status.spaces.iter().take(MAX_ROWS) {
        let label = SpaceLabel { space: space.id.clone() };
        for (family, value) in [(&documents, space.documents), (&members, space.members), (&pending, space.pending)] {
            family.get_or_create(&label).set(value.try_into().unwrap_or(i64::MAX));
        }
    }
    registry.register("documents", "Live documents", documents);
    registry.register("members", "Known members", members);
    registry.register("pending_documents", "Documents with changes that no other peer is known to hold", pending);
}

/// Spaces whose group has a replica here.
fn strong(registry: &mut Registry, status: &Status) {
    let [leads, led, term, committed, applied, voters, sessions, nodes] =
        std::array::from_fn(|_| Family::<SpaceLabel, Level>::default());
    let proposals = Family::<SpaceLabel, Total>::default();
    let digest = Family::<DigestLabel, Level>::default();
    let serving = status.spaces.iter().filter(|space| space.strong.role != "none" && !space.strong.role.is_empty());
    for space in serving.take(MAX_ROWS) {
        let (label, strong) = (SpaceLabel { space: space.id.clone() }, &space.strong);
        for (family, value) in [
            (&leads, u64::from(strong.role == "leader")),
            (&led, u64::from(strong.leader.is_some())),
            (&term, strong.term),
            (&committed, strong.committed),
            (&applied, strong.applied),
            (&voters, strong.voters() as u64),
            (&sessions, strong.sessions),
            (&nodes, strong.nodes),
        ] {
            family.get_or_create(&label).set(value.try_into().unwrap_or(i64::MAX));
        }
        proposals.get_or_create(&label).inc_by(strong.proposals);
        if let Some(found) = &strong.digest {
            let label = DigestLabel { space: space.id.clone(), digest: found.clone() };
            digest.get_or_create(&label).set(strong.applied.try_into().unwrap_or(i64::MAX));
        }
    }
    registry.register("strong_leads", "1 while this peer leads the space's voters", leads);
    registry.register("strong_led", "1 while this peer knows who leads", led);
    registry.register("strong_term", "Term of the space's group, as this peer has it", term);
    registry.register("strong_committed", "Newest entry known to be committed", committed);
    registry.register("strong_applied", "Newest entry applied here", applied);
    registry.register("strong_voters", "Peers that vote", voters);
    registry.register("strong_sessions", "Open sessions", sessions);
    registry.register("strong_nodes", "Nodes of the tree", nodes);
    registry.register("strong_proposals", "Entries that this peer appended as the leader", proposals);
    registry.register("strong_digest", "Entry at which the state has this digest; equal on every replica", digest);
}

fn peers(registry: &mut Registry, status: &Status) {
    let [sent, received, trips] = std::array::from_fn(|_| Family::<PeerLabel, Total>::default());
    let in_step = Family::<PeerLabel, Level>::default();
    for peer in status.peers.iter().take(MAX_ROWS) {
        let label = PeerLabel { peer: peer.peer.clone() };
        for (family, value) in [(&sent, peer.bytes_sent), (&received, peer.bytes_received), (&trips, peer.round_trips)]
        {
            family.get_or_create(&label).inc_by(value);
        }
        in_step.get_or_create(&label).set(i64::from(peer.in_step));
    }
    registry.register("peer_sent_bytes", "Bytes of frames sent to a peer", sent);
    registry.register("peer_received_bytes", "Bytes of frames received from a peer", received);
    registry.register("peer_round_trips", "Reconciliation round trips with a peer", trips);
    registry.register("peer_in_step", "1 while everything was equal when last compared", in_step);
}
