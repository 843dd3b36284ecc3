//! Newtypes for every identifier that crosses a module boundary.
//!
//! An id that exists is well formed: construction parses, nothing else validates. Ids order by their bytes, so that
//! iteration over maps keyed by them is the same on every peer.

use std::fmt;

use crate::error::PathError;

/// Defines a fixed-size byte id with hexadecimal `Display`/`Debug`.
macro_rules! byte_id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// The raw bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "("))?;
                self.0.iter().take(4).try_for_each(|b| write!(f, "{b:02x}"))?;
                write!(f, "…)")
            }
        }

        impl From<[u8; $len]> for $name {
            fn from(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = std::array::TryFromSliceError;
            fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
                bytes.try_into().map(Self)
            }
        }

        impl std::str::FromStr for $name {
            type Err = crate::error::IdError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                parse_hex(text).map(Self)
            }
        }
    };
}

byte_id!(
    /// A space: the Ed25519 public key of its first root. Shown to people as bech32 `fs1…`, see [`SpaceId::to_bech32`].
    SpaceId, 32
);
byte_id!(
    /// A device: the Ed25519 public key that signs what the device writes.
    DeviceId, 32
);
byte_id!(
    /// A running peer: the Ed25519 public key of its libp2p identity. A device may run several, one at a time a store.
    PeerId, 32
);
byte_id!(
    /// A document: `BLAKE3(space ‖ path ‖ generation)[..16]`, the same on every peer.
    DocumentId, 16
);
byte_id!(
    /// The SHA-256 hash of an Automerge change chunk, as Automerge computes it.
    ChangeHash, 32
);
byte_id!(
    /// The BLAKE3 hash of a signed fact's canonical bytes, signature included.
    FactHash, 32
);

/// Domain separation for [`DocumentId::derive`].
const DOCUMENT_CONTEXT: &str = "foreshore 1 document id";

impl DocumentId {
    /// The document of one generation of a path. Two peers that create the same path offline derive the same id.
    pub fn derive(space: &SpaceId, path: &Path, generation: u32) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(DOCUMENT_CONTEXT);
        hasher.update(&space.0).update(path.as_str().as_bytes()).update(&generation.to_le_bytes());
        let mut id = [0; 16];
        id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self(id)
    }
}

/// Human-readable prefix of a space id.
const SPACE_HRP: bech32::Hrp = bech32::Hrp::parse_unchecked("fs");

impl SpaceId {
    /// The form people see and paste: `fs1…`, bech32m with a checksum.
    pub fn to_bech32(&self) -> String {
        bech32::encode::<bech32::Bech32m>(SPACE_HRP, &self.0).expect("32 bytes fit bech32's length limit")
    }

    /// Parses the form of [`SpaceId::to_bech32`].
    pub fn from_bech32(text: &str) -> Result<Self, crate::error::IdError> {
        let (hrp, bytes) = bech32::decode(text).map_err(|_| crate::error::IdError::Encoding)?;
        if hrp != SPACE_HRP {
            return Err(crate::error::IdError::Encoding);
        }
        let got = bytes.len();
        Ok(Self(bytes.try_into().map_err(|_| crate::error::IdError::Length { expected: 32, got })?))
    }
}

/// 64 random bits drawn when a store begins a new life; see the seal in [`crate::trust`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u64);

/// An Automerge actor: 16 bytes for actors that Foreshore makes, 1 to [`Actor::MAX_LEN`] for foreign ones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Actor(smallvec::SmallVec<[u8; 16]>);

impl Actor {
    /// The longest actor that is let in. Automerge itself sets no bound; its own implementations use 16 bytes.
    pub const MAX_LEN: usize = 64;

    /// An actor from raw bytes; `None` if empty or longer than [`Actor::MAX_LEN`].
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        (1..=Self::MAX_LEN).contains(&bytes.len()).then(|| Self(bytes.into()))
    }

    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A path in a space: `/a/b/c`, UTF-8 in NFC, 1 to [`Path::MAX_LEN`] bytes, no empty, `.` or `..` segment and no
/// control character. `/` alone is not a path of a document but is a valid [`Prefix`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(std::sync::Arc<str>);

impl Path {
    /// Longest path in bytes.
    pub const MAX_LEN: usize = 512;

    /// Parses a path. The input is not normalised in silence: text that is not NFC is refused, so that what a program
    /// wrote is what every peer sees.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        check_path(text)?;
        Ok(Self(text.into()))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The segments, without slashes.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0[1..].split('/')
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl std::str::FromStr for Path {
    type Err = PathError;
    fn from_str(text: &str) -> Result<Self, PathError> {
        Self::parse(text)
    }
}

impl std::borrow::Borrow<str> for Path {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A path prefix: `/` for everything, or `/a/b`, which covers `/a/b` itself and everything below `/a/b/`, and not `/a/bc`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(std::sync::Arc<str>);

impl Prefix {
    /// The prefix that covers every path.
    pub fn root() -> Self {
        Self("/".into())
    }

