//! A sign of life on stderr for whatever takes more than a second, on terminals only.

use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Silence before the first sign.
const PATIENCE: Duration = Duration::from_secs(1);

/// A progress line that removes itself when dropped.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    reveal: tokio::task::JoinHandle<()>,
}

impl Progress {
    /// Starts one. Needs a runtime, which must not be blocked for the line to show.
    pub fn start(what: &'static str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        bar.set_style(ProgressStyle::with_template("{spinner} {prefix} {msg}").expect("the template is valid"));
        bar.set_prefix(what);
        let shown = bar.clone();
        let reveal = tokio::spawn(async move {
            tokio::time::sleep(PATIENCE).await;
            // indicatif itself stays silent where stderr is no terminal.
            shown.set_draw_target(ProgressDrawTarget::stderr());
            shown.enable_steady_tick(Duration::from_millis(100));
        });
        Self { bar, reveal }
    }

    /// Says how far it is.
    pub fn at(&self, count: u64, unit: &str, bytes: u64) {
        self.bar.set_message(format!("{count} {unit}, {}", HumanBytes(bytes)));
    }

    /// What says how far it is from another thread.
    pub fn counter(&self, unit: &'static str) -> impl Fn(u64) + Send + 'static {
        let bar = self.bar.clone();
        move |count| bar.set_message(format!("{count} {unit}"))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.reveal.abort();
        self.bar.finish_and_clear();
    }
}
