//! Carries out the command line: finds a peer, asks it, prints what it says.
//!
//! A command talks to the running peer of its data directory through the control socket. Where none runs, it opens the
//! store itself, as a peer without listeners, and closes it again; the same [`Service`](crate::service::Service) answers
//! either way.

mod documents;
mod lock;
mod offline;
mod program;
mod queue;
mod register;
mod services;
mod soft;
mod spaces;
mod standing;
mod tokens;
mod topic;
mod transfer;
mod tree;
mod voters;

use std::time::Duration;

use crate::args::{Cli, Command, QueueCommand, ServicesCommand};
use crate::config::Config;
use crate::control::{Call, Connection};
use crate::failure::{Code, Failure};
use crate::output::Output;
use crate::progress::Progress;
use crate::request::Request;
use crate::service::{Local, Opening};
use crate::{doctor, logging, run};

/// How long a command waits for a peer that holds the directory but does not answer yet: it is starting or stopping.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is logged by commands that only ask: they print their failures themselves.
const QUIET: &str = "error";

/// What a command needs to do its work.
pub(crate) struct Context {
    config: Config,
    out: Output,
}

/// Carries out a command line.
pub async fn execute(cli: Cli, environment: Vec<(String, String)>) -> Result<(), Failure> {
    let out = Output { json: cli.global.json };
    let layers = cli.layers(environment);
    if let Command::Completions { shell } = cli.command {
        return offline::completions(shell, out);
    }
    if let Command::Supervised { parent, command } = &cli.command {
        out.failure(&program::supervised(*parent, command));
        return Err(Failure::new(Code::Program(program::NO_PROGRAM), "the program was not started"));
    }
    let config = Config::load(layers)?;
    let asked_for_logs = config.log.source != crate::config::Source::Default;
    let serves = matches!(cli.command, Command::Run(_));
    let filter = if serves || asked_for_logs { config.log.value.as_str() } else { QUIET };
    logging::start(filter, config.log_format.value);
    let context = Context { config, out };
    match cli.command {
        Command::Run(_) => run::run(context.config, out).await,
        Command::Config(_) => offline::config(&context),
        Command::Doctor(args) => doctor::command(&context.config, out, &args).await,
        Command::Completions { .. } => Ok(()),
        Command::Services { command: ServicesCommand::Register(args) } => register::register(&context, args).await,
        Command::Lock(args) => lock::lock(&context, args).await,
        Command::Elect(args) => lock::elect(&context, args).await,
        Command::Queue { command: QueueCommand::Work { path, visibility, count, session, command } } => {
            queue::work(&context, queue::Work { path, visibility, count, ttl: session.ttl, command }).await
        }
        asking => interruptible(ask(&context, asking)).await,
    }
}

async fn ask(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Put(args) => documents::put(context, args).await,
        Command::Get(args) => documents::get(context, args).await,
        Command::List(args) => documents::list(context, args).await,
        Command::Watch(args) => documents::watch(context, args).await,
        Command::Delete { path } => documents::delete(context, path).await,
        Command::Wait(args) => documents::wait(context, args).await,
        Command::History(args) => documents::history(context, args).await,
        Command::Soft { command } => soft::soft(context, command).await,
        Command::Services { command } => services::services(context, command).await,
        Command::Topic { command } => topic::topic(context, command).await,
        Command::Tree { command } => tree::tree(context, command).await,
        Command::Queue { command } => queue::queue(context, command).await,
        Command::Voters { command } => voters::voters(context, command).await,
        Command::Space { command } => spaces::space(context, command).await,
        Command::Invite(args) => spaces::invite(context, args).await,
        Command::Join(args) => spaces::join(context, args).await,
        Command::Members => spaces::members(context).await,
        Command::Revoke(args) => standing::revoke(context, args).await,
        Command::RotateRoot => standing::rotate_root(context).await,
        Command::Evicted { command } => standing::evicted(context, command).await,
        Command::Peers => spaces::peers(context).await,
        Command::Status => spaces::status(context).await,
        Command::Token { command } => tokens::token(context, command).await,
        Command::Export { file } => transfer::export(context, file).await,
        Command::Import { file } => transfer::import(context, file).await,
        // Carried out by who called this.
        Command::Run(_) | Command::Config(_) | Command::Doctor(_) | Command::Completions { .. } => Ok(()),
        Command::Lock(_) | Command::Elect(_) | Command::Supervised { .. } => Ok(()),
    }
}

/// Ends on Ctrl-C or SIGTERM, letting everything be dropped and closed in order.
async fn interruptible(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::select! {
        result = work => result,
        () = run::told_to_stop() => Err(Failure::new(Code::Interrupted, "stopped")),
    }
}

/// A request under way, and the peer behind it if it is this process's own.
pub(crate) struct Asked {
    /// The request.
    pub(crate) call: Call,
    local: Option<Local>,
}

impl Asked {
    /// The answer of a request that has no items. A long-running peer waits for room on a full disk; one that was started
    /// for this command gives up.
    async fn result<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, Failure> {
        let Some(local) = &self.local else { return self.call.result().await };
        tokio::select! {
            result = self.call.result() => result,
            trouble = local.service().trouble() => Err(Failure::new(Code::Store, trouble)),
        }
    }

