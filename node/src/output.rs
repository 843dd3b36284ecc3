//! What commands print: one JSON value or one JSON object a line with `--json`, plain text for people otherwise.
//!
//! Text that comes from documents, paths and other peers is printed with its control characters escaped, so that nobody
//! else's data moves the cursor of this terminal.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::failure::{Code, Failure};

/// Where and how a command prints.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// Whether programs read it.
    pub json: bool,
}

impl Output {
    /// Whether standard output is a terminal.
    pub fn is_terminal(self) -> bool {
        io::stdout().is_terminal()
    }

    /// Prints one value: as one line of JSON, or as `human` writes it.
    pub fn value<T: Serialize>(self, value: &T, human: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        let text = match self.json {
            true => serde_json::to_string(value).map_err(|e| Failure::new(Code::Failed, e))?,
            false => human(value),
        };
        self.line(&text)
    }

    /// Prints a line.
    pub fn line(self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        let written = out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
        written.map_err(unwritten)
    }

    /// Prints somebody's data: as it is, but on a terminal, where its control characters do not act. Text ends in a newline.
    pub fn data(self, data: &[u8]) -> Result<(), Failure> {
        match std::str::from_utf8(data) {
            Ok(text) if self.is_terminal() => self.line(&text.lines().map(plain).collect::<Vec<_>>().join("\n")),
            Ok(text) => self.line(text),
            Err(_) if self.is_terminal() => {
                Err(Failure::new(Code::Invalid, "it is no text, and the output is a terminal")
                    .hint("send it to a file, or use --json"))
            }
            Err(_) => {
                let mut out = io::stdout().lock();
                out.write_all(data).and_then(|()| out.flush()).map_err(unwritten)
            }
        }
    }

    /// Prints a failure to stderr.
    pub fn failure(self, failure: &Failure) {
        if matches!(failure.code, Code::ReaderGone | Code::Program(_)) {
            return;
        }
        let mut err = io::stderr().lock();
        let _ = if self.json {
            serde_json::to_writer(&mut err, &serde_json::json!({ "error": failure })).map_err(io::Error::from)
        } else {
            write!(err, "foreshore: {}", plain(&failure.message)).and_then(|()| match &failure.hint {
                Some(hint) => write!(err, "\n  {}", plain(hint)),
                None => Ok(()),
            })
        };
        let _ = writeln!(err);
    }
}

fn unwritten(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::new(Code::ReaderGone, "nobody reads the output"),
        _ => error.into(),
    }
}

/// Text with its control characters escaped.
pub fn plain(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if c.is_control() {
            let _ = write!(out, "{}", c.escape_default());
        } else {
            out.push(c);
        }
        out
    })
}

/// Rows in columns, the last one ragged.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let mut text = String::new();
        for (column, cell) in row.iter().enumerate() {
            let last = column + 1 == row.len();
            let pad = if last { 0 } else { widths[column] + 2 - cell.chars().count() };
            let _ = write!(text, "{cell}{:pad$}", "");
        }
        text
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The ends of a long id.
pub fn short(id: &str) -> String {
    let chars: Vec<char> = id.chars().collect();
    match chars.len() {
        0..=12 => id.to_owned(),
        n => chars[..4].iter().chain(&['…']).chain(&chars[n - 3..]).collect(),
    }
}

/// `1 document`, `2 documents`.
pub fn count(n: u64, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// A size for people.
pub fn size(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

/// Milliseconds since 1970 as UTC, to the second.
pub fn time(millis: i64) -> String {
    let seconds = millis.div_euclid(1000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Civil date from days: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_827_696_000, "2000-02-29T12:34:56Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (4_102_444_799_999, "2099-12-31T23:59:59Z"),
        ] {
            assert_eq!(time(millis), text);
        }
    }

    #[test]
    fn columns_line_up_and_control_characters_do_not_act() {
        let rows = [vec!["a".into(), "bb".into()], vec!["ccc".into(), "d".into()]];
        assert_eq!(table(&rows), "a    bb\nccc  d");
        assert_eq!(plain("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!((short("fs1qabcdefghij9x"), short("abc")), ("fs1q…j9x".into(), "abc".into()));
    }
}
