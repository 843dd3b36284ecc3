//! Addresses of peers, as text: libp2p's multiaddr form, e.g. `/ip4/127.0.0.1/tcp/4801/p2p/12D3KooW…`.

use std::fmt;
use std::str::FromStr;

use libp2p::Multiaddr;
use thiserror::Error;

use super::route;
use crate::trust::invitation::{MAX_ADDRESS, MAX_ADDRESSES};

/// Where a peer listens or is dialled.
///
/// `/ip4/…/tcp/4801`, `/ip4/…/udp/4801/quic-v1`, `/ip4/…/tcp/4802/ws`, `/dns4/example.org/tcp/443/tls/ws`; with
/// `/p2p/12D3KooW…` at its end, only that peer is accepted there.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(pub(crate) Multiaddr);

/// Why text is not an [`Address`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{text:?} is not an address: {why}; write it as /ip4/127.0.0.1/tcp/4801, /ip4/127.0.0.1/udp/4801/quic-v1 or \
         /ip4/127.0.0.1/tcp/4802/ws"
)]
#[non_exhaustive]
pub struct AddressError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub why: String,
}

impl Address {
    /// Whether it leads through a circuit relay.
    pub fn is_relayed(&self) -> bool {
        route::is_relayed(&self.0)
    }
}

/// What an invitation carries of the addresses that peers can dial.
pub(crate) fn invited(addresses: Vec<Address>) -> Vec<String> {
    let ranked = route::ranked(addresses.into_iter().map(|Address(address)| address));
    let texts = ranked.iter().map(ToString::to_string).filter(|text| text.len() <= MAX_ADDRESS);
    texts.take(MAX_ADDRESSES).collect()
}

impl FromStr for Address {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let address: Multiaddr =
            text.parse().map_err(|error| AddressError { text: text.into(), why: format!("{error}") })?;
        if address.is_empty() {
            return Err(AddressError { text: text.into(), why: "it is empty".into() });
        }
        Ok(Self(address))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