    /// Parses `/` or a path.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        if text != "/" {
            check_path(text)?;
        }
        Ok(Self(text.into()))
    }

    /// The prefix as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `path` lies at or under this prefix.
    pub fn covers(&self, path: &Path) -> bool {
        self.covers_str(path.as_str())
    }

    /// Whether every path under `other` lies under this prefix.
    pub fn contains(&self, other: &Prefix) -> bool {
        self.covers_str(&other.0)
    }

    /// The longer of the two if one contains the other.
    pub fn intersection(&self, other: &Prefix) -> Option<Prefix> {
        if self.contains(other) {
            Some(other.clone())
        } else if other.contains(self) {
            Some(self.clone())
        } else {
            None
        }
    }

    fn covers_str(&self, text: &str) -> bool {
        &*self.0 == "/" || text.strip_prefix(&*self.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl From<&Path> for Prefix {
    fn from(path: &Path) -> Self {
        Self(path.0.clone())
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl std::str::FromStr for Prefix {
    type Err = PathError;
    fn from_str(text: &str) -> Result<Self, PathError> {
        Self::parse(text)
    }
}

fn check_path(text: &str) -> Result<(), PathError> {
    if text.is_empty() {
        return Err(PathError::Empty);
    }
    if text.len() > Path::MAX_LEN {
        return Err(PathError::TooLong { bytes: text.len(), max: Path::MAX_LEN });
    }
    let Some(rest) = text.strip_prefix('/') else {
        return Err(PathError::NoLeadingSlash);
    };
    if let Some(control) = text.chars().find(|c| c.is_control()) {
        return Err(PathError::ControlCharacter { character: control });
    }
    match rest.split('/').find(|s| matches!(*s, "" | "." | "..")) {
        Some("") => return Err(PathError::EmptySegment),
        Some(_) => return Err(PathError::DotSegment),
        None => {}
    }
    if !unicode_normalization::is_nfc(text) {
        return Err(PathError::NotNfc);
    }
    Ok(())
}

fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], crate::error::IdError> {
    use crate::error::IdError;
    if text.len() != 2 * N {
        return Err(IdError::Length { expected: N, got: text.len() / 2 });
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digits = std::str::from_utf8(pair).map_err(|_| IdError::Encoding)?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| IdError::Encoding)?;
    }
    Ok(out)
}

/// What a key grows from: a secret. Nothing that prints it shows it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seed(pub [u8; 32]);

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(…)")
    }
}

impl std::ops::Deref for Seed {
    type Target = [u8; 32];

    fn deref(&self) -> &[u8; 32] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_paths_are_refused_by_name() {
        let long = format!("/{}", "a".repeat(512));
        let cases: &[(&str, &str)] = &[
            ("", "Empty"),
            ("a", "NoLeadingSlash"),
            ("/", "EmptySegment"),
            ("/a/", "EmptySegment"),
            ("/a//b", "EmptySegment"),
            ("/a/./b", "DotSegment"),
            ("/..", "DotSegment"),
            ("/a\nb", "ControlCharacter"),
            ("/e\u{301}", "NotNfc"),
            (&long, "TooLong"),
        ];
        for (text, name) in cases {
            let error = Path::parse(text).expect_err(text);
            assert!(format!("{error:?}").starts_with(name), "{text:?} gave {error:?}");
        }
        assert_eq!(Path::parse("/lists/é").unwrap().segments().collect::<Vec<_>>(), ["lists", "é"]);
    }

    #[test]
    fn prefixes_cover_segments_not_letters() {
        let prefix = Prefix::parse("/a/b").unwrap();
        for (path, covered) in [("/a/b", true), ("/a/b/c", true), ("/a/bc", false), ("/a", false)] {
            assert_eq!(prefix.covers(&Path::parse(path).unwrap()), covered, "{path}");
        }
        assert!(Prefix::root().contains(&prefix));
        assert_eq!(prefix.intersection(&Prefix::root()), Some(prefix.clone()));
        assert_eq!(prefix.intersection(&Prefix::parse("/a/c").unwrap()), None);
    }

    #[test]
    fn space_ids_survive_bech32() {
        let id = SpaceId([7; 32]);
        assert_eq!(SpaceId::from_bech32(&id.to_bech32()).unwrap(), id);
        assert!(SpaceId::from_bech32("fs1qqqq").is_err());
    }
}
