//! queue push, pop, ack, nack, stats, show, dead, work.

use std::ffi::OsString;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value as Json;
use tokio::io::AsyncWriteExt;

use super::lock::{Course, TOKEN, millis, supervise};
use super::program::{NO_PROGRAM, Program, Signals, not_run};
use super::{Context, bytes_or_stdin, item, running_peer};
use crate::args::{DeadCommand, QueueCommand};
use crate::failure::{Code, Failure};
use crate::output::plain;
use crate::request::{Answer, Claimed, Grant, Item, QueueLine, Queued, Request};
use crate::service::Opening;

/// Largest item.
const MAX_BODY: u64 = 256 << 10;

pub(super) async fn queue(context: &Context, command: QueueCommand) -> Result<(), Failure> {
    running_peer(context, "claims of a queue's items").await?;
    let space = context.space();
    match command {
        QueueCommand::Push { path, body, attempts } => {
            let body = bytes_or_stdin(body, "item", MAX_BODY)?.into();
            queued(context, Request::QueuePut { space, path, body, attempts }, "queued").await
        }
        QueueCommand::Pop { path, visibility } => {
            let request = Request::QueueClaim { space, path, visibility_millis: millis(visibility) };
            let claimed: Claimed = context.answer(request, Opening::Existing).await?;
            if context.out.json {
                return context.out.value(&claimed, |_| String::new());
            }
            let Item { item, attempt, body } = &claimed.item;
            context.out.line(&format!("item {item}  token {}  attempt {attempt}", claimed.token))?;
            context.out.data(&body.bytes())
        }
        QueueCommand::Ack { path, item, token } => {
            queued(context, Request::QueueSettle { space, path, item, token, done: true }, "done").await
        }
        QueueCommand::Nack { path, item, token } => {
            queued(context, Request::QueueSettle { space, path, item, token, done: false }, "given back").await
        }
        QueueCommand::Stats { path } => {
            let line = state(context, space, path).await?;
            context.out.value(&line, |q| {
                format!("{} ready, {} being worked on, {} put aside", q.ready, q.claimed, q.dead.len())
            })
        }
        QueueCommand::Show { path, item } => {
            let found: Item = context.answer(Request::QueueItem { space, path, item }, Opening::Existing).await?;
            match context.out.json {
                true => context.out.value(&found, |_| String::new()),
                false => context.out.data(&found.body.bytes()),
            }
        }
        QueueCommand::Dead { command: DeadCommand::List { path } } => {
            let line = state(context, space, path).await?;
            if context.out.json {
                return context.out.value(&line.dead, |_| String::new());
            }
            line.dead.iter().try_for_each(|item| context.out.line(&item.to_string()))
        }
        QueueCommand::Dead { command: DeadCommand::Revive { path, item } } => {
            queued(context, Request::QueueRevive { space, path, item }, "put back").await
        }
        QueueCommand::Dead { command: DeadCommand::Discard { path, item } } => {
            queued(context, Request::QueueDiscard { space, path, item }, "discarded").await
        }
        // Carried out by `work`.
        QueueCommand::Work { .. } => Ok(()),
    }
}

async fn state(context: &Context, space: String, path: String) -> Result<QueueLine, Failure> {
    context.answer(Request::QueueState { space, path }, Opening::Existing).await
}

async fn queued(context: &Context, request: Request, what: &str) -> Result<(), Failure> {
    let line: Queued = context.answer(request, Opening::Existing).await?;
    context.out.value(&line, |q| format!("item {} of {} {what}", q.item, plain(&q.path)))
}

/// A program for the items of a queue.
pub(super) struct Work {
    pub(super) path: String,
    pub(super) visibility: Duration,
    pub(super) count: Option<u64>,
    pub(super) ttl: Duration,
    pub(super) command: Vec<OsString>,
}

pub(super) async fn work(context: &Context, work: Work) -> Result<(), Failure> {
    let Work { path, visibility, count, ttl, command } = work;
    let request = Request::QueueWork {
        space: context.space(),
        path,
        visibility_millis: millis(visibility),
        ttl_millis: millis(ttl),
        count,
    };
    let mut signals = Signals::new()?;
    let mut call = running_peer(context, "claims of a queue's items").await?.call(&request).await?;
    let mut settled = 0;
    loop {
        let answer = tokio::select! {
            answer = call.next() => answer,
            _ = signals.next() => return Err(Failure::new(Code::Interrupted, "stopped")),
        };
        let mut grant: Grant = match answer {
            Answer::Item(line) => item(line)?,
            Answer::Done(_) => return Ok(()),
            Answer::Failed(failure) => return Err(failure),
        };
        // Said again of an item that has been settled since.
        if grant.token == settled && grant.lost.is_none() {
            continue;
        }
        if let Some(why) = grant.lost {
            if grant.token != settled {
                return Err(Failure::new(Code::Failed, why));
            }
            context.out.failure(&Failure::new(Code::Failed, format_args!("the item is worked on once more: {why}")));
            continue;
        }
        settled = grant.token;
        let Some(item) = grant.item.take() else { continue };
        let variables = [
            (TOKEN, grant.token.to_string()),
            ("FORESHORE_ITEM", item.item.to_string()),
            ("FORESHORE_ATTEMPT", item.attempt.to_string()),
        ];
        let mut program = match Program::start(&command, &variables, Stdio::piped(), true) {
            Ok(program) => program,
            Err(error) => return not_run(context, &error.into(), NO_PROGRAM),
        };
        if let Some(mut input) = program.input() {
            let body = item.body.bytes();
            // A program need not read it.
            tokio::spawn(async move { input.write_all(&body).await });
        }
        let (course, told) = supervise(&mut call, grant, &mut program, &mut signals).await?;
        let done = match &course {
            Course::Ended(ended) => ended.success(),
            Course::Lost(why) => {
                context.out.failure(&Failure::new(Code::Failed, format_args!("item {} was lost: {why}", item.item)));
                false
            }
        };
        call.page(if done { b"ack".to_vec() } else { b"nack".to_vec() }).await;
        if told {
            call.end().await;
            // What became of the item is its own affair; this command was stopped.
            let _ = tokio::time::timeout(SETTLE, call.result::<Json>()).await;
            return Err(Failure::new(Code::Interrupted, "stopped"));
        }
    }
}

/// How long the last item's settlement may take.
const SETTLE: Duration = Duration::from_secs(10);
