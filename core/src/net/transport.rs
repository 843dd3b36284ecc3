//! How bytes get to other peers. A transport comes to the driver from outside as a [`Boxed`] one: TCP, QUIC and WebSocket
//! natively, WebSocket in a browser.

#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(target_arch = "wasm32")]
mod web;

use libp2p::PeerId as NetPeerId;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use self::native::{check_free, native};
#[cfg(target_arch = "wasm32")]
pub(crate) use self::web::{check_free, native};

/// What the driver needs of a transport.
pub(crate) type Transport = Boxed<(NetPeerId, StreamMuxerBox)>;
