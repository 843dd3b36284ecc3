//! What a page asks in a session, and what it is answered.

use std::time::Duration;

use foreshore::peer::CommandError;
use foreshore::peer::coord::{Acl, ClaimedItem, Coordinator, Life, Mode, Op, OpAnswer, Queue, Stat, Tree};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::{Answer, Held, base64, bytes, owner, token, watch};
use crate::errors::Failure;

/// A question, or a wish. One JSON object each, told apart by `op`. Data is base64, times are in ms.
#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "camelCase")]
pub(crate) enum Ask {
    /// A lock, or leadership with `value` for others to see; `held` names the grant. `wait`: none for ever, 0 not at all.
    Acquire { held: u32, path: String, election: bool, shared: bool, wait: Option<u64>, delay: u64, value: String },
    /// Gives back what was granted, or takes back what was not.
    Release { held: u32 },
    /// Who holds a lock.
    Holders { path: String },
    /// Who leads.
    Leader { path: String },
    /// A node.
    Get { path: String, linear: bool },
    /// Names of a node's children.
    Children { path: String, linear: bool },
    /// Operations on the tree, all or none.
    Multi { ops: Vec<Wanted> },
    /// Tells what happens at a path, or tells it no more.
    Watch { kind: String, path: String, on: bool },
    /// Puts an item into a queue.
    Put { path: String, body: String, attempts: u32 },
    /// Takes an item of a queue.
    Claim { path: String, visibility: u64 },
    /// An item is done, or was not.
    Settle { path: String, item: u64, token: u64, done: bool },
    /// What a queue holds.
    Queue { path: String },
    /// An item that was put aside goes back, or is deleted.
    Dead { path: String, item: u64, revive: bool },
}

/// An operation on the tree.
#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "camelCase")]
pub(crate) enum Wanted {
    /// Makes a node.
    Create { path: String, data: String, mode: Kind, sequential: bool },
    /// Replaces a node's data.
    Set { path: String, data: String, version: Option<i32> },
    /// Deletes a node.
    Delete { path: String, version: Option<i32> },
    /// Compares a node's version.
    Check { path: String, version: i32 },
}

/// How long a node stays.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Kind {
    /// Until it is deleted.
    Persistent,
    /// As long as the page's session.
    Ephemeral,
    /// Until its last child is gone.
    Container,
    /// Until it has been left alone for so many milliseconds.
    Ttl(u64),
}

pub(super) async fn answer(coordinator: &Coordinator, ask: Ask) -> Answer {
    match ask {
        Ask::Holders { path } => {
            let (holders, waiting) = coordinator.holders(path).await?;
            let held = holders.iter().map(|held| {
                json!({
                    "owner": owner(&held.owner), "shared": held.share == foreshore::coord::claim::Share::Shared,
                    "token": held.token.as_u64(),
                })
            });
            Ok(json!({ "held": held.collect::<Vec<_>>(), "waiting": waiting }))
        }
        Ask::Leader { path } => {
            let leader = coordinator.election(path).leader().await?;
            Ok(leader.map_or(Json::Null, |leader| {
                json!({
                    "owner": owner(&leader.owner), "token": leader.token.as_u64(),
                    "value": String::from_utf8_lossy(&leader.value),
                })
            }))
        }
        Ask::Get { path, linear } => {
            let node = tree(coordinator, linear).get(path).await?;
            Ok(node.map_or(Json::Null, |node| json!({ "data": base64(&node.data), "stat": stat(&node.stat) })))
        }
        Ask::Children { path, linear } => Ok(tree(coordinator, linear).children(path).await?.into()),
        Ask::Multi { ops } => {
            let ops: Vec<Op> = ops.into_iter().map(operation).collect::<Result<_, _>>()?;
            let answers = coordinator.tree().multi(ops).await?;
            Ok(answers.iter().map(outcome).collect())
        }
        Ask::Watch { kind, path, on } => {
            match on {
                true => coordinator.watch(watch(&kind)?, &path).await?,
                false => coordinator.unwatch(watch(&kind)?, &path).await?,
            }
            Ok(Json::Null)
        }
        other => answer_queue(coordinator, other).await,
    }
}

async fn answer_queue(coordinator: &Coordinator, ask: Ask) -> Answer {
    let queue = |path: String| -> Queue { coordinator.queue(path) };
    match ask {
        Ask::Put { path, body, attempts } => Ok(queue(path).put(bytes(&body)?, attempts).await?.into()),
        Ask::Claim { path, visibility } => {
            let claimed = queue(path).claim(Duration::from_millis(visibility)).await?;
            Ok(claimed.map_or(Json::Null, |item| {
                json!({
                    "item": item.item, "body": base64(&item.body), "attempt": item.attempt,
                    "token": item.token.as_u64(),
                })
            }))
        }
        Ask::Settle { path, item, token: number, done } => {
            let claimed = ClaimedItem { item, body: Vec::new(), attempt: 0, token: token(number)? };
            match done {
                true => queue(path).ack(&claimed).await?,
                false => queue(path).nack(&claimed).await?,
            }
            Ok(Json::Null)
        }
        Ask::Queue { path } => {
            let (ready, claimed, dead) = queue(path).state().await?;
            Ok(json!({ "ready": ready, "claimed": claimed, "dead": dead }))
        }
        Ask::Dead { path, item, revive } => {
            match revive {
                true => queue(path).revive(item).await?,
                false => queue(path).discard(item).await?,
            }
            Ok(Json::Null)
        }
        other => Err(Failure::invalid("request", format!("{other:?}"))),
    }
}

fn tree(coordinator: &Coordinator, linear: bool) -> Tree {
    match linear {
        true => coordinator.tree().linear(),
        false => coordinator.tree(),
    }
}

fn operation(wanted: Wanted) -> Result<Op, Failure> {
    Ok(match wanted {
        Wanted::Create { path, data, mode, sequential } => {
            let mode = match mode {
                Kind::Persistent => Mode::Persistent,
                Kind::Ephemeral => Mode::Ephemeral,
                Kind::Container => Mode::Container,
                Kind::Ttl(ms) => Mode::Ttl(ms),
            };
            Op::Create { path, data: bytes(&data)?.into(), acl: Acl::open(), mode, sequential }
        }
        Wanted::Set { path, data, version } => {
            Op::Set { path, data: bytes(&data)?.into(), version: version.unwrap_or(-1) }
        }
        Wanted::Delete { path, version } => Op::Delete { path, version: version.unwrap_or(-1) },
        Wanted::Check { path, version } => Op::Check { path, version },
    })
}

fn outcome(answer: &OpAnswer) -> Json {
    match answer {
        OpAnswer::Created { path, stat: made } => json!({ "path": path.as_str(), "stat": stat(made) }),
        OpAnswer::Set(set) | OpAnswer::AclSet(set) => json!({ "stat": stat(set) }),
        OpAnswer::Deleted | OpAnswer::Checked => Json::Null,
    }
}

fn stat(stat: &Stat) -> Json {
    let owner = match stat.life {
        // Beyond what a number of JavaScript holds.
        Life::Ephemeral(session) => format!("{:016x}", session.0).into(),
        _ => Json::Null,
    };
    json!({
        "createdAt": stat.ctime, "modifiedAt": stat.mtime, "version": stat.version, "childrenVersion": stat.cversion,
        "ephemeralOwner": owner, "children": stat.num_children, "bytes": stat.data_length,
    })
}

pub(super) async fn release(held: Held) -> Result<(), CommandError> {
    match held {
        Held::Lock(lock) => lock.release().await,
        Held::Leadership(leadership) => leadership.resign().await,
    }
}
