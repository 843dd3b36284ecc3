//! Parsers of single values. An error says what would be right, as the end of "`key` is …, but …".

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use foreshore::id::Prefix;
use serde::Serialize;

/// Port of TCP and QUIC where none is named.
const PEER_PORT: u16 = 4801;
/// Port of WebSocket where none is named.
const WEBSOCKET_PORT: u16 = 4802;

/// Which backend keeps the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageKind {
    /// A redb file in the data directory.
    Redb,
    /// Nothing survives the process.
    Memory,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Human on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Where the HTTP port listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpListen {
    /// Nowhere.
    Off,
    /// Here.
    At(SocketAddr),
}

/// Whom the HTTP port serves documents and the other kinds of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpApi {
    /// Nobody.
    Off,
    /// This machine without a token, and others with one.
    Local,
    /// Whoever has a token.
    Token,
}

/// An address to listen on or to dial, in multiaddr form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenAddress {
    text: String,
    /// Whether the port is one that nobody asked for by number, so that another may take its place.
    pub default_port: bool,
}

impl ListenAddress {
    /// The multiaddr as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The same with a port that the system chooses.
    pub fn with_any_port(&self) -> Self {
        if self.text.contains("/p2p-circuit") {
            return self.clone(); // the port is the relay's
        }
        let text = self.text.replace(&format!("/{PEER_PORT}"), "/0").replace(&format!("/{WEBSOCKET_PORT}"), "/0");
        Self { text, default_port: false }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("it takes a directory".into()) } else { Ok(text.into()) }
}

pub(super) fn name(text: &str) -> Result<String, String> {
    match text.len() {
        1..=64 => Ok(text.into()),
        _ => Err("it takes a name of 1 to 64 bytes or an id fs1…".into()),
    }
}

/// A name, or nothing: whichever space suggests itself.
pub(super) fn any_name(text: &str) -> Result<String, String> {
    if text.is_empty() { Ok(String::new()) } else { name(text) }
}

pub(super) fn prefix(text: &str) -> Result<Prefix, String> {
    Prefix::parse(text).map_err(|error| error.to_string())
}

pub(super) fn storage(text: &str) -> Result<StorageKind, String> {
    match text {
        "redb" => Ok(StorageKind::Redb),
        "memory" => Ok(StorageKind::Memory),
        _ => Err("it takes `redb` or `memory`".into()),
    }
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "auto" => Ok(LogFormat::Auto),
        "human" => Ok(LogFormat::Human),
        "json" => Ok(LogFormat::Json),
        _ => Err("it takes `auto`, `human` or `json`".into()),
    }
}

pub(super) fn filter(text: &str) -> Result<String, String> {
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) => Ok(text.into()),
        Err(e) => Err(format!("it takes a log level or filter: {e}")),
    }
}

pub(super) fn http(text: &str) -> Result<HttpListen, String> {
    match text {
        "off" => Ok(HttpListen::Off),
        _ => text
            .parse()
            .map(HttpListen::At)
            .map_err(|_| "it takes an address and port such as 127.0.0.1:4800, or `off`".into()),
    }
}

pub(super) fn http_api(text: &str) -> Result<HttpApi, String> {
    match text {
        "off" => Ok(HttpApi::Off),
        "local" => Ok(HttpApi::Local),
        "token" => Ok(HttpApi::Token),
        _ => Err("it takes `off`, `local` or `token`".into()),
    }
}

/// An origin as browsers write it, or `*`.
pub(super) fn origin(text: &str) -> Result<String, String> {
    let expected = || "it takes origins such as https://app.example.org or http://localhost:5173, or `*`".to_owned();
    if text == "*" {
        return Ok(text.into());
    }
    let (scheme, rest) = text.split_once("://").ok_or_else(expected)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':' | '[' | ']');
    let is_origin =
        matches!(scheme, "http" | "https") && !rest.is_empty() && rest.len() <= 260 && rest.chars().all(plain);
    if is_origin { Ok(text.to_ascii_lowercase()) } else { Err(expected()) }
}

