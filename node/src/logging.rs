//! Log lines on stderr: for people on a terminal, one JSON object a line otherwise.
//!
//! A log that cannot be written (its file is on the disk that is full) is dropped in silence. The usual complaint about
//! it goes to stderr too, and panics the task that logs where that fails.

use std::io::{self, IsTerminal, Stderr, Write};

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Standard error that never fails.
struct Best(Stderr);

impl Write for Best {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = self.0.flush();
        Ok(())
    }
}

/// Starts logging. Later calls have no effect, so tests may call it often.
pub fn start(filter: &str, format: LogFormat) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let terminal = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false);
    let builder = builder.with_writer(|| Best(std::io::stderr()));
    let _ = match format {
        LogFormat::Json => builder.json().try_init(),
        LogFormat::Auto if !terminal => builder.json().try_init(),
        LogFormat::Human | LogFormat::Auto => builder.compact().with_ansi(terminal).try_init(),
    };
}
