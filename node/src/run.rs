//! `foreshore run`: a peer with its listeners, control socket and HTTP port, until it is told to stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::banner::{FirstWords, banner};
use crate::config::{Config, HttpApi, HttpListen, Setting, Source};
use crate::control::Server;
use crate::doors::{FindSpace, automerge_repo, zookeeper};
use crate::failure::{Code, Failure};
use crate::http;
use crate::output::Output;
use crate::progress::Progress;
use crate::request::Status;
use crate::service::{Local, Opening, Service};

/// How long everything may take to stop. What is acknowledged is durable long before; this bounds the courtesies.
const SHUTDOWN: Duration = Duration::from_secs(10);

/// What of [`SHUTDOWN`] the sockets may use before the store is closed.
const DRAIN: Duration = Duration::from_secs(4);

/// How long another voter may take to lead in this one's place.
const HAND_OVER: Duration = Duration::from_secs(3);

/// Resolves when the process is told to stop.
pub(crate) async fn told_to_stop() {
    let streams = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    match streams {
        (Ok(mut interrupt), Ok(mut terminate)) => {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
        // Without handlers the system's own take effect: the process just ends.
        _ => std::future::pending().await,
    }
}

/// Runs a peer.
pub(crate) async fn run(config: Config, out: Output) -> Result<(), Failure> {
    let stop = told_to_stop();
    tokio::pin!(stop);
    let started = tokio::select! {
        started = Running::start(&config) => started?,
        () = &mut stop => return Ok(()),
    };
    started.announce(out).await?;
    stop.await;
    tracing::info!("stopping");
    started.stop().await
}

/// A peer at work.
struct Running {
    local: Local,
    stop: watch::Sender<bool>,
    doors: Vec<tokio::task::JoinHandle<()>>,
    words: FirstWords,
}

impl Running {
    async fn start(config: &Config) -> Result<Self, Failure> {
        let mut words =
            FirstWords { created: !Local::has_store(config), demo: http::has_demo(), ..FirstWords::default() };
        let progress = Progress::start("opening the store");
        let token = config.http_token_file.value.as_deref().map(http::Token::read).transpose()?;
        let http = bind_http(config, &mut words).await?;
        let metrics = bind_metrics(config).await?;
        let zookeeper = bind_door("zookeeper", &config.zookeeper).await?;
        let repo = bind_door("automerge_repo", &config.automerge_repo).await?;
        let local = Local::open(config, Opening::Serve).await?;
        words.notes.extend(local.notes());
        words.loopback = local.listens_on_loopback_only();
        drop(progress);
        let (stop, stopped) = watch::channel(false);
        let mut doors = Vec::new();
        let control = Server::bind(&config.data.value).map_err(|e| {
            Failure::new(Code::Store, format_args!("control socket in {}: {e}", config.data.value.display()))
        })?;
        doors.push(tokio::spawn(control.serve(local.service().clone(), until(stopped.clone()))));
        let hosts = config.http_hosts.value.clone();
        let limits = http::Limits {
            connections: usize::try_from(config.max_connections.value).unwrap_or(usize::MAX),
            per_address: usize::try_from(config.address_connections.value).unwrap_or(usize::MAX),
            trusted: config.trusted_addresses.value.clone(),
        };
        let access = http::Access { limits: limits.clone(), hosts, token, metrics_elsewhere: metrics.is_some() };
        if let Some((listener, address)) = http {
            local.service().set_http(address);
            if !address.ip().is_loopback() && token.is_none() {
                words.notes.push("other machines get no metrics and status: `http_token_file` is not set".into());
            }
            let more = http::More { api: http_door(config, local.service(), token, &mut words)?, stage: None };
            let serve = http::serve(listener, local.service().clone(), access.clone(), more, until(stopped.clone()));
            doors.push(tokio::spawn(async move {
                if let Err(error) = serve.await {
                    tracing::error!(%error, "HTTP port");
                }
            }));
        }
        if let Some(listener) = metrics {
            let serve = http::serve_metrics(listener, local.service().clone(), access, until(stopped.clone()));
            doors.push(tokio::spawn(async move {
                if let Err(error) = serve.await {
                    tracing::error!(%error, "metrics port");
                }
            }));
        }
        if let Some((listener, address)) = zookeeper {
            local.service().set_zookeeper(address);
            let find = find_space(local.service(), &config.zookeeper_space.value);
            let door = zookeeper::Door::new(find, config.data.value.clone(), address);
            doors.push(tokio::spawn(door.serve(listener, until(stopped.clone()))));
        }
        if let Some((listener, address)) = repo {
            local.service().set_automerge_repo(address);
            let door = automerge_repo_door(config, local.service(), token)?;
            doors.push(tokio::spawn(door.serve(listener, limits, until(stopped))));
        }
        Ok(Self { local, stop, doors, words })
    }

    /// Says that the peer is up: a banner for people, one line of JSON for programs.
    async fn announce(&self, out: Output) -> Result<(), Failure> {
        let status: Status = self.local.service().figures().await?;
        let told = match out.json {
            true => out.line(&serde_json::json!({ "event": "ready", "status": status }).to_string()),
            false => out.line(&banner(&status, &self.words)),
        };
        match told {
            // Whoever started the peer does not care for its output; it works all the same.
            Err(failure) if failure.code == Code::ReaderGone => Ok(()),
            told => told,
        }
    }

    async fn stop(self) -> Result<(), Failure> {
        let whole = async {
            // Programs that run under a lock end while the peer still answers.
            self.local.service().stopping();
            let _ = self.stop.send(true);
            let handed = self.local.service().hand_over(HAND_OVER);
            let drained = async {
                for door in self.doors {
                    let _ = door.await;
                }
            };
            let _ = tokio::join!(tokio::time::timeout(DRAIN, drained), handed);
            self.local.close().await;
        };
        if tokio::time::timeout(SHUTDOWN, whole).await.is_err() {
            // Acknowledged writes are durable; the next start begins a new incarnation, that is all.
            tracing::warn!("stopping took too long, ending now");
        }
        Ok(())
    }
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone, and the peer with it.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Finds the space that a door serves, whenever it is asked: the peer may join it later.
fn find_space(service: &Service, name: &str) -> FindSpace {
    let (service, name) = (service.clone(), name.to_owned());
    Arc::new(move || {
        let (service, name) = (service.clone(), name.clone());
        Box::pin(async move { service.space(&name).await.map_err(|failure| failure.message) })
    })
}

/// The door for clients of automerge-repo.
fn automerge_repo_door(
    config: &Config,
    service: &Service,
    token: Option<http::Token>,
) -> Result<automerge_repo::Door, Failure> {
    service.tokens()?;
    let settings = http::api::Settings {
        admission: http::api::Admission::Local,
        hosts: config.http_hosts.value.clone(),
        token,
        origins: config.http_cors.value.clone(),
    };
    let plan = automerge_repo::Plan {
        space: find_space(service, &config.automerge_repo_space.value),
        prefix: config.automerge_repo_prefix.value.clone(),
        peer: service.peer_id(),
        settings,
    };
    Ok(automerge_repo::Door::new(service.clone(), plan))
}

/// Binds the port of a door, if one is asked for.
async fn bind_door(name: &str, setting: &Setting<HttpListen>) -> Result<Option<(TcpListener, SocketAddr)>, Failure> {
    let HttpListen::At(wanted) = setting.value else { return Ok(None) };
    let bound = async {
        let listener = TcpListener::bind(wanted).await?;
        let address = listener.local_addr()?;
        std::io::Result::Ok((listener, address))
    };
    bound.await.map(Some).map_err(|error| {
        let message = format!("{}: `{name}` is {wanted}: {error}", setting.source);
        Failure::new(Code::Failed, message).hint("choose another address, or `off`")
    })
}

/// The routes of the HTTP door, if it is open.
fn http_door(
    config: &Config,
    service: &Service,
    token: Option<http::Token>,
    words: &mut FirstWords,
) -> Result<Option<axum::Router>, Failure> {
    let admission = match config.http_api.value {
        HttpApi::Off => return Ok(None),
        HttpApi::Local => http::api::Admission::Local,
        HttpApi::Token => http::api::Admission::Token,
    };
    // Tokens that cannot be read are better found out now than by whoever sends one.
    service.tokens()?;
    words.api = true;
    let (hosts, origins) = (config.http_hosts.value.clone(), config.http_cors.value.clone());
    let settings = http::api::Settings { admission, hosts, token, origins };
    Ok(Some(http::api::router(service.clone(), settings)))
}

/// Binds the HTTP port. A default port that is taken is replaced by any free one, a configured one is an error.
async fn bind_http(config: &Config, words: &mut FirstWords) -> Result<Option<(TcpListener, SocketAddr)>, Failure> {
    let HttpListen::At(wanted) = config.http.value else { return Ok(None) };
    let listener = match TcpListener::bind(wanted).await {
        Ok(listener) => listener,
        Err(e) if e.kind() == std::io::ErrorKind::AddrInUse && config.http.source == Source::Default => {
            words.notes.push(format!("port {} is taken, HTTP listens elsewhere", wanted.port()));
            TcpListener::bind(SocketAddr::new(wanted.ip(), 0)).await?
        }
        Err(e) => {
            let message = format!("{}: `http` is {wanted}: {e}", config.http.source);
            return Err(Failure::new(Code::Failed, message).hint("choose another address, or `off`"));
        }
    };
    let address = listener.local_addr()?;
    Ok(Some((listener, address)))
}

/// Binds the port of metrics, if they have one.
async fn bind_metrics(config: &Config) -> Result<Option<TcpListener>, Failure> {
    let Some(wanted) = config.metrics.value else { return Ok(None) };
    let refused = |e| Failure::new(Code::Failed, format_args!("{}: `metrics` is {wanted}: {e}", config.metrics.source));
    TcpListener::bind(wanted).await.map(Some).map_err(refused)
}
