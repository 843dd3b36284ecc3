//! An HTTP service of three instances behind a balancer that follows the registry; one instance is killed.
//!
//! ```text
//! cargo run --example balance --features tower
//! ```
//!
//! Each instance is a process with a peer of its own, which registers where it listens. The caller's balancer picks the less
//! busy of two instances (`tower::balance::p2c`) out of the live [`Endpoints`](foreshore::peer::Endpoints). When an instance
//! dies, its endpoint is offered until its lease lapses; what goes there meanwhile fails at once and is tried again elsewhere,
//! within a retry budget, and an instance that failed is left in peace for a moment.

use std::collections::BTreeMap;
use std::error::Error;
use std::future::{Future, Ready, ready};
use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use foreshore::peer::{Endpoint, EndpointKey, Metadata, Peer, Space};
use foreshore::trust::Role;
use futures::TryStreamExt;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::{Sleep, sleep};
use tower::balance::p2c::Balance;
use tower::discover::Change;
use tower::load::{CompleteOnResponse, PendingRequests};
use tower::retry::Policy;
use tower::retry::budget::{Budget, TpsBudget};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};

/// What is offered.
const SERVICE: &str = "hello";
/// The instances.
const NAMES: [&str; 3] = ["one", "two", "three"];
/// Which of them dies.
const VICTIM: &str = "two";
/// How long an instance's endpoint is offered after its last sign of life. The default of 15 s suits most; this one does not
/// want to bore anybody.
const TTL: Duration = Duration::from_secs(4);
/// Callers at once.
const CALLERS: usize = 8;
/// Requests that each stage lasts at least.
const ENOUGH: u64 = 300;
/// How long an instance is left in peace after it failed.
const REST: Duration = Duration::from_millis(500);

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

#[tokio::main]
async fn main() -> Outcome {
    let mut arguments = std::env::args().skip(1);
    match arguments.next() {
        None => call().await,
        Some(name) => serve(name).await,
    }
}

fn peer() -> foreshore::peer::Builder {
    let peer = Peer::builder().in_memory().listen("/ip4/127.0.0.1/tcp/0");
    peer.engine(|engine| (engine.soft_ttl, engine.soft_period) = (TTL, TTL / 4))
}

/// An instance: serves until its standard input ends. The invitation is a secret and comes that way too.
async fn serve(name: String) -> Outcome {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let invitation = lines.next_line().await?.ok_or("no invitation on standard input")?;
    let peer = peer().spawn().await?;
    let space = peer.join(&invitation).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let metadata = Metadata::from([("name".to_owned(), name.clone())]);
    space.register(SERVICE, &listener.local_addr()?.to_string(), metadata).await?;
    let router = axum::Router::new().route("/", axum::routing::get(move || ready(name.clone())));
    let stop = async move { while let Ok(Some(_)) = lines.next_line().await {} };
    axum::serve(listener, router).with_graceful_shutdown(stop).await?;
    peer.shutdown().await?;
    Ok(())
}

/// The caller: starts the instances, asks them, kills one, and tells how it went.
async fn call() -> Outcome {
    let peer = peer().spawn().await?;
    let space = peer.create_space("home").await?;
    let mut instances = start(&space).await?;
    let tally = Arc::new(Tally::default());
    let callers = begin(&space, &tally).await?;
    let outcome = watch(&mut instances, &tally).await;
    callers.iter().for_each(tokio::task::JoinHandle::abort);
    outcome?;
    tally.print();
    for mut instance in instances {
        drop(instance.stdin.take());
        instance.wait().await?;
    }
    peer.shutdown().await?;
    Ok(())
}

async fn start(space: &Space) -> Outcome<Vec<Child>> {
    let mut instances = Vec::new();
    for name in NAMES {
        let invitation = space.invite(Role::Writer).await?;
        let mut instance =
            Command::new(std::env::current_exe()?).arg(name).stdin(Stdio::piped()).kill_on_drop(true).spawn()?;
        let input = instance.stdin.as_mut().ok_or("the input is piped")?;
        input.write_all(format!("{invitation}\n").as_bytes()).await?;
        instances.push(instance);
    }
    Ok(instances)
}

/// Begins to ask: a balancer over the live view, and callers that share it.
async fn begin(space: &Space, tally: &Arc<Tally>) -> Outcome<Vec<tokio::task::JoinHandle<()>>> {
    let view = space.endpoints(SERVICE).await?;
    let (coming, going) = (tally.clone(), tally.clone());
    let discover = view.discover(move |endpoint| {
        coming.offered(endpoint);
        PendingRequests::new(Instance::new(endpoint, coming.clone()), CompleteOnResponse::default())
    });
    let balance = Balance::new(discover.inspect_ok(move |change| {
        if let Change::Remove(key) = change {
            going.gone(key);
        }
    }));
    let client = ServiceBuilder::new()
        .load_shed()
        .concurrency_limit(2 * CALLERS)
        .retry(Again { budget: Arc::new(TpsBudget::new(Duration::from_secs(5), 10, 0.5)), left: 4 })
        .timeout(Duration::from_secs(2))
        .buffer(4 * CALLERS)
        .service(balance);
    Ok((0..CALLERS).map(|_| tokio::spawn(ask(client.clone(), tally.clone()))).collect())
}

