//! tree get, set, create, delete, ls, watch.

use serde_json::Value as Json;

use super::{Context, bytes_or_stdin, item, running_peer};
use crate::args::{CreateArgs, TreeCommand};
use crate::failure::{Code, Failure};
use crate::output::{plain, table, time};
use crate::request::{NodeEventLine, NodeLife, NodeLine, Request, StatLine};
use crate::service::Opening;

/// Most data of a node.
const MAX_DATA: u64 = 1 << 20;

pub(super) async fn tree(context: &Context, command: TreeCommand) -> Result<(), Failure> {
    running_peer(context, "the tree's sessions").await?;
    let space = context.space();
    match command {
        TreeCommand::Get { path, stat, stale } => {
            let node: NodeLine = context.answer(Request::TreeGet { space, path, stale }, Opening::Existing).await?;
            if context.out.json {
                return context.out.value(&node, |_| String::new());
            }
            context.out.data(&node.data.map(|data| data.bytes()).unwrap_or_default())?;
            match node.stat.filter(|_| stat) {
                Some(stat) => context.out.line(&about(&stat)),
                None => Ok(()),
            }
        }
        TreeCommand::Set { path, value, version } => {
            let data = bytes_or_stdin(value, "value", MAX_DATA)?.into();
            let request = Request::TreeSet { space, path, data, version };
            let node: NodeLine = context.answer(request, Opening::Existing).await?;
            context.out.value(&node, |node| {
                let version = node.stat.as_ref().map_or(0, |stat| stat.version);
                format!("{} set, version {version}", plain(&node.path))
            })
        }
        TreeCommand::Create(args) => create(context, args).await,
        TreeCommand::Delete { path, version } => {
            let request = Request::TreeDelete { space, path, version };
            let node: NodeLine = context.answer(request, Opening::Existing).await?;
            context.out.value(&node, |node| format!("{} deleted", plain(&node.path)))
        }
        TreeCommand::Ls { path, stale } => {
            let names: Vec<String> =
                context.answer(Request::TreeList { space, path, stale }, Opening::Existing).await?;
            if context.out.json {
                return context.out.value(&names, |_| String::new());
            }
            names.iter().try_for_each(|name| context.out.line(&plain(name)))
        }
        TreeCommand::Watch { path, recursive, count } => {
            watch(context, Request::TreeWatch { space, path, recursive, count }).await
        }
    }
}

async fn create(context: &Context, args: CreateArgs) -> Result<(), Failure> {
    let data = match args.value {
        None => Vec::new(),
        value => bytes_or_stdin(value, "value", MAX_DATA)?,
    };
    let life = match args.ttl {
        Some(ttl) => NodeLife::TtlMillis(super::lock::millis(ttl)),
        None if args.ephemeral => NodeLife::Ephemeral,
        None if args.container => NodeLife::Container,
        None => NodeLife::Persistent,
    };
    let space = context.space();
    let request = Request::TreeCreate { space, path: args.path, data: data.into(), sequential: args.sequential, life };
    let print = |node: &NodeLine| context.out.value(node, |node| plain(&node.path));
    // An ephemeral node comes as an item, and lives until this command ends.
    let node: Option<NodeLine> = context.items(request, |line| print(&item(line)?)).await?;
    node.as_ref().map_or(Ok(()), print)
}

fn about(stat: &StatLine) -> String {
    let life = match (stat.life, &stat.owner) {
        (NodeLife::Persistent, _) => "persistent".into(),
        (NodeLife::Ephemeral, owner) => format!("ephemeral, of session {}", owner.as_deref().unwrap_or_default()),
        (NodeLife::Container, _) => "container".into(),
        (NodeLife::TtlMillis(millis), _) => format!("for {millis} ms without children or changes"),
    };
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    table(&[
        row("life", life),
        row("version", format!("{} (children {}, list {})", stat.version, stat.cversion, stat.aversion)),
        row("created", format!("{} at {}", time(stat.ctime), stat.czxid)),
        row("set", format!("{} at {}", time(stat.mtime), stat.mzxid)),
        row("children", format!("{}, of {}", stat.num_children, stat.pzxid)),
        row("bytes", stat.data_length.to_string()),
    ])
}

async fn watch(context: &Context, request: Request) -> Result<(), Failure> {
    let _: Json = context
        .items(request, |line| {
            let line: NodeEventLine = item(line)?;
            // For programs: from here on nothing is missed.
            if line.kind == "watching" && !context.out.json {
                return Ok(());
            }
            context.out.value(&line, |e| format!("{:<9}{}  at {}", e.kind, plain(&e.path), e.zxid))
        })
        .await
        .map_err(|failure: Failure| match failure.code {
            Code::NotFound => failure.hint("a watch is set where nothing is yet, too: check the path"),
            _ => failure,
        })?;
    Ok(())
}
