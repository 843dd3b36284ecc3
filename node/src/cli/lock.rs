//! lock, elect: a program runs while something is held.
//!
//! The running peer holds it, over a connection to its control socket, and says again and again until when the program may go on
//! ([`Grant`]). The program ends when it is told that it is lost, when the peer is gone, and when the clock says that nothing was
//! heard in time; and only when it has ended is the peer told that it may give back what is left.

use std::ffi::OsString;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value as Json;
use tokio::time::{sleep, timeout};

use super::program::{NO_PROGRAM, Program, Signals, not_run, passes, status};
use super::{Context, item, running_peer};
use crate::args::{ElectArgs, LockArgs};
use crate::clock::now_millis;
use crate::control::Call;
use crate::failure::{Code, Failure};
use crate::output::{plain, table};
use crate::request::{Answer, Grant, LeaderLine, LockLine, Request};
use crate::service::Opening;

/// Exit status: the program was not started, since it was not to be had.
const NOT_ACQUIRED: u8 = 125;
/// Exit status: the program was ended, since it was lost.
const LOST: u8 = 126;

/// The variable that a program finds its token in.
pub(super) const TOKEN: &str = "FORESHORE_FENCING_TOKEN";

/// How long giving back may take. What is not given back in time is free when the session's time is over.
const RELEASE: Duration = Duration::from_secs(10);

/// How long a peer may take that said itself that it is lost.
const GOODBYE: Duration = Duration::from_secs(2);

/// Between candidacies, while there is no peer to stand through.
const RETRY: Duration = Duration::from_secs(1);

pub(super) async fn lock(context: &Context, args: LockArgs) -> Result<(), Failure> {
    if args.show {
        return super::interruptible(show(context, args.path)).await;
    }
    let request = Request::Lock {
        space: context.space(),
        path: args.path,
        shared: args.shared,
        wait_millis: if args.once { Some(0) } else { args.wait.map(millis) },
        ttl_millis: millis(args.session.ttl),
        delay_millis: millis(args.delay),
    };
    let mut signals = Signals::new()?;
    match under(context, &request, &args.command, &mut signals).await? {
        Stretch::NotHad(failure) => not_run(context, &failure, NOT_ACQUIRED),
        Stretch::Unstartable(failure) => not_run(context, &failure, NO_PROGRAM),
        Stretch::Ended(ended) => status(ended),
        Stretch::Lost { why, .. } => lost(context, "lock", &why),
    }
}

pub(super) async fn elect(context: &Context, args: ElectArgs) -> Result<(), Failure> {
    if args.observe {
        return super::interruptible(observe(context, args.path, args.count)).await;
    }
    let request = Request::Campaign {
        space: context.space(),
        path: args.path,
        value: args.value,
        wait_millis: args.wait.map(millis),
        ttl_millis: millis(args.session.ttl),
    };
    let mut signals = Signals::new()?;
    let mut led = false;
    loop {
        match under(context, &request, &args.command, &mut signals).await? {
            // Whoever led once stands again when the peer is back.
            Stretch::NotHad(failure) if led && !matches!(failure.code, Code::Invalid | Code::Denied) => {
                tokio::select! {
                    () = sleep(RETRY) => {}
                    _ = signals.next() => return Err(interrupted()),
                }
            }
            Stretch::NotHad(failure) => return not_run(context, &failure, NOT_ACQUIRED),
            Stretch::Unstartable(failure) => return not_run(context, &failure, NO_PROGRAM),
            Stretch::Ended(ended) => return status(ended),
            Stretch::Lost { why, told } if args.once || told => return lost(context, "leadership", &why),
            Stretch::Lost { why, .. } => {
                context.out.failure(&Failure::new(Code::Failed, format_args!("the leadership was lost: {why}")));
                led = true;
            }
        }
    }
}

fn lost(context: &Context, what: &str, why: &str) -> Result<(), Failure> {
    let failure = Failure::new(Code::Failed, format_args!("the {what} was lost, and the program ended: {why}"));
    not_run(context, &failure, LOST)
}