async fn ask<S>(mut client: S, tally: Arc<Tally>)
where
    S: Service<(), Response = String, Error = BoxError>,
{
    loop {
        // What comes before the first instance is there is not counted: it waits, and in the end gives up.
        let stage = tally.stage();
        let answer = match client.ready().await {
            Ok(client) => client.call(()).await,
            Err(error) => Err(error),
        };
        if let Some(stage) = stage {
            stage.asked.fetch_add(1, Relaxed);
            stage.answered.fetch_add(u64::from(answer.is_ok()), Relaxed);
        }
        sleep(Duration::from_millis(5)).await;
    }
}

/// Kills an instance once there was enough to see, and waits until there was enough without it.
async fn watch(instances: &mut [Child], tally: &Tally) -> Outcome {
    tally.enough(1).await;
    let victim = NAMES.iter().position(|name| *name == VICTIM).ok_or("there is a victim")?;
    instances[victim].kill().await?;
    println!("{VICTIM} is killed");
    tally.at.store(2, Relaxed);
    tally.enough(3).await;
    Ok(())
}

/// What happened in a stage.
#[derive(Default)]
struct Stage {
    asked: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
}

/// What happened.
#[derive(Default)]
struct Tally {
    /// 0 before all are there, then the stage's number from 1.
    at: AtomicUsize,
    stages: [Stage; 3],
    /// The instances that the balancer knows.
    names: Mutex<BTreeMap<EndpointKey, String>>,
}

impl Tally {
    fn stage(&self) -> Option<&Stage> {
        self.at.load(Relaxed).checked_sub(1).map(|at| &self.stages[at])
    }

    /// Waits until a stage has lasted long enough.
    async fn enough(&self, at: usize) {
        while self.at.load(Relaxed) != at || self.stages[at - 1].asked.load(Relaxed) < ENOUGH {
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// The balancer is told of an endpoint.
    fn offered(&self, endpoint: &Endpoint) {
        let name = endpoint.metadata.get("name").cloned().unwrap_or_default();
        println!("{name} is offered at {}", endpoint.endpoint);
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.insert(endpoint.key.clone(), name);
        if names.len() == NAMES.len() && self.at.load(Relaxed) == 0 {
            self.at.store(1, Relaxed);
        }
    }

    /// The balancer drops an endpoint: it sends nobody there from now on.
    fn gone(&self, key: &EndpointKey) {
        let name = self.names.lock().unwrap_or_else(PoisonError::into_inner).remove(key).unwrap_or_default();
        println!("{name} is gone");
        if name == VICTIM && self.at.load(Relaxed) == 2 {
            self.at.store(3, Relaxed);
        }
    }

    fn print(&self) {
        for (name, stage) in ["all alive", "one dead and still offered", "the dead one gone"].iter().zip(&self.stages) {
            let [asked, answered, failed] = [&stage.asked, &stage.answered, &stage.failed].map(|n| n.load(Relaxed));
            println!("{name}: {asked} asked, {answered} answered, {failed} attempts failed");
        }
    }
}

/// An instance as the balancer sees it.
struct Instance {
    address: String,
    tally: Arc<Tally>,
    /// An attempt has failed since this was last asked whether it is ready.
    failed: Arc<AtomicBool>,
    rest: Option<Pin<Box<Sleep>>>,
}

impl Instance {
    fn new(endpoint: &Endpoint, tally: Arc<Tally>) -> Self {
        Self { address: endpoint.endpoint.clone(), tally, failed: Arc::default(), rest: None }
    }
}

impl Service<()> for Instance {
    type Response = String;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<String>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.failed.swap(false, Relaxed) {
            self.rest = Some(Box::pin(sleep(REST)));
        }
        if let Some(rest) = &mut self.rest {
            std::task::ready!(rest.as_mut().poll(cx));
            self.rest = None;
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        let (address, tally, failed) = (self.address.clone(), self.tally.clone(), self.failed.clone());
        Box::pin(async move {
            let began = tally.at.load(Relaxed);
            let answer = get(&address).await;
            if answer.is_err() {
                failed.store(true, Relaxed);
                if let Some(stage) = began.checked_sub(1) {
                    tally.stages[stage].failed.fetch_add(1, Relaxed);
                }
            }
            answer
        })
    }
}

/// A GET as short as HTTP allows.
async fn get(address: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Tries again, but not for ever and not for everybody: when many fail, more attempts would only add to the load.
#[derive(Clone)]
struct Again {
    budget: Arc<TpsBudget>,
    left: u32,
}

impl Policy<(), String, BoxError> for Again {
    type Future = Ready<()>;

    fn retry(&mut self, (): &mut (), result: &mut Result<String, BoxError>) -> Option<Ready<()>> {
        if result.is_ok() {
            self.budget.deposit();
            return None;
        }
        if self.left == 0 || !self.budget.withdraw() {
            return None;
        }
        self.left -= 1;
        Some(ready(()))
    }

    fn clone_request(&mut self, (): &()) -> Option<()> {
        Some(())
    }
}
