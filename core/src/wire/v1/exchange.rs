//! What members tell each other of where members are.
//!
//! ```text
//! 162 Peers   space[4] · list(≤ 16) peer · extensions
//! peer        id[32] · list(≤ 6) address str(≤ 256)
//! ```
//!
//! An address is a multiaddr as text, without the peer at its end. The list may name the sender itself: what it says of
//! itself is the only thing that the receiver may tell on. Whether an address is one, and worth dialling, is the driver's
//! to judge: here it is text within a bound.

use crate::id::PeerId;
use crate::trust::invitation::MAX_ADDRESS;
use crate::wire::{Codec, DecodeError, Reader, Writer};

/// Most peers in one message.
pub const MAX_TOLD_PEERS: usize = 16;

/// Most addresses of one of them.
pub const MAX_TOLD_ADDRESSES: usize = 6;

/// Where a peer is, by somebody's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAddresses {
    /// The peer.
    pub peer: PeerId,
    /// Multiaddrs as text, each at most [`MAX_ADDRESS`] bytes.
    pub addresses: Vec<String>,
}

impl PeerAddresses {
    /// Cuts lists to what a message holds.
    pub fn bounded(mut peers: Vec<Self>) -> Vec<Self> {
        peers.truncate(MAX_TOLD_PEERS);
        for peer in &mut peers {
            peer.addresses.retain(|address| address.len() <= MAX_ADDRESS);
            peer.addresses.truncate(MAX_TOLD_ADDRESSES);
        }
        peers
    }
}

impl Codec for PeerAddresses {
    fn encode(&self, w: &mut Writer) {
        w.array(&self.peer.0).list(&self.addresses, |w, address| {
            w.str(address);
        });
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let peer = PeerId(r.array("peer")?);
        let addresses = r.list(MAX_TOLD_ADDRESSES, "addresses", |r| Ok(r.str(MAX_ADDRESS, "address")?.to_owned()))?;
        Ok(Self { peer, addresses })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::v1::{Message, decode_frame};

    fn message(peers: usize, addresses: usize, length: usize) -> Message {
        let told = PeerAddresses { peer: PeerId([7; 32]), addresses: vec!["a".repeat(length); addresses] };
        Message::Peers { space: [9; 4], peers: vec![told; peers] }
    }

    /// One peer with one address, as version 1 writes it.
    const VECTOR: &str = "a23f09090909010707070707070707070707070707070707070707070707070707070707070707\
                          01172f6970342f3139322e302e322e372f7463702f3438303100";

    #[test]
    fn the_message_keeps_its_bytes() {
        let told = PeerAddresses { peer: PeerId([7; 32]), addresses: vec!["/ip4/192.0.2.7/tcp/4801".into()] };
        let mut frame = Vec::new();
        Message::Peers { space: [9; 4], peers: vec![told] }.append_to(&mut frame);
        let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, VECTOR);
    }

    #[test]
    fn the_largest_message_fits_a_frame_and_a_larger_one_is_refused() {
        let mut frame = Vec::new();
        message(MAX_TOLD_PEERS, MAX_TOLD_ADDRESSES, MAX_ADDRESS).append_to(&mut frame);
        assert!(frame.len() <= crate::io::MAX_FRAME, "{} bytes", frame.len());
        assert_eq!(decode_frame(&frame).unwrap().len(), 1);
        for (peers, addresses, length) in
            [(MAX_TOLD_PEERS + 1, 1, 1), (1, MAX_TOLD_ADDRESSES + 1, 1), (1, 1, MAX_ADDRESS + 1)]
        {
            let mut frame = Vec::new();
            message(peers, addresses, length).append_to(&mut frame);
            assert!(decode_frame(&frame).is_err(), "{peers} {addresses} {length}");
        }
    }

    #[test]
    fn lists_are_cut_to_what_a_message_holds() {
        let long = PeerAddresses { peer: PeerId([1; 32]), addresses: vec!["a".repeat(MAX_ADDRESS + 1), "b".into()] };
        let cut = PeerAddresses::bounded(vec![long; MAX_TOLD_PEERS + 5]);
        assert_eq!((cut.len(), cut[0].addresses.as_slice()), (MAX_TOLD_PEERS, ["b".to_owned()].as_slice()));
    }
}
