//! voters list, add, promote, remove, replace, transfer.

use super::{Context, running_peer};
use crate::args::VotersCommand;
use crate::failure::Failure;
use crate::output::{count, plain, short, table};
use crate::request::{Request, Strong, VoterChange, Voting};
use crate::service::Opening;

pub(super) async fn voters(context: &Context, command: Option<VotersCommand>) -> Result<(), Failure> {
    running_peer(context, "votes").await?;
    let space = context.space();
    let change = match command.unwrap_or(VotersCommand::List) {
        VotersCommand::List => {
            let strong: Strong = context.answer(Request::Voters { space }, Opening::Existing).await?;
            return context.out.value(&strong, at_length);
        }
        VotersCommand::Add { peer, learner } => VoterChange::Add { peer, learner },
        VotersCommand::Promote { peer } => VoterChange::Promote { peer },
        VotersCommand::Remove { peer } => VoterChange::Remove { peer },
        VotersCommand::Replace { voter, newcomer } => VoterChange::Replace { voter, newcomer },
        VotersCommand::Transfer { peer } => VoterChange::Transfer { peer },
    };
    let strong: Strong = context.answer(Request::ChangeVoters { space, change }, Opening::Existing).await?;
    context.out.value(&strong, at_length)
}

fn at_length(strong: &Strong) -> String {
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    if let Some(broken) = &strong.broken {
        return table(&[row("broken", plain(broken))]);
    }
    if strong.role == "none" {
        return "this peer does not vote in this space; one that does knows more".into();
    }
    let digest = strong.digest.as_deref().map_or_else(|| "-".to_owned(), short);
    let mut rows = vec![
        row("this peer", format!("{}, term {}, generation {}", strong.role, strong.term, strong.generation)),
        row("log", format!("committed {}, applied {}, last {}", strong.committed, strong.applied, strong.last)),
        row(
            "state",
            format!("{}, {}, digest {digest}", count(strong.nodes, "node"), count(strong.sessions, "session")),
        ),
    ];
    rows.extend(strong.members.iter().map(member));
    table(&rows)
}

fn member(member: &Voting) -> Vec<String> {
    let mut words = Vec::new();
    if member.leads {
        words.push("leads".to_owned());
    }
    if member.me {
        words.push("this peer".to_owned());
    }
    match member.lag {
        Some(0) if !member.leads => words.push("in step".into()),
        Some(lag) if lag > 0 => words.push(format!("{} behind", count(lag, "entry").replace("entrys", "entries"))),
        _ => {}
    }
    let kind = if member.votes { "voter" } else { "learner" };
    vec![kind.into(), member.peer.clone(), words.join(", ")]
}

/// A line for the status.
pub(super) fn in_short(strong: &Strong) -> String {
    if let Some(broken) = &strong.broken {
        return format!("strong state refused: {}", plain(broken));
    }
    if strong.role == "none" || strong.role.is_empty() {
        return "no vote here".into();
    }
    let leader = strong.leader.as_deref().map_or_else(|| "nobody".to_owned(), short);
    let digest = strong.digest.as_deref().map_or_else(|| "-".to_owned(), short);
    format!(
        "{} of {}, {leader} leads term {}, committed {}, applied {}, {}, {} proposed, digest {digest}",
        strong.role,
        count(strong.voters() as u64, "voter"),
        strong.term,
        strong.committed,
        strong.applied,
        count(strong.sessions, "session"),
        strong.proposals,
    )
}
