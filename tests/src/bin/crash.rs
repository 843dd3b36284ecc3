//! The victim of the crash tests: does one kind of work on a store and says on standard output what is durable, until it
//! is killed. It never closes its store by itself, but for `import`, which ends with its file.
//!
//! | work | lines |
//! |---|---|
//! | `start` | `space` once the space is durable, then as `write` |
//! | `write` | `PATH NUMBER` for each number that is durable at a path |
//! | `compact` | the same, with compactions on the way |
//! | `import` | `page N` for each page of the file that is durable |

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Parser, ValueEnum};
use foreshore::document::{Template, Value};
use foreshore::peer::{Commit, Document, Peer, Space};
use foreshore::store::Redb;
use foreshore_tests::crash::{DOCUMENTS, KEY, PAGE_LEN, SPACE, path};

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Work {
    Start,
    Write,
    Compact,
    Import,
}

#[derive(Parser)]
struct Cli {
    work: Work,
    store: PathBuf,
    /// The file of pages to import
    pages: Option<PathBuf>,
}

/// Edits that may wait for the store at once.
const IN_FLIGHT: usize = 64;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let peer = Peer::builder().store(Redb::open(&cli.store)?).spawn().await?;
    let space = match peer.space(SPACE).await? {
        Some(space) => space,
        None if cli.work == Work::Start => peer.create_space(SPACE).await?,
        None => bail!("the store has lost its space"),
    };
    match cli.work {
        Work::Start => {
            say(format_args!("space"));
            write(&peer, &space, false).await
        }
        Work::Write => write(&peer, &space, false).await,
        Work::Compact => write(&peer, &space, true).await,
        Work::Import => import(&space, &cli.pages.context("import takes a file")?).await,
    }
}

/// Counts up in every document, round after round.
async fn write(peer: &Peer, space: &Space, compact: bool) -> anyhow::Result<()> {
    let template = Template::new(&Value::from_json(&serde_json::json!({ "text": { "$text": "" } }))?)?;
    let mut documents: Vec<Document> = Vec::new();
    for document in 0..DOCUMENTS {
        documents.push(space.document_with(&path(document), &template).await?);
    }
    let mut next = 0;
    for document in &documents {
        next = next.max(document.value()?.get(KEY).and_then(Value::as_i64).unwrap_or(0));
    }
    let mut flying: std::collections::VecDeque<(usize, i64, Commit)> = std::collections::VecDeque::new();
    for number in next + 1.. {
        for (index, document) in documents.iter().enumerate() {
            let commit = document.edit(|draft| {
                draft.put(KEY, number)?;
                draft.text("text")?.push("all work and no play ")
            })?;
            flying.push_back((index, number, commit));
        }
        while flying.len() > IN_FLIGHT {
            let (index, number, commit) = flying.pop_front().expect("more than none");
            commit.durable().await?;
            say(format_args!("{} {number}", path(index)));
        }
        if compact && number % 40 == 0 {
            peer.compact().await?;
        }
    }
    Ok(())
}

/// Takes in a file of pages, each behind its length.
async fn import(space: &Space, pages: &PathBuf) -> anyhow::Result<()> {
    let bytes = std::fs::read(pages)?;
    let mut rest = bytes.as_slice();
    let mut number = 0;
    while let Some((len, more)) = rest.split_first_chunk::<PAGE_LEN>() {
        let (page, after) = more.split_at(u32::from_le_bytes(*len) as usize);
        space.import(page.to_vec()).await?;
        number += 1;
        say(format_args!("page {number}"));
        rest = after;
    }
    Ok(())
}

fn say(line: std::fmt::Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    // The killer may be gone first; there is nobody to tell then.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
