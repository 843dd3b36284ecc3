//! soft set, get, list, watch, delete.
//!
//! Soft state belongs to a running peer: one that is opened for a single command would set an entry and take it away again.
//! So these commands talk to the peer of the data directory, and say so where none runs.

use serde_json::Value as Json;

use super::{Context, item, running_peer, small_value};
use crate::args::SoftCommand;
use crate::failure::{Code, Failure};
use crate::output::{plain, short};
use crate::request::{Request, SoftEvent, SoftLine, SoftRemoved, SoftSet};
use crate::service::Opening;

pub(super) async fn soft(context: &Context, command: SoftCommand) -> Result<(), Failure> {
    running_peer(context, "soft entries").await?;
    let space = context.space();
    match command {
        SoftCommand::Set { path, value, text } => {
            let value = small_value(value, text)?;
            let request = Request::SoftSet { space, path, value };
            let set: SoftSet = context.answer(request, Opening::Existing).await?;
            context.out.value(&set, |s| format!("{} set", plain(&s.path)))
        }
        SoftCommand::Get { path } => {
            let mut found = 0_u64;
            let request = Request::SoftGet { space, path: path.clone() };
            let _: Json = context
                .items(request, |line| {
                    found += 1;
                    entry(context, line)
                })
                .await?;
            match found {
                0 => Err(Failure::new(Code::NotFound, format_args!("no soft entry at {path}"))),
                _ => Ok(()),
            }
        }
        SoftCommand::List { prefix } => {
            let _: Json = context.items(Request::SoftList { space, prefix }, |line| entry(context, line)).await?;
            Ok(())
        }
        SoftCommand::Watch { prefix, count } => watch(context, Request::SoftWatch { space, prefix, count }).await,
        SoftCommand::Delete { path } => {
            let removed: SoftRemoved = context.answer(Request::SoftDelete { space, path }, Opening::Existing).await?;
            if !removed.deleted {
                return Err(Failure::new(Code::NotFound, format_args!("no own soft entry at {}", removed.path)));
            }
            context.out.value(&removed, |r| format!("{} deleted", plain(&r.path)))
        }
    }
}

fn entry(context: &Context, line: Json) -> Result<(), Failure> {
    let line: SoftLine = item(line)?;
    context.out.value(&line, |l| {
        let whose = if l.mine { "here".to_owned() } else { short(&l.owner) };
        let away = if l.away { "  away" } else { "" };
        format!("{whose:<9} {}  {}{away}", plain(&l.path), l.value)
    })
}

async fn watch(context: &Context, request: Request) -> Result<(), Failure> {
    let _: Json = context
        .items(request, |line| {
            let line: SoftEvent = item(line)?;
            context.out.value(&line, |e| {
                let whose = if e.mine { "here".to_owned() } else { short(&e.owner) };
                let value = e.value.as_ref().map(|value| format!("  {value}")).unwrap_or_default();
                format!("{:<8}{whose:<9} {}{value}", e.kind, plain(&e.path))
            })
        })
        .await?;
    Ok(())
}
