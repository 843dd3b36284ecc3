//! token create, list, revoke.

use super::Context;
use crate::args::{Expiry, TokenCommand};
use crate::failure::Failure;
use crate::output::{plain, short, table, time};
use crate::request::{Request, TokenLine};
use crate::service::Opening;

pub(super) async fn token(context: &Context, command: TokenCommand) -> Result<(), Failure> {
    match command {
        TokenCommand::Create(args) => {
            let expires_seconds = match args.expires {
                Expiry::Never => None,
                Expiry::After(life) => Some(life.as_secs().max(1)),
            };
            let (space, name, prefix, write) = (context.space(), args.name, args.path, args.write);
            let request = Request::TokenCreate { space, name, prefix, write, expires_seconds };
            let line: TokenLine = context.answer(request, Opening::Existing).await?;
            context.out.value(&line, |line| line.token.clone().unwrap_or_default())
        }
        TokenCommand::List => {
            let lines: Vec<TokenLine> = context.answer(Request::Tokens, Opening::Existing).await?;
            context.out.value(&lines, |lines| table(&lines.iter().map(row).collect::<Vec<_>>()))
        }
        TokenCommand::Revoke { id } => {
            let line: TokenLine = context.answer(Request::TokenRevoke { token: id }, Opening::Existing).await?;
            context.out.value(&line, |line| format!("{} opens nothing any more", line.id))
        }
    }
}

fn row(line: &TokenLine) -> Vec<String> {
    let rights = if line.write { "read, write" } else { "read" };
    let until = line.expires_at.map_or_else(|| "for ever".to_owned(), |at| format!("until {}", time(at)));
    vec![line.id.clone(), plain(&line.prefix), rights.into(), until, short(&line.space), plain(&line.name)]
}
