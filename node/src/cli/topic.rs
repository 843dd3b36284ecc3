//! topic pub, sub.
//!
//! Signals are for who is connected when they are published, so these commands talk to the peer of the data directory, and
//! say so where none runs.

use serde_json::Value as Json;

use super::{Context, item, running_peer, small_value};
use crate::args::TopicCommand;
use crate::failure::Failure;
use crate::output::{plain, short};
use crate::request::{Published, Request, SignalLine};
use crate::service::Opening;

pub(super) async fn topic(context: &Context, command: TopicCommand) -> Result<(), Failure> {
    running_peer(context, "signals").await?;
    let space = context.space();
    match command {
        TopicCommand::Pub { path, value, text } => {
            let value = small_value(value, text)?;
            let request = Request::Publish { space, path, value };
            let published: Published = context.answer(request, Opening::Existing).await?;
            context.out.value(&published, |p| match p.peers {
                0 => format!("{} published; no peer is connected that may hear it", plain(&p.path)),
                1 => format!("{} published to 1 peer", plain(&p.path)),
                peers => format!("{} published to {peers} peers", plain(&p.path)),
            })
        }
        TopicCommand::Sub { prefix, count } => subscribe(context, Request::Subscribe { space, prefix, count }).await,
    }
}

async fn subscribe(context: &Context, request: Request) -> Result<(), Failure> {
    let _: Json = context
        .items(request, |line| {
            let line: SignalLine = item(line)?;
            context.out.value(&line, |s| {
                let whose = if s.mine { "here".to_owned() } else { short(&s.sender) };
                let lost = match (s.missed, s.dropped) {
                    (0, 0) => String::new(),
                    (missed, 0) => format!("  ({missed} missed)"),
                    (0, dropped) => format!("  ({dropped} dropped)"),
                    (missed, dropped) => format!("  ({missed} missed, {dropped} dropped)"),
                };
                format!("{whose:<9} {}  {}{lost}", plain(&s.path), s.value)
            })
        })
        .await?;
    Ok(())
}
