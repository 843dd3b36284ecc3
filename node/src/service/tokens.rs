//! Tokens of the HTTP door: each is a grant of this peer to whoever carries it, of a path prefix of one space, to read or to
//! write, until it expires or is revoked.
//!
//! They are this peer's own: no fact of the space, known to no other peer, and good for what this peer itself may do. The file
//! `http-tokens.json` in the data directory, of mode 0600, keeps their hashes; a token itself is shown once, when it is made.

use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use foreshore::id::Prefix;
use serde::{Deserialize, Serialize};

use super::Service;
use super::documents::parse_prefix;
use crate::failure::{Code, Failure};
use crate::request::TokenLine;

/// Tokens of one peer. Each costs one comparison a request.
const MAX_TOKENS: usize = 1024;

/// Longest name in bytes.
const MAX_NAME: usize = 128;

/// Largest file that is read: each token takes less than 1.5 KB.
const MAX_FILE: u64 = 2 << 20;

/// Name of the file in the data directory.
const FILE: &str = "http-tokens.json";

/// What every token begins with, so that it is told from other secrets.
const PREFIX: &str = "fst_";

/// What a token opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenGrant {
    /// The space's id.
    pub(crate) space: String,
    /// Everything under it.
    pub(crate) prefix: Prefix,
    /// Whether it also writes.
    pub(crate) write: bool,
    /// Which token it is.
    pub(crate) hash: blake3::Hash,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    /// BLAKE3 of the token, in hexadecimal.
    hash: String,
    name: String,
    space: String,
    prefix: String,
    write: bool,
    expires_at: Option<i64>,
}

impl Record {
    fn id(&self) -> &str {
        &self.hash[..12]
    }

    fn line(&self, token: Option<String>) -> TokenLine {
        let Record { name, space, prefix, write, expires_at, .. } = self.clone();
        TokenLine { id: self.id().to_owned(), name, space, prefix, write, expires_at, token }
    }
}

/// The tokens that there are.
pub(super) struct Kept {
    file: PathBuf,
    /// Read when it is first asked for.
    records: Mutex<Option<Vec<Record>>>,
}

impl Kept {
    pub(super) fn new(data: &Path) -> Self {
        Self { file: data.join(FILE), records: Mutex::default() }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Vec<Record>) -> Result<T, Failure>) -> Result<T, Failure> {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        match records.as_mut() {
            Some(records) => act(records),
            None => act(records.insert(read(&self.file)?)),
        }
    }

    /// Changes them on disk first.
    fn change<T>(&self, act: impl FnOnce(&mut Vec<Record>) -> Result<T, Failure>) -> Result<T, Failure> {
        self.with(|records| {
            let mut changed = records.clone();
            let now = now_millis();
            changed.retain(|record| record.expires_at.is_none_or(|at| at > now));
            let result = act(&mut changed)?;
            write(&self.file, &changed)
                .map_err(|error| Failure::new(Code::Store, format_args!("{}: {error}", self.file.display())))?;
            *records = changed;
            Ok(result)
        })
    }
}

fn read(file: &Path) -> Result<Vec<Record>, Failure> {
    let wrong = |why: &dyn std::fmt::Display| {
        Failure::new(Code::Damaged, format_args!("{}: {why}", file.display()))
            .hint("remove it to begin without any token; those that were made are good no more then")
    };
    let metadata = match std::fs::metadata(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        metadata => metadata.map_err(|error| wrong(&error))?,
    };
    if metadata.permissions().mode() & 0o022 != 0 {
        return Err(wrong(&"others may write it").hint("chmod 600 it, once you have seen to what is in it"));
    }
    if metadata.len() > MAX_FILE {
        return Err(wrong(&format_args!("it has more than {MAX_FILE} bytes")));
    }
    let bytes = std::fs::read(file).map_err(|error| wrong(&error))?;
    let records: Vec<Record> = serde_json::from_slice(&bytes).map_err(|error| wrong(&error))?;
    let is_hash = |record: &Record| record.hash.len() == 64 && record.hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    match records.iter().all(|record| is_hash(record) && Prefix::parse(&record.prefix).is_ok()) {
        true => Ok(records),
        false => Err(wrong(&"what it holds are no tokens")),
    }
}

