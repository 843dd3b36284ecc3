//! A cable between two peers on this machine: carries TCP connections to a target, counts what goes through, and can be
//! cut and healed.
//!
//! A cut cable closes what it carried and hangs up on whoever calls, at once: to both peers it looks like a network that
//! went away with a reset. It holds nothing back and reorders nothing; the simulator does that.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A running cable. Dropping it cuts it for good.
#[derive(Debug)]
pub struct Cable {
    address: SocketAddr,
    whole: watch::Sender<bool>,
    carried: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Cable {
    /// A whole cable to `target`, which need not listen yet. Runs on the current runtime.
    pub async fn to(target: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (whole, watched) = watch::channel(true);
        let carried = Arc::<AtomicU64>::default();
        let task = tokio::spawn(serve(listener, target, watched, carried.clone()));
        Ok(Self { address, whole, carried, task })
    }

    /// Where to dial.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes every connection, and every new one until [`Cable::heal`].
    pub fn cut(&self) {
        self.whole.send_replace(false);
    }

    /// Carries connections again.
    pub fn heal(&self) {
        self.whole.send_replace(true);
    }

    /// Whether it carries connections.
    pub fn is_whole(&self) -> bool {
        *self.whole.borrow()
    }

    /// Bytes carried so far, both directions, with everything that encryption and multiplexing add.
    pub fn carried(&self) -> u64 {
        self.carried.load(Ordering::Relaxed)
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, target: SocketAddr, whole: watch::Receiver<bool>, carried: Arc<AtomicU64>) {
    // Dropped with this task, which ends every connection.
    let mut connections = JoinSet::new();
    loop {
        let Ok((caller, _)) = listener.accept().await else { return };
        while connections.try_join_next().is_some() {}
        if *whole.borrow() {
            connections.spawn(connect(caller, target, whole.clone(), carried.clone()));
        }
    }
}

/// Carries one connection until either end closes it or the cable is cut.
async fn connect(caller: TcpStream, target: SocketAddr, mut whole: watch::Receiver<bool>, carried: Arc<AtomicU64>) {
    let Ok(called) = TcpStream::connect(target).await else { return };
    // Small frames must not wait for each other: the cable is no bottleneck of its own.
    let _ = (caller.set_nodelay(true), called.set_nodelay(true));
    let (from_caller, to_caller) = caller.into_split();
    let (from_called, to_called) = called.into_split();
    tokio::select! {
        () = async { tokio::join!(copy(from_caller, to_called, &carried), copy(from_called, to_caller, &carried)); } => {}
        _ = whole.wait_for(|whole| !whole) => {}
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, carried: &AtomicU64) {
    let mut buffer = vec![0; 32 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
        carried.fetch_add(count as u64, Ordering::Relaxed);
    }
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers every byte with itself.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        address
    }

    async fn ask(stream: &mut TcpStream) -> std::io::Result<u8> {
        stream.write_u8(7).await?;
        stream.read_u8().await
    }

    #[tokio::test]
    async fn a_cut_cable_closes_and_a_healed_one_carries_again() {
        let cable = Cable::to(echo().await).await.unwrap();
        let mut stream = TcpStream::connect(cable.address()).await.unwrap();
        assert_eq!(ask(&mut stream).await.unwrap(), 7);
        assert_eq!(cable.carried(), 2);
        cable.cut();
        assert!(stream.read_u8().await.is_err(), "a cut closes what is carried");
        let mut refused = TcpStream::connect(cable.address()).await.unwrap();
        assert!(ask(&mut refused).await.is_err(), "a cut cable hangs up");
        cable.heal();
        let mut again = TcpStream::connect(cable.address()).await.unwrap();
        assert_eq!(ask(&mut again).await.unwrap(), 7);
    }
}
