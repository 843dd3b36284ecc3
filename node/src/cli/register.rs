//! services register: offers an endpoint while this command, or a program that it runs, lives.
//!
//! The running peer holds the offer for as long as this command's connection to its control socket is open, so whatever ends
//! this command ends the offer. The other way round a peer that stops does not end the program that it spoke for: the
//! endpoint is offered again once a peer is back.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::sleep;

use super::program::{Signals, not_run, status};
use super::{Context, item, running_peer};
use crate::args::RegisterArgs;
use crate::control::Call;
use crate::failure::{Code, Failure};
use crate::output::plain;
use crate::request::{Answer, Registered, Request};

/// How long a program may take to end once it is told to.
const GRACE: Duration = Duration::from_secs(10);

/// Between attempts to reach a peer that has stopped.
const RETRY: Duration = Duration::from_secs(1);

/// Exit status: the program was not started, since the service is not offered.
const NOT_STARTED: u8 = 125;
/// Exit status: the program cannot be started.
const CANNOT_START: u8 = 126;
/// Exit status: there is no such program.
const NO_PROGRAM: u8 = 127;

pub(super) async fn register(context: &Context, args: RegisterArgs) -> Result<(), Failure> {
    let RegisterArgs { name, endpoint, meta, command } = args;
    let request = Request::ServiceRegister {
        space: context.space(),
        service: name,
        endpoint,
        metadata: meta.into_iter().collect(),
    };
    let mut signals = Signals::new()?;
    let offered = tokio::select! {
        offered = offer(context, &request) => offered,
        _ = signals.next() => return Err(Failure::new(Code::Interrupted, "stopped")),
    };
    let call = match offered {
        Ok(call) => call,
        Err(failure) if command.is_empty() => return Err(failure),
        Err(failure) => return not_run(context, &failure, NOT_STARTED),
    };
    if command.is_empty() {
        tokio::select! {
            ended = keep(context, call, &request) => ended,
            _ = signals.next() => Ok(()),
        }
    } else {
        run(context, call, &request, &command, &mut signals).await
    }
}

/// Registers, and says so. The offer lives with the connection that is returned.
async fn offer(context: &Context, request: &Request) -> Result<Call, Failure> {
    let mut call = running_peer(context, "services").await?.call(request).await?;
    match call.next().await {
        Answer::Item(line) => {
            let line: Registered = item(line)?;
            match context.out.value(&line, |r| format!("{} offered at {}", plain(&r.service), plain(&r.endpoint))) {
                // Nobody reads what is printed; the service is offered all the same.
                Err(failure) if failure.code != Code::ReaderGone => Err(failure),
                _ => Ok(call),
            }
        }
        Answer::Failed(failure) => Err(failure),
        Answer::Done(_) => Err(Failure::new(Code::Failed, "the peer did not say that it offers the service")),
    }
}

/// Keeps the endpoint offered, over restarts of the peer; ends only with a refusal that another attempt would meet again.
async fn keep(context: &Context, mut call: Call, request: &Request) -> Result<(), Failure> {
    loop {
        while let Answer::Item(_) = call.next().await {}
        context
            .out
            .failure(&Failure::new(Code::Failed, "the peer stopped: the service is not offered until it is back"));
        call = loop {
            sleep(RETRY).await;
            match offer(context, request).await {
                Ok(call) => break call,
                Err(failure) if matches!(failure.code, Code::Invalid | Code::Denied) => return Err(failure),
                Err(_) => {}
            }
        };
    }
}

/// Runs a program while its endpoint is offered.
async fn run(
    context: &Context,
    call: Call,
    request: &Request,
    command: &[OsString],
    signals: &mut Signals,
) -> Result<(), Failure> {
    let mut child = match start(command) {
        Ok(child) => child,
        Err(error) => {
            drop(call);
            let status = if error.kind() == io::ErrorKind::NotFound { NO_PROGRAM } else { CANNOT_START };
            let failure = Failure::new(Code::Failed, format_args!("{}: {error}", command[0].display()));
            return not_run(context, &failure, status);
        }
    };
    let told = {
        let kept = async {
            let ended = keep(context, call, request).await;
            // A refusal ends the offer, not the program.
            if let Err(failure) = ended {
                context.out.failure(&failure);
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            ended = child.wait() => return status(ended?),
            () = kept => return Ok(()),
            told = signals.next() => told,
        }
        // The offer ends here, before the program does.
    };
    status(stop(&mut child, told, signals).await?)
}

fn start(command: &[OsString]) -> io::Result<Child> {
    Command::new(&command[0]).args(&command[1..]).kill_on_drop(true).spawn()
}

/// Tells the program to end, and sees that it does.
async fn stop(child: &mut Child, told: Signal, signals: &mut Signals) -> io::Result<ExitStatus> {
    // Ctrl-C on a terminal has reached the program already; a second one would not be so gentle.
    let knows = told == Signal::INT && io::stdin().is_terminal();
    if !knows && let Some(pid) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
        // It may have ended by itself.
        let _ = kill_process(pid, told);
    }
    tokio::select! {
        ended = child.wait() => return ended,
        () = sleep(GRACE) => {}
        _ = signals.next() => {}
    }
    child.kill().await?;
    child.wait().await
}
