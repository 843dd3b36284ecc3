//! The token that opens what is not for everybody: a file of mode 0600, never an argument.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use axum::http::{HeaderMap, header};

use crate::failure::{Code, Failure};

/// Fewest characters: 16 random ones of an alphabet of 64 are 96 bits.
const MIN: usize = 16;
/// Most characters.
const MAX: usize = 256;

/// A bearer token. Only its hash is kept, so that no log, dump or comparison shows it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Token(blake3::Hash);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// A token of a text.
    pub fn new(text: &str) -> Result<Self, String> {
        let fits = (MIN..=MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Self(blake3::hash(text.as_bytes())))
            .ok_or_else(|| format!("it takes one line of {MIN} to {MAX} printable characters without spaces"))
    }

    /// Reads a token's file, which nobody else may read.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let wrong = |why: &dyn fmt::Display| {
            Failure::new(Code::Invalid, format_args!("`http_token_file` {}: {why}", path.display()))
        };
        let mode = std::fs::metadata(path).map_err(|error| wrong(&error))?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let failure = wrong(&format_args!("others may read it (mode {mode:o})"));
            return Err(failure.hint("chmod 600 it, and replace the token if somebody may have read it"));
        }
        let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
        Self::new(text.trim_end_matches(['\r', '\n'])).map_err(|why| wrong(&why))
    }

    /// Whether a text is it. Takes the same time whatever it is.
    pub(super) fn is(&self, text: &str) -> bool {
        blake3::hash(text.as_bytes()) == self.0
    }

    /// Whether a request carries it. Takes the same time whatever it carries.
    pub(super) fn opens(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return false };
        let given = value.to_str().ok().and_then(|text| text.split_once(' '));
        given.is_some_and(|(scheme, text)| scheme.eq_ignore_ascii_case("bearer") && self.is(text.trim()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_opens() {
        let token = Token::new("0123456789abcdef").unwrap();
        let opens = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            token.opens(&headers)
        };
        assert!(opens("Bearer 0123456789abcdef") && opens("bearer  0123456789abcdef"));
        for wrong in ["", "0123456789abcdef", "Basic 0123456789abcdef", "Bearer 0123456789abcde", "Bearer"] {
            assert!(!opens(wrong), "{wrong:?}");
        }
        assert!(!token.opens(&HeaderMap::new()));
        let mut twice = HeaderMap::new();
        twice.append(header::AUTHORIZATION, "Bearer 0123456789abcdef".parse().unwrap());
        twice.append(header::AUTHORIZATION, "Bearer 0123456789abcdef".parse().unwrap());
        assert!(!token.opens(&twice));
    }

    #[test]
    fn a_file_that_others_read_is_refused_and_no_error_shows_what_is_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let chmod = |mode, text: &str| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            Token::read(&path).map_err(|failure| format!("{failure:?}"))
        };
        assert_eq!(chmod(0o600, "0123456789abcdef\n"), Ok(Token::new("0123456789abcdef").unwrap()));
        for mode in [0o640, 0o604, 0o666] {
            let said = chmod(mode, "0123456789abcdef\n").unwrap_err();
            assert!(said.contains("600") && !said.contains("0123456789abcdef"), "{said}");
        }
        let said = chmod(0o600, "short-secret").unwrap_err();
        assert!(said.contains("16") && !said.contains("short-secret"), "{said}");
        assert!(!format!("{:?}", Token::new("0123456789abcdef").unwrap()).contains("0123"));
    }
}