/// As a whole or not at all.
fn write(file: &Path, records: &[Record]) -> std::io::Result<()> {
    let bytes = serde_json::to_vec_pretty(records).map_err(std::io::Error::other)?;
    let new = file.with_extension("new");
    let _ = std::fs::remove_file(&new);
    let mut to = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    to.write_all(&bytes)?;
    to.sync_all()?;
    std::fs::rename(&new, file)?;
    match file.parent() {
        Some(directory) => std::fs::File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

/// Milliseconds since 1970. Expiry is by the wall clock, as everybody understands it.
#[allow(clippy::disallowed_methods, reason = "expiry is by the wall clock")]
fn now_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl Service {
    pub(super) async fn token_create(
        &self,
        space: &str,
        name: String,
        prefix: &str,
        write: bool,
        expires_seconds: Option<u64>,
    ) -> Result<TokenLine, Failure> {
        let prefix = parse_prefix(prefix)?;
        if name.len() > MAX_NAME {
            return Err(Failure::invalid("name", format_args!("it has at most {MAX_NAME} bytes")));
        }
        let space = self.space(space).await?.id().to_bech32();
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|_| Failure::new(Code::Failed, "the system gives no random numbers"))?;
        let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(secret));
        let hash = blake3::hash(token.as_bytes()).to_hex().to_string();
        let expires_at = expires_seconds.map(|seconds| {
            let life = i64::try_from(Duration::from_secs(seconds).as_millis()).unwrap_or(i64::MAX);
            now_millis().saturating_add(life)
        });
        let record = Record { hash, name, space, prefix: prefix.to_string(), write, expires_at };
        self.shared.tokens.change(|records| {
            if records.len() >= MAX_TOKENS {
                let failure = Failure::new(Code::Failed, format_args!("there are {MAX_TOKENS} tokens already"));
                return Err(failure.hint("`foreshore token revoke` takes some back"));
            }
            records.push(record.clone());
            Ok(record.line(Some(token)))
        })
    }

    pub(crate) fn tokens(&self) -> Result<Vec<TokenLine>, Failure> {
        self.shared.tokens.with(|records| Ok(records.iter().map(|record| record.line(None)).collect()))
    }

    pub(crate) fn token_revoke(&self, id: &str) -> Result<TokenLine, Failure> {
        self.shared.tokens.change(|records| {
            let at = records.iter().position(|record| record.id() == id || record.hash == id);
            let at = at.ok_or_else(|| {
                Failure::new(Code::NotFound, format_args!("no token {id:?}"))
                    .hint("`foreshore token list` shows which there are")
            })?;
            Ok(records.remove(at).line(None))
        })
    }

    /// What a token opens now; `None`: nothing.
    pub(crate) fn token(&self, token: &str) -> Result<Option<TokenGrant>, Failure> {
        match token.starts_with(PREFIX) {
            true => self.token_grant(blake3::hash(token.as_bytes())),
            false => Ok(None),
        }
    }

    /// [`Service::token`] by its hash, for requests that go on for long.
    pub(crate) fn token_grant(&self, given: blake3::Hash) -> Result<Option<TokenGrant>, Failure> {
        self.shared.tokens.with(|records| {
            let now = now_millis();
            // Hashes of `blake3` compare in constant time.
            let same = |record: &&Record| blake3::Hash::from_hex(&record.hash).is_ok_and(|hash| hash == given);
            let found = records.iter().find(same).filter(|record| record.expires_at.is_none_or(|at| at > now));
            let Some(record) = found else { return Ok(None) };
            let prefix = parse_prefix(&record.prefix)?;
            Ok(Some(TokenGrant { space: record.space.clone(), prefix, write: record.write, hash: given }))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(hash: &str, expires_at: Option<i64>) -> Record {
        let (name, space, prefix) = ("n".to_owned(), "fs1".to_owned(), "/a".to_owned());
        Record { hash: hash.repeat(64), name, space, prefix, write: true, expires_at }
    }

    #[test]
    fn tokens_outlive_the_process_and_expired_ones_are_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let kept = Kept::new(directory.path());
        kept.change(|records| {
            records.extend([record("a", None), record("b", Some(1))]);
            Ok(())
        })
        .unwrap();
        let again = Kept::new(directory.path());
        again
            .change(|records| {
                records.push(record("c", Some(i64::MAX)));
                Ok(())
            })
            .unwrap();
        let hashes = Kept::new(directory.path())
            .with(|records| Ok(records.iter().map(|record| record.hash[..1].to_owned()).collect::<String>()));
        assert_eq!(hashes.unwrap(), "ac");
        let mode = std::fs::metadata(directory.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_others_write_or_that_holds_something_else_opens_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(FILE);
        for (text, mode) in [("[]", 0o666), ("{", 0o600), (r#"[{"hash":"x"}]"#, 0o600)] {
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            let refused = Kept::new(directory.path()).with(|_| Ok(())).unwrap_err();
            assert_eq!(refused.code, Code::Damaged, "{text}");
        }
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let no_hash = serde_json::to_vec(&[Record { hash: "é".repeat(40), ..record("a", None) }]).unwrap();
        std::fs::write(&file, no_hash).unwrap();
        assert!(Kept::new(directory.path()).with(|_| Ok(())).is_err());
    }
}
