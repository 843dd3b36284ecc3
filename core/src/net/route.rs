//! What an address says of the way to a peer: how far it reaches, whether a relay lies on it, whether it may be told to a
//! peer or taken from one.
//!
//! Peers tell each other addresses as text. What comes in is taken apart here and taken only if it has a form that this
//! program dials: `(ip4 | ip6 | dns | dns4 | dns6) / tcp [/ ws | / wss | / tls / ws]` or `… / udp / quic-v1`, then perhaps
//! `/p2p/RELAY/p2p-circuit`, then perhaps `/p2p/PEER`. Everything else is dropped in silence: it is nobody's protocol error
//! to know transports that are not known here.
//!
//! Pure, and not here: whether anybody answers at the address.

use std::net::{IpAddr, Ipv6Addr};

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId as NetPeerId};

use crate::trust::invitation::MAX_ADDRESS;

/// How far an address reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// This machine only.
    Loopback,
    /// Whoever has a route: a private network or the world.
    Routed,
}

/// How far the first hop of an address reaches; `None` for what leads nowhere (port and host unspecified, multicast) or
/// holds only on one interface.
pub(crate) fn scope(address: &Multiaddr) -> Option<Scope> {
    let ip = match address.iter().next()? {
        Protocol::Ip4(ip) => IpAddr::from(ip),
        Protocol::Ip6(ip) => ip.to_ipv4_mapped().map_or(IpAddr::from(ip), IpAddr::from),
        Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => return name_scope(&name),
        _ => return None,
    };
    let of_one_interface = match ip {
        IpAddr::V4(ip) => ip.is_broadcast(),
        IpAddr::V6(ip) => is_link_local(&ip),
    };
    match ip {
        ip if ip.is_loopback() => Some(Scope::Loopback),
        ip if ip.is_unspecified() || ip.is_multicast() || of_one_interface => None,
        _ => Some(Scope::Routed),
    }
}

/// An address of `fe80::/10` means nothing without the name of an interface, and a multiaddr here has none.
fn is_link_local(ip: &Ipv6Addr) -> bool {
    ip.segments()[0] & 0xffc0 == 0xfe80
}

fn name_scope(name: &str) -> Option<Scope> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let local = name == "localhost" || name.ends_with(".localhost");
    (!name.is_empty()).then_some(if local { Scope::Loopback } else { Scope::Routed })
}

/// Whether a relay lies on the way.
pub(crate) fn is_relayed(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}

/// The relay that an address goes through, if it says so.
pub(crate) fn relay_of(address: &Multiaddr) -> Option<NetPeerId> {
    let mut before = None;
    for part in address.iter() {
        match part {
            Protocol::P2pCircuit => return before,
            Protocol::P2p(peer) => before = Some(peer),
            _ => before = None,
        }
    }
    None
}

/// Takes the peer off the end of an address. An address that ends in the relay of a circuit keeps it.
pub(crate) fn split_peer(mut address: Multiaddr) -> (Multiaddr, Option<NetPeerId>) {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => {
            address.pop();
            (address, Some(peer))
        }
        _ => (address, None),
    }
}

/// The address with the peer at its end.
pub(crate) fn with_peer(address: Multiaddr, peer: NetPeerId) -> Multiaddr {
    match address.iter().last() {
        Some(Protocol::P2p(_)) => address,
        _ => address.with(Protocol::P2p(peer)),
    }
}

/// An address that a peer told, of `peer`, over a link that reaches as far as `link`: without the peer at its end, if it is
/// one that may be dialled.
pub(crate) fn take(text: &str, peer: NetPeerId, link: Scope) -> Option<Multiaddr> {
    if text.len() > MAX_ADDRESS {
        return None;
    }
    let (address, end) = split_peer(text.parse().ok()?);
    let named = end.is_none_or(|end| end == peer);
    (named && dialable(&address) && may_cross(&address, link)).then_some(address)
}

