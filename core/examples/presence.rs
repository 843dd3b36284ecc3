//! Who is here: a list of names that is right within seconds, whoever comes, goes or crashes.
//!
//! ```text
//! cargo run --example presence -- alice                  # prints an invitation
//! cargo run --example presence -- bob foreshore:fsi1…    # in another terminal, or on another machine
//! ```
//!
//! Each line that is typed becomes the typist's status. Ctrl-D says goodbye, and the others see it at once; a crash they
//! see when the lease lapses, 15 seconds later. Nothing is stored: the peers live in memory.

use std::error::Error;
use std::io::BufRead;

use foreshore::peer::{Peer, Presence, Space};
use foreshore::trust::Role;

/// What everybody shows of themselves.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct Person {
    name: String,
    status: String,
}

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

#[tokio::main]
async fn main() -> Outcome {
    let mut arguments = std::env::args().skip(1);
    let Some(name) = arguments.next() else {
        return Err("usage: presence NAME [INVITATION]".into());
    };
    let peer = Peer::builder().in_memory().listen("/ip4/127.0.0.1/tcp/0").spawn().await?;
    let space = enter(&peer, arguments.next()).await?;
    let outcome = stay(&space, name).await;
    peer.shutdown().await?;
    outcome
}

async fn enter(peer: &Peer, invitation: Option<String>) -> Outcome<Space> {
    if let Some(invitation) = invitation {
        return Ok(peer.join(&invitation).await?);
    }
    let space = peer.create_space("room").await?;
    println!("{}", space.invite(Role::Writer).await?);
    Ok(space)
}

async fn stay(space: &Space, name: String) -> Outcome {
    let presence: Presence<Person> = space.presence("/room", Person { name, status: "here".into() })?;
    let mut others = presence.watch();
    let mut lines = typed();
    loop {
        tokio::select! {
            here = others.next() => {
                let Some(here) = here else { return Ok(()) };
                let people: Vec<String> = here?
                    .iter()
                    .map(|item| format!("{}{}: {}", item.value.name, if item.away { " (away)" } else { "" }, item.value.status))
                    .collect();
                println!("[{}]", people.join(", "));
            }
            line = lines.recv() => {
                let Some(status) = line else { return Ok(()) };
                let mine = Person { status, ..Person::clone(&presence.mine()) };
                presence.set(mine)?.await?;
            }
        }
    }
}

/// Lines from the terminal; ends with the input.
fn typed() -> tokio::sync::mpsc::Receiver<String> {
    let (send, lines) = tokio::sync::mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if send.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}
