//! The layers: who set which key to what text.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use super::{ConfigError, KEYS, Key, Setting, find};

/// Largest configuration file. A thousand dial addresses take a tenth of it.
const MAX_FILE: u64 = 1 << 20;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// A flag.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::File(path) => write!(f, "file {}", path.display()),
            Source::Environment(name) => write!(f, "environment {name}"),
            Source::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

impl Serialize for Source {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// A value before it is parsed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Raw {
    /// One text.
    One(String),
    /// A list of texts.
    Many(Vec<String>),
}

impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Raw::One(text) => f.write_str(text),
            Raw::Many(list) => f.write_str(&list.join(", ")),
        }
    }
}

/// Flags and environment, before the file is read.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    flags: BTreeMap<&'static str, Raw>,
    environment: BTreeMap<String, String>,
    file: BTreeMap<&'static str, Raw>,
    file_path: Option<PathBuf>,
}

impl Layers {
    /// Layers over an environment.
    pub fn new(environment: impl IntoIterator<Item = (String, String)>) -> Self {
        let ours = environment.into_iter().filter(|(name, value)| name.starts_with("FORESHORE_") && !value.is_empty());
        Self { environment: ours.collect(), ..Self::default() }
    }

    /// Sets one key by a flag.
    ///
    /// # Panics
    /// If there is no such key: flags are part of the program.
    pub fn flag(&mut self, name: &str, value: Option<impl Into<String>>) -> &mut Self {
        if let Some(value) = value {
            let key = find(name).expect("a flag has a key");
            self.flags.insert(key.name, Raw::One(value.into()));
        }
        self
    }

    /// Sets one list by repeated flags.
    ///
    /// # Panics
    /// If there is no such key: flags are part of the program.
    pub fn flags(&mut self, name: &str, values: &[String]) -> &mut Self {
        if !values.is_empty() {
            let key = find(name).expect("a flag has a key");
            self.flags.insert(key.name, Raw::Many(values.to_vec()));
        }
        self
    }

    /// Names the file (`--config`).
    pub fn file(&mut self, path: Option<PathBuf>) -> &mut Self {
        self.file_path = path;
        self
    }

    /// Reads the file, if there is one.
    pub(super) fn with_file(mut self) -> Result<(Self, Option<PathBuf>), ConfigError> {
        let named = self.file_path.clone().or_else(|| self.environment.get("FORESHORE_CONFIG").map(PathBuf::from));
        let inside = PathBuf::from(self.text("data").0).join("foreshore.toml");
        let path = match named {
            Some(path) => path,
            None if inside.is_file() => inside.clone(),
            None => return Ok((self, None)),
        };
        self.file = read_file(&path)?;
        if path == inside
            && let Some(value) = self.file.get("data")
        {
            return Err(ConfigError::Invalid {
                key: "data",
                origin: Source::File(path),
                value: value.to_string(),
                expected: "a file inside the data directory cannot name the data directory".into(),
            });
        }
        self.file_path = Some(path.clone());
        Ok((self, Some(path)))
    }

    /// The strongest layer's value of a key.
    fn raw(&self, key: &'static Key) -> Setting<Raw> {
        let split = |text: &str| match key.list {
            true => Raw::Many(text.split(',').map(str::trim).filter(|s| !s.is_empty()).map(Into::into).collect()),
            false => Raw::One(text.into()),
        };
        let variable = key.variable();
        if let Some(value) = self.flags.get(key.name) {
            Setting { value: value.clone(), source: Source::Flag(key.flag()) }
        } else if let Some(value) = self.environment.get(&variable) {
            Setting { value: split(value), source: Source::Environment(variable) }
        } else if let (Some(value), Some(path)) = (self.file.get(key.name), &self.file_path) {
            Setting { value: value.clone(), source: Source::File(path.clone()) }
        } else {
            Setting { value: split(key.default), source: Source::Default }
        }
    }

    fn text(&self, name: &'static str) -> (String, Source) {
        let setting = self.raw(find(name).expect("the table has every key"));
        (setting.value.to_string(), setting.source)
    }

    /// Every key as merged.
    pub(super) fn merged(&self) -> Vec<(&'static Key, Setting<Raw>)> {
        KEYS.iter().map(|key| (key, self.raw(key))).collect()
    }

    /// Parses a key of one value.
    pub(super) fn one<T>(
        &self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Setting<T>, ConfigError> {
        let (text, source) = self.text(name);
        match parse(&text) {
            Ok(value) => Ok(Setting { value, source }),
            Err(expected) => Err(ConfigError::Invalid { key: name, origin: source, value: text, expected }),
        }
    }

    /// Parses each entry of a list; an entry may stand for several values.
    pub(super) fn many<T>(
        &self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<Vec<T>, String>,
    ) -> Result<Setting<Vec<T>>, ConfigError> {
        let Setting { value, source } = self.raw(find(name).expect("the table has every key"));
        let entries = match value {
            Raw::One(text) => vec![text],
            Raw::Many(list) => list,
        };
        let mut values = Vec::new();
        for text in entries {
            match parse(&text) {
                Ok(parsed) => values.extend(parsed),
                Err(expected) => return Err(ConfigError::Invalid { key: name, origin: source, value: text, expected }),
            }
        }
        Ok(Setting { value: values, source })
    }
}

fn read_file(path: &Path) -> Result<BTreeMap<&'static str, Raw>, ConfigError> {
    let unreadable = |why: String| ConfigError::Unreadable { file: path.into(), why };
    let length = std::fs::metadata(path).map_err(|e| unreadable(e.to_string()))?.len();
    if length > MAX_FILE {
        return Err(unreadable(format!("it has {length} bytes, over the bound of {MAX_FILE}")));
    }
    let text = std::fs::read_to_string(path).map_err(|e| unreadable(e.to_string()))?;
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| ConfigError::Syntax {
        file: path.into(),
        line: e.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1),
        why: e.message().to_owned(),
    })?;
    table.into_iter().map(|(name, value)| entry(path, &name, value)).collect()
}

fn entry(path: &Path, name: &str, value: toml::Value) -> Result<(&'static str, Raw), ConfigError> {
    let source = || Source::File(path.into());
    let Some(key) = find(name) else {
        return Err(ConfigError::UnknownKey { key: name.into(), origin: source(), nearest: nearest(name) });
    };
    let invalid = |value: &toml::Value, expected: &str| ConfigError::Invalid {
        key: key.name,
        origin: source(),
        value: value.to_string(),
        expected: expected.into(),
    };
    let scalar = |value: &toml::Value| match value {
        toml::Value::String(text) => Ok(text.clone()),
        toml::Value::Integer(n) => Ok(n.to_string()),
        toml::Value::Boolean(b) => Ok(b.to_string()),
        other => Err(invalid(other, "it takes a string or a number")),
    };
    let raw = match (key.list, &value) {
        (true, toml::Value::Array(list)) => Raw::Many(list.iter().map(scalar).collect::<Result<_, _>>()?),
        (true, one) => Raw::Many(vec![scalar(one)?]),
        (false, toml::Value::Array(_)) => return Err(invalid(&value, "it takes one value, not a list")),
        (false, one) => Raw::One(scalar(one)?),
    };
    Ok((key.name, raw))
}

/// The key that differs least from a misspelt one, if any is near.
fn nearest(name: &str) -> Option<&'static str> {
    let near = KEYS.iter().map(|key| (distance(name, key.name), key.name)).min()?;
    (near.0 <= 2).then_some(near.1)
}

/// Levenshtein distance, one row at a time.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.chars().enumerate() {
            let cost = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.chars().count()]
}