/// An address as it is told to a peer over a link that reaches as far as `link`; `None`: not to be told there.
pub(crate) fn tell(address: &Multiaddr, link: Scope) -> Option<String> {
    let text = (dialable(address) && may_cross(address, link)).then(|| address.to_string())?;
    (text.len() <= MAX_ADDRESS).then_some(text)
}

/// Addresses without repetition, in an order in which the first few serve best: those with a route and those through relays
/// in turn, so that neither kind crowds out the other, and those of this machine last.
pub(crate) fn ranked(addresses: impl IntoIterator<Item = Multiaddr>) -> Vec<Multiaddr> {
    let (mut direct, mut circuits, mut local) = (Vec::new(), Vec::new(), Vec::new());
    for address in addresses {
        let kind = match (scope(&address), is_relayed(&address)) {
            (Some(Scope::Routed), false) => &mut direct,
            (Some(Scope::Routed), true) => &mut circuits,
            _ => &mut local,
        };
        if !kind.contains(&address) {
            kind.push(address);
        }
    }
    let most = direct.len().max(circuits.len());
    let (mut direct, mut circuits) = (direct.into_iter(), circuits.into_iter());
    let mut ranked: Vec<_> = (0..most).flat_map(|_| direct.next().into_iter().chain(circuits.next())).collect();
    ranked.append(&mut local);
    ranked
}

/// A loopback address means another machine to who is not on this one, whichever way it goes.
fn may_cross(address: &Multiaddr, link: Scope) -> bool {
    scope(address).is_some_and(|scope| scope == Scope::Routed || link == Scope::Loopback)
}

/// Whether an address without a peer at its end has a form that is dialled here.
fn dialable(address: &Multiaddr) -> bool {
    let parts: Vec<Protocol<'_>> = address.iter().collect();
    let Some(after) = after_transport(&parts) else { return false };
    matches!(after, [] | [Protocol::P2p(_), Protocol::P2pCircuit])
}

