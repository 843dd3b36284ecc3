//! Debian's etcd, over gRPC by crate tonic. The few messages that it takes are written out here, as its published
//! `rpc.proto`, `kv.proto` and `v3lock.proto` number them, since generating them would take a protobuf compiler.

use std::path::Path;

use anyhow::{Context, ensure};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use super::servers::{Servers, free_ports, installed, until_ready};

const SERVERS: usize = 3;
/// Of the lease under which a client holds its locks; nothing renews it, and no run takes as long.
const LEASE_SECONDS: i64 = 3_600;

#[derive(Clone, PartialEq, prost::Message)]
struct Header {
    #[prost(uint64, tag = "2")]
    member: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// An answer of which nothing is wanted.
#[derive(Clone, PartialEq, prost::Message)]
struct Done {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
}

/// Linearizable, as is the default.
#[derive(Clone, PartialEq, prost::Message)]
struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeyValue {
    #[prost(bytes = "vec", tag = "5")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RangeResponse {
    #[prost(message, repeated, tag = "2")]
    kvs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LeaseGrantRequest {
    #[prost(int64, tag = "1")]
    ttl: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LeaseGrantResponse {
    #[prost(int64, tag = "2")]
    id: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LockRequest {
    #[prost(bytes = "vec", tag = "1")]
    name: Vec<u8>,
    #[prost(int64, tag = "2")]
    lease: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LockResponse {
    #[prost(bytes = "vec", tag = "2")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct UnlockRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusRequest {}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

/// One call.
async fn call<Q, A>(grpc: &mut Grpc<Channel>, method: &'static str, request: Q) -> anyhow::Result<A>
where
    Q: prost::Message + Send + Sync + 'static,
    A: prost::Message + Default + Send + Sync + 'static,
{
    grpc.ready().await?;
    let codec: ProstCodec<Q, A> = ProstCodec::default();
    let answer = grpc.unary(tonic::Request::new(request), PathAndQuery::from_static(method), codec).await?;
    Ok(answer.into_inner())
}

pub(crate) struct Client {
    grpc: Grpc<Channel>,
    lease: i64,
}

impl Client {
    pub(super) async fn cycle(&mut self, lock: &str) -> anyhow::Result<()> {
        let request = LockRequest { name: lock.as_bytes().to_vec(), lease: self.lease };
        let held: LockResponse = call(&mut self.grpc, "/v3lockpb.Lock/Lock", request).await?;
        let request = UnlockRequest { key: held.key };
        let _: Done = call(&mut self.grpc, "/v3lockpb.Lock/Unlock", request).await?;
        Ok(())
    }

    pub(super) async fn write(&mut self, key: &str, value: &[u8]) -> anyhow::Result<()> {
        let request = PutRequest { key: key.as_bytes().to_vec(), value: value.to_vec() };
        let _: Done = call(&mut self.grpc, "/etcdserverpb.KV/Put", request).await?;
        Ok(())
    }

    pub(super) async fn read(&mut self, key: &str) -> anyhow::Result<Vec<u8>> {
        let request = RangeRequest { key: key.as_bytes().to_vec() };
        let found: RangeResponse = call(&mut self.grpc, "/etcdserverpb.KV/Range", request).await?;
        Ok(found.kvs.into_iter().next().context("the key is there")?.value)
    }
}

pub(super) struct Cluster {
    pub(super) servers: Servers,
    urls: [String; SERVERS],
}

impl Cluster {
    pub(super) async fn start(directory: &Path) -> anyhow::Result<Self> {
        let program = installed("etcd (Debian: etcd-server)", &["/usr/bin/etcd", "/usr/local/bin/etcd"])?;
        std::fs::create_dir_all(directory)?;
        let ports = free_ports::<{ 2 * SERVERS }>()?;
        let (clients, peers) = ports.split_at(SERVERS);
        let url = |port: &u16| format!("http://127.0.0.1:{port}");
        let cluster: Vec<String> = peers.iter().enumerate().map(|(n, port)| format!("n{n}={}", url(port))).collect();
        let command = |n: usize| {
            let arguments = [
                ("--name", format!("n{n}")),
                ("--data-dir", directory.join(n.to_string()).display().to_string()),
                ("--listen-client-urls", url(&clients[n])),
                ("--advertise-client-urls", url(&clients[n])),
                ("--listen-peer-urls", url(&peers[n])),
                ("--initial-advertise-peer-urls", url(&peers[n])),
                ("--initial-cluster", cluster.join(",")),
                ("--initial-cluster-state", "new".to_owned()),
            ];
            (program.clone(), arguments.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect())
        };
        let servers = Servers::start(directory, (0..SERVERS).map(command).collect())?;
        let urls = std::array::from_fn(|n| url(&clients[n]));
        let cluster = Self { servers, urls };
        for server in 0..SERVERS {
            cluster.ready(server).await?;
        }
        Ok(cluster)
    }

    /// A client that takes whichever server answers.
    pub(super) async fn client(&self) -> anyhow::Result<Client> {
        let endpoints: Result<Vec<Endpoint>, _> = self.urls.iter().cloned().map(Endpoint::from_shared).collect();
        let mut grpc = Grpc::new(Channel::balance_list(endpoints?.into_iter()));
        let request = LeaseGrantRequest { ttl: LEASE_SECONDS };
        let granted: LeaseGrantResponse = call(&mut grpc, "/etcdserverpb.Lease/LeaseGrant", request).await?;
        Ok(Client { grpc, lease: granted.id })
    }

    async fn status(&self, server: usize) -> anyhow::Result<StatusResponse> {
        let channel = Endpoint::from_shared(self.urls[server].clone())?.connect().await?;
        call(&mut Grpc::new(channel), "/etcdserverpb.Maintenance/Status", StatusRequest {}).await
    }

    pub(super) async fn leader(&self) -> anyhow::Result<usize> {
        for server in 0..SERVERS {
            let Ok(status) = self.status(server).await else { continue };
            if status.header.is_some_and(|header| header.member == status.leader) {
                return Ok(server);
            }
        }
        anyhow::bail!("no server of etcd leads")
    }

    async fn ready(&self, server: usize) -> anyhow::Result<()> {
        until_ready("etcd", async || {
            ensure!(self.status(server).await?.leader != 0, "it knows of no leader");
            Ok(())
        })
        .await
    }

    pub(super) async fn restart(&mut self, server: usize) -> anyhow::Result<()> {
        self.servers.launch(server)?;
        self.ready(server).await
    }
}