/// A file, or nothing.
pub(super) fn file(text: &str) -> Result<Option<PathBuf>, String> {
    Ok((!text.is_empty()).then(|| text.into()))
}

/// An address and port, or nothing.
pub(super) fn address(text: &str) -> Result<Option<SocketAddr>, String> {
    match text {
        "" | "off" => Ok(None),
        _ => text.parse().map(Some).map_err(|_| "it takes an address and port such as 127.0.0.1:9464, or `off`".into()),
    }
}

pub(super) fn ip(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| "it takes IP addresses such as 192.0.2.7".into())
}

/// `on` or `off`, and what else people and files write for them.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "on" | "true" | "yes" | "1" => Ok(true),
        "off" | "false" | "no" | "0" => Ok(false),
        _ => Err("it takes `on` or `off`".into()),
    }
}

pub(super) fn host(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    if !text.is_empty() && text.len() <= 253 && text.chars().all(plain) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("it takes host names such as foreshore.example.org".into())
    }
}

/// One entry of `listen`: an IP address stands for all three transports.
pub(super) fn listen(text: &str) -> Result<Vec<ListenAddress>, String> {
    if text == "off" {
        return Ok(Vec::new());
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        let family = if ip.is_ipv4() { "ip4" } else { "ip6" };
        let at = |rest: String| ListenAddress { text: format!("/{family}/{ip}{rest}"), default_port: true };
        return Ok(vec![
            at(format!("/tcp/{PEER_PORT}")),
            at(format!("/udp/{PEER_PORT}/quic-v1")),
            at(format!("/tcp/{WEBSOCKET_PORT}/ws")),
        ]);
    }
    let expected = "it takes an IP address such as 0.0.0.0, a multiaddr such as /ip4/0.0.0.0/tcp/4801, or `off`";
    multiaddr(text, expected).map(|address| vec![address])
}

pub(super) fn dial(text: &str) -> Result<Vec<ListenAddress>, String> {
    multiaddr(text, "it takes multiaddrs such as /ip4/192.0.2.7/tcp/4801").map(|address| vec![address])
}

fn multiaddr(text: &str, expected: &str) -> Result<ListenAddress, String> {
    if !text.starts_with('/') {
        return Err(expected.into());
    }
    match text.parse::<foreshore::peer::Address>() {
        Ok(_) => Ok(ListenAddress { text: text.into(), default_port: false }),
        Err(error) => Err(error.why),
    }
}

pub(super) fn count(min: u32, max: u32) -> impl Fn(&str) -> Result<u32, String> {
    move |text| match text.parse() {
        Ok(n) if (min..=max).contains(&n) => Ok(n),
        _ => Err(format!("it takes a number from {min} to {max}")),
    }
}

/// A size in bytes: a number, alone or with kB, MB, GB, KiB, MiB or GiB.
pub(super) fn bytes(min: u64, max: u64) -> impl Fn(&str) -> Result<u64, String> {
    move |text| {
        let expected = || format!("it takes a size from {min} bytes to {max} bytes, such as 64MiB");
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let factor = match unit.trim() {
            "" | "B" => 1,
            "kB" => 1000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(expected()),
        };
        let size = number.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).ok_or_else(expected)?;
        if (min..=max).contains(&size) { Ok(size) } else { Err(expected()) }
    }
}

/// A duration of whole seconds within bounds; see [`parse_duration`].
pub(super) fn duration(min_seconds: u64, max_seconds: u64) -> impl Fn(&str) -> Result<Duration, String> {
    move |text| {
        parse_duration(text)
            .filter(|d| (min_seconds..=max_seconds).contains(&d.as_secs()))
            .ok_or_else(|| format!("it takes a duration from {min_seconds}s to {max_seconds}s, such as 30s, 5m or 2h"))
    }
}

/// A number with `ms`, `s`, `m`, `h` or `d`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}