fn after_transport<'a, 'p>(parts: &'p [Protocol<'a>]) -> Option<&'p [Protocol<'a>]> {
    let (host, rest) = parts.split_first()?;
    if !matches!(host, Protocol::Ip4(_) | Protocol::Ip6(_) | Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_)) {
        return None;
    }
    match rest {
        [Protocol::Udp(1..), Protocol::QuicV1, rest @ ..]
        | [Protocol::Tcp(1..), Protocol::Tls, Protocol::Ws(_), rest @ ..]
        | [Protocol::Tcp(1..), Protocol::Ws(_) | Protocol::Wss(_), rest @ ..]
        | [Protocol::Tcp(1..), rest @ ..] => Some(rest),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn peer(n: u8) -> NetPeerId {
        crate::net::identity::keypair([n; 32]).public().to_peer_id()
    }

    #[test]
    fn addresses_reach_as_far_as_their_first_hop() {
        let table = [
            ("/ip4/127.0.0.1/tcp/1", Some(Scope::Loopback)),
            ("/ip6/::1/tcp/1", Some(Scope::Loopback)),
            ("/ip6/::ffff:127.0.0.1/tcp/1", Some(Scope::Loopback)),
            ("/dns4/localhost/tcp/1", Some(Scope::Loopback)),
            ("/dns/a.localhost/tcp/1", Some(Scope::Loopback)),
            ("/ip4/10.0.0.1/tcp/1", Some(Scope::Routed)),
            ("/ip6/2001:db8::1/udp/1/quic-v1", Some(Scope::Routed)),
            ("/dns4/example.org/tcp/443/tls/ws", Some(Scope::Routed)),
            ("/ip4/0.0.0.0/tcp/1", None),
            ("/ip4/224.0.0.251/udp/1/quic-v1", None),
            ("/ip4/255.255.255.255/udp/1/quic-v1", None),
            ("/ip6/fe80::1/tcp/1", None),
            ("/memory/7", None),
        ];
        for (text, expected) in table {
            assert_eq!(scope(&text.parse().unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn only_what_is_dialled_here_is_taken_from_a_peer() {
        let (subject, relay) = (peer(1), peer(2));
        let taken = [
            "/ip4/192.0.2.1/tcp/1".to_owned(),
            format!("/ip4/192.0.2.1/tcp/1/p2p/{subject}"),
            "/ip4/192.0.2.1/udp/1/quic-v1".into(),
            "/dns4/example.org/tcp/443/tls/ws".into(),
            "/ip4/192.0.2.1/tcp/1/ws".into(),
            format!("/ip4/192.0.2.1/tcp/1/p2p/{relay}/p2p-circuit"),
            format!("/ip4/192.0.2.1/tcp/1/p2p/{relay}/p2p-circuit/p2p/{subject}"),
        ];
        for text in taken {
            assert!(take(&text, subject, Scope::Routed).is_some(), "{text}");
        }
        let dropped = [
            String::new(),
            "nonsense".into(),
            "/ip4/192.0.2.1/tcp/0".into(),
            "/ip4/192.0.2.1/udp/1".into(),
            "/ip4/192.0.2.1/tcp/1/http".into(),
            "/memory/1".into(),
            "/unix/%2Ftmp%2Fsocket".into(),
            "/dnsaddr/example.org".into(),
            format!("/ip4/192.0.2.1/tcp/1/p2p/{relay}"),
            format!("/ip4/192.0.2.1/tcp/1/p2p/{relay}/p2p-circuit/p2p/{relay}"),
            format!("/ip4/192.0.2.1/tcp/1/p2p/{relay}/p2p-circuit/p2p-circuit"),
            "/ip4/127.0.0.1/tcp/1".into(),
            format!("/dns4/{}/tcp/1", "a".repeat(MAX_ADDRESS)),
        ];
        for text in dropped {
            assert_eq!(take(&text, subject, Scope::Routed), None, "{text}");
        }
        assert!(take("/ip4/127.0.0.1/tcp/1", subject, Scope::Loopback).is_some());
    }

    #[test]
    fn loopback_is_told_on_loopback_only() {
        let local: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
        assert!(tell(&local, Scope::Loopback).is_some());
        assert_eq!(tell(&local, Scope::Routed), None);
        let routed: Multiaddr = "/ip4/10.1.2.3/tcp/1".parse().unwrap();
        assert!(tell(&routed, Scope::Routed).is_some() && tell(&routed, Scope::Loopback).is_some());
    }

    #[test]
    fn neither_direct_addresses_nor_circuits_crowd_out_the_other_kind() {
        let relay = peer(3);
        let parse = |text: String| -> Multiaddr { text.parse().unwrap() };
        let local = parse("/ip4/127.0.0.1/tcp/1".into());
        let direct: Vec<_> = (1..4).map(|n| parse(format!("/ip4/10.0.0.1/tcp/{n}"))).collect();
        let circuits: Vec<_> =
            (1..6).map(|n| parse(format!("/ip4/192.0.2.1/tcp/{n}/p2p/{relay}/p2p-circuit"))).collect();
        let all = [vec![local.clone()], circuits.clone(), direct.clone(), direct.clone()].concat();
        let ranked = ranked(all);
        assert_eq!(ranked.len(), 9);
        assert_eq!(ranked[..4], [&direct[0], &circuits[0], &direct[1], &circuits[1]].map(Clone::clone));
        assert_eq!(ranked.last(), Some(&local));
    }

    #[test]
    fn circuits_name_their_relay() {
        let relay = peer(3);
        let circuit: Multiaddr = format!("/ip4/192.0.2.1/tcp/1/p2p/{relay}/p2p-circuit").parse().unwrap();
        assert!(is_relayed(&circuit));
        assert_eq!(relay_of(&circuit), Some(relay));
        assert_eq!(relay_of(&"/ip4/192.0.2.1/tcp/1/p2p-circuit".parse().unwrap()), None);
        assert_eq!(split_peer(circuit.clone()), (circuit, None));
    }

    proptest! {
        #[test]
        fn odd_text_never_panics(text in ".{0,300}", tail in "(/[a-z0-9.:-]{0,12}){0,8}") {
            let _ = take(&text, peer(1), Scope::Loopback);
            let _ = take(&tail, peer(1), Scope::Routed);
        }
    }
}