    /// Closes a peer of this process's own: what was acknowledged is durable already, this keeps the close clean.
    pub(crate) async fn close(self) {
        let Asked { call, local } = self;
        drop(call);
        if let Some(local) = local {
            local.close().await;
        }
    }
}

impl Context {
    /// Sends a request to the running peer, or to one opened for it. `opening` says whether a directory without a store
    /// becomes one.
    pub(crate) async fn ask(&self, request: Request, opening: Opening) -> Result<Asked, Failure> {
        let directory = &self.config.data.value;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let _progress = Progress::start("opening the store");
        loop {
            if let Some(connection) = Connection::open(directory).await? {
                return Ok(Asked { call: connection.call(&request).await?, local: None });
            }
            match Local::open(&self.config, opening).await {
                Ok(local) => {
                    let call = Call::here(local.service(), request);
                    return Ok(Asked { call, local: Some(local) });
                }
                // Locked, and no socket: a peer that is starting or stopping.
                Err(e) if e.is_locked() && tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Sends a request that has one answer, and closes behind it.
    pub(crate) async fn answer<T: serde::de::DeserializeOwned>(
        &self,
        request: Request,
        opening: Opening,
    ) -> Result<T, Failure> {
        let mut asked = self.ask(request, opening).await?;
        let result = {
            let _progress = Progress::start("waiting for the peer");
            asked.result().await
        };
        asked.close().await;
        result
    }

    /// Sends a request with items, gives each to `each`, and closes behind it.
    pub(crate) async fn items<T: serde::de::DeserializeOwned>(
        &self,
        request: Request,
        each: impl FnMut(serde_json::Value) -> Result<(), Failure>,
    ) -> Result<T, Failure> {
        let mut asked = self.ask(request, Opening::Existing).await?;
        let result = asked.call.drain(each).await;
        asked.close().await;
        result
    }

    /// The space that commands work in; empty where nobody chose one, so that the peer takes `default` or the only one.
    fn space(&self) -> String {
        match self.config.space.source {
            crate::config::Source::Default => String::new(),
            _ => self.config.space.value.clone(),
        }
    }
}

/// Refuses where no peer runs: soft state lives with one, and one that is opened for a single command would take away again
/// what it has set.
async fn running_peer(context: &Context, what: &str) -> Result<Connection, Failure> {
    Connection::open(&context.config.data.value).await?.ok_or_else(|| {
        Failure::new(Code::Failed, format_args!("no peer runs here, and {what} live with a running peer"))
            .hint("start one with `foreshore run`")
    })
}

/// Reads a typed item.
fn item<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> Result<T, Failure> {
    serde_json::from_value(value).map_err(|e| Failure::new(Code::Failed, e))
}

/// A value for soft state or a topic: JSON, or text if that is said.
fn small_value(argument: Option<String>, text: bool) -> Result<serde_json::Value, Failure> {
    /// The peer's own bound is far below and says so.
    const MAX: u64 = 1 << 20;
    let given = argument_or_stdin(argument, "value", MAX)?;
    if text {
        return Ok(serde_json::Value::String(given));
    }
    serde_json::from_str(&given).map_err(|e| {
        Failure::invalid("value", format_args!("not JSON: {e}")).hint("quote a string as '\"text\"', or use --text")
    })
}

/// An argument, or standard input for `-` and for nothing, as bytes.
fn bytes_or_stdin(argument: Option<String>, what: &str, max: u64) -> Result<Vec<u8>, Failure> {
    use std::io::{IsTerminal, Read};
    match argument {
        Some(text) if text != "-" => Ok(text.into_bytes()),
        given => {
            if given.is_none() && std::io::stdin().is_terminal() {
                return Err(Failure::invalid(what, "it is missing").hint("give it as an argument or on standard input"));
            }
            let mut bytes = Vec::new();
            let read = std::io::stdin().lock().take(max + 1).read_to_end(&mut bytes);
            match read.map_err(|e| Failure::invalid(what, e))? as u64 <= max {
                true => Ok(bytes),
                false => Err(Failure::invalid(what, format_args!("it has more than {max} bytes"))),
            }
        }
    }
}

/// An argument, or standard input for `-` and for nothing.
fn argument_or_stdin(argument: Option<String>, what: &str, max: u64) -> Result<String, Failure> {
    use std::io::{IsTerminal, Read};
    match argument {
        Some(text) if text != "-" => Ok(text),
        given => {
            if given.is_none() && std::io::stdin().is_terminal() {
                return Err(Failure::invalid(what, "it is missing").hint("give it as an argument or on standard input"));
            }
            let mut text = String::new();
            let read = std::io::stdin().lock().take(max + 1).read_to_string(&mut text);
            let length = read.map_err(|e| Failure::invalid(what, e))?;
            match length as u64 <= max {
                true => Ok(text),
                false => Err(Failure::invalid(what, format_args!("it has more than {max} bytes"))),
            }
        }
    }
}
