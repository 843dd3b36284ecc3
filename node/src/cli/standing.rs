//! revoke, rotate-root, evicted.

use super::{Context, item};
use crate::args::{EvictedCommand, RevokeArgs};
use crate::failure::Failure;
use crate::output::{count, plain, short, table};
use crate::request::{EvictedLine, RebasedLine, Request, Revoked, Rotated};
use crate::service::Opening;

pub(super) async fn revoke(context: &Context, args: RevokeArgs) -> Result<(), Failure> {
    let space = context.space();
    let request = match args.device {
        Some(device) => Request::Revoke { space, device, grants: args.grant, keep_nothing: args.keep_nothing },
        None => Request::RevokeExpired { space },
    };
    let revoked: Revoked = context.answer(request, Opening::Existing).await?;
    context.out.value(&revoked, |revoked| match revoked.devices.is_empty() {
        true => "nothing has ended".into(),
        false => revoked.devices.iter().map(|device| format!("revoked {device}")).collect::<Vec<_>>().join("\n"),
    })
}

pub(super) async fn rotate_root(context: &Context) -> Result<(), Failure> {
    let rotated: Rotated = context.answer(Request::RotateRoot { space: context.space() }, Opening::Existing).await?;
    context.out.value(&rotated, |rotated| {
        format!("the root of {} is {} now; save it with `foreshore space root-key FILE`", rotated.space, rotated.root)
    })
}

pub(super) async fn evicted(context: &Context, command: Option<EvictedCommand>) -> Result<(), Failure> {
    match command.unwrap_or(EvictedCommand::List { prefix: "/".into() }) {
        EvictedCommand::List { prefix } => list(context, prefix).await,
        EvictedCommand::Rebase { path, others } => {
            let request = Request::RebaseEvicted { space: context.space(), path, others };
            let rebased: RebasedLine = context.answer(request, Opening::Existing).await?;
            context.out.value(&rebased, |it| {
                let made = format!("{}: {} made again", plain(&it.path), count(it.made, "edit"));
                let lost = it.lost.iter().map(|change| format!("\nno place left for {}", short(change)));
                made + &lost.collect::<String>()
            })
        }
        EvictedCommand::Discard { path } => {
            let request = Request::DiscardEvicted { space: context.space(), path: path.clone() };
            let _: serde_json::Value = context.answer(request, Opening::Existing).await?;
            context.out.value(&path, |path| format!("{}: forgotten", plain(path)))
        }
    }
}

async fn list(context: &Context, prefix: String) -> Result<(), Failure> {
    let mut rows = Vec::new();
    let request = Request::Evicted { space: context.space(), prefix };
    let _: serde_json::Value = context
        .items(request, |line| {
            let evicted: EvictedLine = item(line)?;
            if context.out.json {
                return context.out.value(&evicted, |_| String::new());
            }
            let whose = match (&evicted.device, evicted.mine) {
                (_, true) => "this device".into(),
                (Some(device), false) => short(device),
                (None, false) => "-".into(),
            };
            let what = if evicted.honest { "can be made again" } else { "its author does not count" };
            rows.push(vec![plain(&evicted.path), short(&evicted.change), whose, what.into()]);
            Ok(())
        })
        .await?;
    if rows.is_empty() { Ok(()) } else { context.out.line(&table(&rows)) }
}
