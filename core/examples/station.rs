//! A measuring station: an embedded service without a runtime of its own, that writes whether or not the network is
//! there, and a base that collects when it can be reached.
//!
//! `cargo run --example station` plays both in one process: the station measures alone, the base comes up, and what was
//! measured before and after arrives there. It ends by itself and fails if anything is missing.

use std::error::Error;

use foreshore::document::{Template, Value};
use foreshore::peer::blocking::{self, Peer};
use foreshore::peer::{Document, Space};
use foreshore::store::Redb;
use foreshore::trust::Role;

/// Measurements in one document: small ones travel and load fast, and old ones stay cold on disk.
const A_DOCUMENT: usize = 100;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn main() -> Outcome {
    let directory = std::env::temp_dir().join(format!("foreshore-station-{}", std::process::id()));
    let outcome = play(&directory);
    std::fs::remove_dir_all(&directory)?;
    outcome
}

fn play(directory: &std::path::Path) -> Outcome {
    let station = start(&directory.join("station"))?;
    let space = station.wait(station.create_space("measurements"))?;
    let invitation = station.wait(space.invite(Role::Reader))?;

    // Nobody is there. Every measurement is on disk before the next one is taken.
    measure(&station, &space, 0..250)?;
    println!("250 measurements taken alone");

    // The invitation carries the station's address, so the base finds it by itself.
    let base = start(&directory.join("base"))?;
    let collected = base.wait(base.join_as(&invitation, "measurements"))?;
    measure(&station, &space, 250..300)?;
    for page in 0..3 {
        let document = open(&station, &space, page)?;
        station.wait(document.synced(1))?;
    }
    println!("the base has stored all of it");

    let mut sum = 0;
    for info in &base.wait(collected.list("/station"))?.items {
        // A cold read: the document is not kept in memory for it.
        let found = base.wait(collected.read::<Value>(&info.path))?.value.ok_or("a listed document is there")?;
        if let Some(Value::List(values)) = found.get("values") {
            println!("{}: {} values", info.path, values.len());
            sum += values.len();
        }
    }
    base.close()?;
    station.close()?;
    if sum == 300 { Ok(()) } else { Err(format!("{sum} of 300 measurements arrived").into()) }
}

fn start(directory: &std::path::Path) -> Outcome<Peer> {
    let builder = foreshore::peer::Peer::builder().store(Redb::open(directory)?).listen("/ip4/127.0.0.1/tcp/0");
    Ok(blocking::spawn(builder)?)
}

fn open(station: &Peer, space: &Space, page: usize) -> Outcome<Document> {
    let template = Template::new(&Value::from_json(&serde_json::json!({ "values": [] }))?)?;
    Ok(station.wait(space.document_with(&format!("/station/{page:06}"), &template))?)
}

fn measure(station: &Peer, space: &Space, range: std::ops::Range<usize>) -> Outcome {
    for number in range {
        let document = open(station, space, number / A_DOCUMENT)?;
        let value = Value::from((number * number % 97) as i64);
        let commit = document.edit(|draft| draft.list("values")?.push(value))?;
        station.wait(commit.durable())?;
    }
    Ok(())
}