fn interrupted() -> Failure {
    Failure::new(Code::Interrupted, "stopped")
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What came of one attempt to hold something and run a program.
enum Stretch {
    /// It was not to be had.
    NotHad(Failure),
    /// There is no such program.
    Unstartable(Failure),
    /// The program ended by itself.
    Ended(ExitStatus),
    /// It was lost, and the program ended for that. `told`: it had been told to stop before.
    Lost { why: String, told: bool },
}

async fn under(
    context: &Context,
    request: &Request,
    command: &[OsString],
    signals: &mut Signals,
) -> Result<Stretch, Failure> {
    let mut call = match reach(context, request).await {
        Ok(call) => call,
        Err(failure) => return Ok(Stretch::NotHad(failure)),
    };
    let grant: Grant = tokio::select! {
        answer = call.next() => match answer {
            Answer::Item(line) => item(line)?,
            Answer::Failed(failure) => return Ok(Stretch::NotHad(failure)),
            Answer::Done(_) => return Ok(Stretch::NotHad(Failure::new(Code::Failed, "the peer granted nothing"))),
        },
        // Hanging up takes the wish back.
        _ = signals.next() => return Err(interrupted()),
    };
    if let Some(why) = &grant.lost {
        return Ok(Stretch::NotHad(Failure::new(Code::Failed, why)));
    }
    let variables = [(TOKEN, grant.token.to_string())];
    let mut program = match Program::start(command, &variables, Stdio::inherit(), false) {
        Ok(program) => program,
        Err(error) => return Ok(Stretch::Unstartable(error.into())),
    };
    let stretch = match supervise(&mut call, grant, &mut program, signals).await? {
        (Course::Ended(ended), _) => Stretch::Ended(ended),
        (Course::Lost(why), told) => Stretch::Lost { why, told },
    };
    call.end().await;
    match &stretch {
        // A peer that stops has something to give back still, and waits for that as long as this command is there.
        Stretch::Lost { .. } => drop(timeout(GOODBYE, call.result::<Json>()).await),
        _ => {
            if let Err(failure) = given_back(&mut call).await {
                context.out.failure(&failure.hint("it is free at the latest when the session's time is over"));
            }
        }
    }
    Ok(stretch)
}

async fn reach(context: &Context, request: &Request) -> Result<Call, Failure> {
    running_peer(context, "locks and elections").await?.call(request).await
}

async fn given_back(call: &mut Call) -> Result<(), Failure> {
    match timeout(RELEASE, call.result::<Json>()).await {
        Ok(result) => result.map(drop),
        Err(_) => Err(Failure::new(Code::Timeout, "it was not given back in time")),
    }
}

/// How a program's run ended.
pub(super) enum Course {
    /// By itself.
    Ended(ExitStatus),
    /// What it ran under was lost.
    Lost(String),
}

/// Sees a program through as long as its grant lasts; whether it was told to stop meanwhile. It has ended when this returns.
pub(super) async fn supervise(
    call: &mut Call,
    grant: Grant,
    program: &mut Program,
    signals: &mut Signals,
) -> Result<(Course, bool), Failure> {
    let (mut until, mut margin, token, mut told) = (grant.until_ms, grant.margin_ms, grant.token, false);
    let why = loop {
        tokio::select! {
            ended = program.wait() => return Ok((Course::Ended(ended?), told)),
            answer = call.next() => match answer {
                Answer::Item(line) => {
                    let news: Grant = item(line)?;
                    if let Some(why) = news.lost {
                        (until, margin) = (until.min(news.until_ms), news.margin_ms);
                        break why;
                    }
                    if news.token == token {
                        until = until.max(news.until_ms);
                    }
                }
                Answer::Failed(failure) => break failure.message,
                Answer::Done(_) => break "the peer ended it".to_owned(),
            },
            () = passes(until) => break "the running peer was not heard of in time".to_owned(),
            signal = signals.next() => {
                // Once more, and it is not asked any longer.
                program.pass_on(if told { Signal::KILL } else { signal });
                told = true;
            }
        }
    };
    // Half of the margin for the program, the other for whatever else is late.
    program.end_by(until.min(now_millis()).saturating_add(margin / 2)).await?;
    Ok((Course::Lost(why), told))
}

async fn show(context: &Context, path: String) -> Result<(), Failure> {
    running_peer(context, "locks").await?;
    let request = Request::LockHolders { space: context.space(), path };
    let line: LockLine = context.answer(request, Opening::Existing).await?;
    context.out.value(&line, |line| {
        let holder = |holder: &crate::request::Holder| {
            let how = if holder.shared { "shared" } else { "exclusive" };
            vec![how.into(), format!("session {}", holder.session), format!("token {}", holder.token)]
        };
        let mut rows: Vec<Vec<String>> = line.holders.iter().map(holder).collect();
        if rows.is_empty() {
            rows.push(vec!["free".into()]);
        }
        rows.push(vec![format!("{} waiting", line.waiting)]);
        table(&rows)
    })
}

async fn observe(context: &Context, path: String, count: Option<u64>) -> Result<(), Failure> {
    running_peer(context, "elections").await?;
    let request = Request::Observe { space: context.space(), path, count };
    let _: Json = context
        .items(request, |line| {
            let line: LeaderLine = item(line)?;
            context.out.value(&line, |l| match (l.known, &l.token) {
                (false, _) => "unknown: no majority of the voters answers".into(),
                (true, None) => "nobody leads".into(),
                (true, Some(token)) => {
                    let value = l.value.as_ref().map(|value| value.bytes()).unwrap_or_default();
                    let session = l.session.as_deref().unwrap_or_default();
                    format!("session {session} leads, token {token}  {}", plain(&String::from_utf8_lossy(&value)))
                        .trim_end()
                        .to_owned()
                }
            })
        })
        .await?;
    Ok(())
}
