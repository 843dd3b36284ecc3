//! A to-do list that several machines share and that works on each of them while it is alone.
//!
//! ```text
//! cargo run --example todo -- add bread
//! cargo run --example todo -- add milk
//! cargo run --example todo -- done 1
//! cargo run --example todo -- share            # prints an invitation and stays, so that others can fetch
//!
//! cargo run --example todo -- --data ./other join foreshore:fsi1…
//! cargo run --example todo -- --data ./other add wine
//! cargo run --example todo -- --data ./other stay
//! ```
//!
//! Each command opens the store, does its work and closes. What was added offline reaches the others whenever two of
//! them run at the same time.

use std::error::Error;

use foreshore::document::{Template, Value};
use foreshore::peer::{Document, Peer, PeerEvent, Space, autosurgeon};
use foreshore::store::Redb;
use foreshore::trust::Role;

/// The list as a Rust type, to read. `#[key]` lets autosurgeon match items by their id wherever they have moved.
#[derive(Debug, Clone, autosurgeon::Hydrate, autosurgeon::Reconcile)]
struct Todos {
    items: Vec<Item>,
}

#[derive(Debug, Clone, autosurgeon::Hydrate, autosurgeon::Reconcile)]
struct Item {
    #[key]
    id: String,
    what: String,
    done: bool,
}

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

#[tokio::main]
async fn main() -> Outcome {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let data = match arguments.first().map(String::as_str) {
        Some("--data") if arguments.len() > 1 => arguments.drain(..2).nth(1).expect("there are two"),
        _ => "./todo-data".to_owned(),
    };
    let peer = Peer::builder().store(Redb::open(&data)?).listen("/ip4/127.0.0.1/tcp/0").spawn().await?;
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = command(&peer, &words).await;
    // What is on its way is stored before this returns.
    peer.shutdown().await?;
    outcome
}

async fn command(peer: &Peer, words: &[&str]) -> Outcome {
    if let ["join", invitation] = words {
        peer.join_as(invitation, "todo").await?;
        return stay(peer).await;
    }
    let space = match peer.space("todo").await? {
        Some(space) => space,
        None => peer.create_space("todo").await?,
    };
    let list = open(&space).await?;
    match words {
        [] | ["list"] => {}
        ["add", what @ ..] => add(peer, &list, &what.join(" ")).await?,
        ["done", number] => done(&list, number.parse()?).await?,
        ["share"] => {
            println!("whoever has this line may write here:\n{}", space.invite(Role::Writer).await?);
            return stay(peer).await;
        }
        ["stay"] => return stay(peer).await,
        _ => return Err("list | add WHAT | done NUMBER | share | join INVITATION | stay".into()),
    }
    for (number, item) in (1..).zip(&list.get()?.items) {
        println!("{number:>3} [{}] {}", if item.done { 'x' } else { ' ' }, item.what);
    }
    Ok(())
}

/// Every peer opens the list with the same template, so lists that were begun apart are one list.
async fn open(space: &Space) -> Outcome<Document<Todos>> {
    let template = Template::new(&Value::from_json(&serde_json::json!({ "items": [] }))?)?;
    Ok(space.document_with("/todo", &template).await?)
}

async fn add(peer: &Peer, list: &Document<Todos>, what: &str) -> Outcome {
    // Two machines may add at once, so an id has to be more than a count.
    let id = format!("{}-{}", peer.device(), list.get()?.items.len());
    let item = Value::from_json(&serde_json::json!({ "id": id, "what": what, "done": false }))?;
    list.edit(|draft| draft.list("items")?.push(item))?.durable().await?;
    Ok(())
}

async fn done(list: &Document<Todos>, number: usize) -> Outcome {
    let index = number.checked_sub(1).ok_or("items are numbered from 1")?;
    // Only the flag is written: whoever rewords the item meanwhile is not overwritten.
    list.edit(|draft| draft.list("items")?.map(index)?.put("done", true))?.durable().await?;
    Ok(())
}

/// Stays until Ctrl-C, and says who comes and goes.
async fn stay(peer: &Peer) -> Outcome {
    println!("Ctrl-C ends");
    let mut events = peer.events();
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(PeerEvent::Linked { address, .. }) => println!("linked with {address}"),
                Some(PeerEvent::InStep { stats, .. }) => println!("in step after {} round trips", stats.round_trips),
                Some(_) => {}
                None => return Ok(()),
            },
            signal = tokio::signal::ctrl_c() => return Ok(signal?),
        }
    }
}
