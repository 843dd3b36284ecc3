//! Fuzzing: the library's entry points and the node's own, committed inputs, and where findings go.

mod doors;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::{fs, io};

use foreshore::fuzz::{Finding, Target, Verdict};
use foreshore_node::config::{Config, KEYS, Layers};
use foreshore_node::request::{Answer, Request};

/// Every target: the library's, and what the node reads of its callers.
pub fn targets() -> Vec<Target> {
    let mut targets = foreshore::fuzz::targets();
    targets.push(own("request", requests, request));
    targets.push(own("config", settings, config));
    targets.extend(doors::targets());
    targets
}

fn own(name: &'static str, seeds: fn() -> Vec<Vec<u8>>, run: fn(&[u8]) -> Verdict) -> Target {
    Target { name, seeds, repair: None, run, room: 4 << 20, max_len: 8 << 10 }
}

/// The target of a name.
pub fn target(name: &str) -> Option<Target> {
    targets().into_iter().find(|target| target.name == name)
}

/// Where a target's committed inputs lie.
pub fn corpus_dir(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target)
}

/// A target's committed inputs by file name.
pub fn corpus(target: &str) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut inputs = BTreeMap::new();
    for entry in fs::read_dir(corpus_dir(target))? {
        let entry = entry?;
        inputs.insert(entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?);
    }
    Ok(inputs)
}

/// Writes a target's seeds where they are committed from; what else is there stays.
pub fn write_corpus(target: &Target) -> io::Result<usize> {
    let dir = corpus_dir(target.name);
    fs::create_dir_all(&dir)?;
    let seeds = (target.seeds)();
    for (n, seed) in seeds.iter().enumerate() {
        fs::write(dir.join(format!("seed-{n:03}")), seed)?;
    }
    Ok(seeds.len())
}

/// Keeps what broke a target, beside its committed inputs: fixed, it stays there as a test.
pub fn keep(finding: &Finding) -> io::Result<PathBuf> {
    let dir = corpus_dir(finding.target);
    fs::create_dir_all(&dir)?;
    let hash = finding
        .input
        .iter()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    let file = dir.join(format!("found-{hash:016x}"));
    fs::write(&file, &finding.input)?;
    Ok(file)
}

/// A line of the control socket: it is a request and is written as one that reads the same, or an answer, or neither.
fn request(bytes: &[u8]) -> Verdict {
    if let Ok(request) = serde_json::from_slice::<Request>(bytes) {
        let again = serde_json::to_vec(&request).expect("a request is JSON");
        let again: Request = serde_json::from_slice(&again).expect("its own JSON reads");
        // NaN, which JSON cannot spell, is equal to nothing; there is none.
        assert_eq!(again, request, "another request came back");
        return Verdict::accepted(request.takes_pages().into());
    }
    match serde_json::from_slice::<Answer>(bytes) {
        Ok(_) => Verdict::accepted(2),
        Err(error) => Verdict::refused(&error.classify()),
    }
}

fn requests() -> Vec<Vec<u8>> {
    [
        r#"{"op":"put","space":"default","path":"/a","at":"","value":{"x":[1,2.5,"y",null]},"mode":"merge","synced":1}"#,
        r#"{"op":"get","space":"default","path":"/a","at":"/x","tagged":true,"at_least":null,"wait_millis":0}"#,
        r#"{"op":"list","space":"default","prefix":"/","after":null,"limit":10}"#,
        r#"{"op":"watch","space":"default","prefix":"/","values":true,"count":3}"#,
        r#"{"op":"delete","space":"default","path":"/a"}"#,
        r#"{"op":"soft_set","space":"default","path":"/a","value":"here"}"#,
        r#"{"op":"publish","space":"default","path":"/a","value":1e308}"#,
        r#"{"op":"service_register","space":"d","service":"s","endpoint":"http://[::1]:1","metadata":{"zone":"a"}}"#,
        r#"{"op":"lock","space":"d","path":"/l","shared":false,"wait_millis":null,"ttl_millis":1,"delay_millis":0}"#,
        r#"{"op":"lock_holders","space":"default","path":"/a"}"#,
    ]
    .into_iter()
    .map(|text| text.as_bytes().to_vec())
    .collect()
}

/// `key=value` lines as the environment gives them: a configuration, or an error that names the key.
fn config(bytes: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(bytes) else { return Verdict::refused(&"no text") };
    let pairs = text.lines().filter_map(|line| line.split_once('=')).take(32);
    // A file named by the environment would be read.
    let variables = pairs.filter(|(key, _)| KEYS.iter().any(|known| known.name == *key));
    let variables = variables.map(|(key, value)| (format!("FORESHORE_{}", key.to_uppercase()), value.to_owned()));
    // Where no file lies.
    let data = ("FORESHORE_DATA".to_owned(), "/nonexistent".to_owned());
    match Config::load(Layers::new(variables.chain([data]))) {
        Ok(config) => Verdict::accepted(config.listen.value.len().min(5) as u64),
        Err(error) => {
            let named = KEYS.iter().any(|key| error.to_string().contains(key.name));
            assert!(named, "the error names no key: {error}");
            let key = KEYS.iter().position(|key| error.to_string().contains(&format!("`{}`", key.name)));
            Verdict::refused(&key.map(|n| KEYS[n].name))
        }
    }
}

fn settings() -> Vec<Vec<u8>> {
    let all: String = KEYS.iter().map(|key| format!("{}={}\n", key.name, key.default)).collect();
    [
        all.as_str(),
        "listen=0.0.0.0,/ip4/127.0.0.1/tcp/1/ws\nhttp=[::1]:80\nhttp_hosts=a.example,b.example",
        "hot_memory=1GiB\nreconcile_period=1500ms\nsoft_ttl=5m\nmax_connections=7",
        "http=off\nlisten=off\nrelay=on\nlog=foreshore=debug,info\nlog_format=json\nstorage=memory",
    ]
    .into_iter()
    .map(|text| text.as_bytes().to_vec())
    .collect()
}
