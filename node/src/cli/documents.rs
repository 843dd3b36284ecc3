//! put, get, wait, list, watch, delete, history.

use serde_json::Value as Json;

use super::{Context, argument_or_stdin, item};
use crate::args::{GetArgs, HistoryArgs, ListArgs, PutArgs, WaitArgs, WatchArgs};
use crate::failure::{Code, Failure};
use crate::output::{plain, short, size, table, time};
use crate::request::{Change, Document, Listed, Page, Reached, Removed, Request, Revision, Written};
use crate::service::Opening;

/// Largest value that `put` reads. The control socket's line bound leaves room for its quotes to be escaped.
const MAX_VALUE: u64 = 120 << 20;

/// Longest bookmark that is read.
const MAX_BOOKMARK: u64 = 256 << 10;

pub(super) async fn put(context: &Context, args: PutArgs) -> Result<(), Failure> {
    let mode = args.mode();
    let text = argument_or_stdin(args.value, "value", MAX_VALUE)?;
    let value = match args.text {
        true => Json::String(text),
        false => serde_json::from_str(&text).map_err(|e| {
            Failure::invalid("value", format_args!("not JSON: {e}")).hint("quote a string as '\"text\"', or use --text")
        })?,
    };
    let request =
        Request::Put { space: context.space(), path: args.path, at: args.at, value, mode, synced: args.synced };
    let answer = context.answer::<Written>(request, Opening::Existing);
    let written = match args.timeout {
        None => answer.await?,
        Some(patience) => tokio::time::timeout(patience, answer).await.map_err(|_| {
            Failure::new(Code::Timeout, format_args!("not stored by {} other peers within {patience:?}", args.synced))
                .hint("it is stored here and travels on when peers can be reached")
        })??,
    };
    context.out.value(&written, |w| match w.changed {
        true => format!("{} written", plain(&w.path)),
        false => format!("{} was that way already", plain(&w.path)),
    })
}

pub(super) async fn get(context: &Context, args: GetArgs) -> Result<(), Failure> {
    let request = Request::Get {
        space: context.space(),
        path: args.path,
        at: args.at,
        tagged: args.tagged,
        at_least: args.at_least,
        wait_millis: millis(args.timeout),
    };
    let document: Document = context.answer(request, Opening::Existing).await?;
    if context.out.json {
        return context.out.value(&document, |_| String::new());
    }
    match (&document.value, args.raw) {
        (Json::String(text), true) => context.out.line(text),
        (value, _) => {
            context.out.line(&serde_json::to_string_pretty(value).map_err(|e| Failure::new(Code::Failed, e))?)
        }
    }
}

pub(super) async fn wait(context: &Context, args: WaitArgs) -> Result<(), Failure> {
    let bookmark = argument_or_stdin(args.bookmark, "bookmark", MAX_BOOKMARK)?.trim().to_owned();
    let request = Request::Wait { space: context.space(), bookmark, wait_millis: millis(args.timeout) };
    let reached: Reached = context.answer(request, Opening::Existing).await?;
    context.out.value(&reached, |r| format!("here, in {}", plain(&r.space)))
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

pub(super) async fn list(context: &Context, args: ListArgs) -> Result<(), Failure> {
    let request = Request::List { space: context.space(), prefix: args.prefix, after: args.after, limit: args.limit };
    let _: Page = context
        .items(request, |line| {
            let line: Listed = item(line)?;
            context.out.value(&line, |l| match args.long {
                false => plain(&l.path),
                true => {
                    let heads: Vec<_> = l.heads.iter().map(|head| &head[..head.len().min(8)]).collect();
                    format!("{}  {:>10}  {}  {}", time(l.changed_at), size(l.bytes), heads.join(","), plain(&l.path))
                }
            })
        })
        .await?;
    Ok(())
}

pub(super) async fn watch(context: &Context, args: WatchArgs) -> Result<(), Failure> {
    let request =
        Request::Watch { space: context.space(), prefix: args.prefix, values: args.values, count: args.count };
    let _: Json = context
        .items(request, |line| {
            let line: Change = item(line)?;
            context.out.value(&line, |c| {
                let value = c.value.as_ref().map(|value| format!("  {value}")).unwrap_or_default();
                let from = if c.remote { "peer" } else { "here" };
                format!("{:<8}{from:<6}{}{value}", c.kind, plain(&c.path))
            })
        })
        .await?;
    Ok(())
}

pub(super) async fn delete(context: &Context, path: String) -> Result<(), Failure> {
    let removed: Removed = context.answer(Request::Delete { space: context.space(), path }, Opening::Existing).await?;
    if !removed.deleted {
        return Err(Failure::new(Code::NotFound, format_args!("no document at {}", removed.path)));
    }
    context.out.value(&removed, |r| format!("{} deleted", plain(&r.path)))
}

pub(super) async fn history(context: &Context, args: HistoryArgs) -> Result<(), Failure> {
    let request = Request::History { space: context.space(), path: args.path, limit: args.limit };
    let mut rows = Vec::new();
    let _: Json = context
        .items(request, |line| {
            let line: Revision = item(line)?;
            if context.out.json {
                return context.out.value(&line, |_| String::new());
            }
            rows.push(vec![
                line.hash[..line.hash.len().min(12)].to_owned(),
                if line.time == 0 { "-".into() } else { time(line.time) },
                format!("{} {}", short(&line.actor), line.seq),
                format!("{} ops", line.ops),
                line.message.as_deref().map(plain).unwrap_or_default(),
            ]);
            Ok(())
        })
        .await?;
    if rows.is_empty() { Ok(()) } else { context.out.line(&table(&rows)) }
}
