//! Programs that a command runs while it holds something, and the signals that it passes on to them.
//!
//! A program is to end with this command however that ends. So it is started through this very binary, which asks the system for
//! its death with its parent's and then becomes the program ([`supervised`]).

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{Child, ChildStdin, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use super::Context;
use crate::clock::now_millis;
use crate::failure::{Code, Failure};

/// Exit status: there is no such program, or it cannot be started.
pub(super) const NO_PROGRAM: u8 = 127;

/// The longest sleep between two looks at the clock. The system's timers stand still while the machine sleeps; the clock of
/// [`now_millis`] does not.
const LOOK: Duration = Duration::from_millis(200);

/// A program that runs.
pub(super) struct Program {
    child: Child,
    /// It has a process group of its own.
    group: bool,
}

impl Program {
    /// Starts a program. With a terminal on standard input it stays in this process's group, so that it may read from there;
    /// otherwise it gets one of its own, so that what it starts hears signals, too.
    pub(super) fn start(
        command: &[OsString],
        variables: &[(&str, String)],
        input: Stdio,
        piped: bool,
    ) -> io::Result<Self> {
        let group = piped || !io::stdin().is_terminal();
        let mut starter = Command::new(own_binary()?);
        starter.arg("supervised").arg(std::process::id().to_string()).arg("--").args(command);
        starter.envs(variables.iter().map(|(name, value)| (name, value))).stdin(input).kill_on_drop(true);
        if group {
            starter.process_group(0);
        }
        Ok(Self { child: starter.spawn()?, group })
    }

    /// Its standard input, if that is a pipe.
    pub(super) fn input(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Passes a signal on that this command got.
    pub(super) fn pass_on(&self, told: Signal) {
        // Ctrl-C on a terminal has reached a program of the same group already.
        if self.group || told != Signal::INT {
            self.signal(told);
        }
    }

    pub(super) fn signal(&self, told: Signal) {
        if let Some(pid) = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            // It may have ended by itself.
            let _ = if self.group { kill_process_group(pid, told) } else { kill_process(pid, told) };
        }
    }

    /// Has it end: SIGTERM, and SIGKILL when the clock says `at`.
    pub(super) async fn end_by(&mut self, at: u64) -> io::Result<ExitStatus> {
        let pid = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        self.signal(Signal::TERM);
        let ended = tokio::select! {
            ended = self.child.wait() => Some(ended),
            () = passes(at) => None,
        };
        // Whatever it started and left behind goes, too.
        match pid {
            Some(pid) if self.group => drop(kill_process_group(pid, Signal::KILL)),
            _ => {}
        }
        match ended {
            Some(ended) => ended,
            None => {
                self.child.kill().await?;
                self.child.wait().await
            }
        }
    }
}

/// Waits until the clock of [`now_millis`] has passed a time.
pub(super) async fn passes(at: u64) {
    while let Some(left) = at.checked_sub(now_millis()).filter(|left| *left > 0) {
        sleep(Duration::from_millis(left).min(LOOK)).await;
    }
}

fn own_binary() -> io::Result<std::path::PathBuf> {
    // The file of this process even if another has taken its name.
    let running = std::path::PathBuf::from("/proc/self/exe");
    if running.exists() { Ok(running) } else { std::env::current_exe() }
}

/// Becomes a program that is killed when `parent` ends. Comes back only if there is no such program.
pub(super) fn supervised(parent: i32, command: &[OsString]) -> Failure {
    use std::os::unix::process::CommandExt;
    #[cfg(target_os = "linux")]
    {
        let set = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
        // It may have ended before that was set.
        let parent_is = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
        if set.is_err() || parent_is != Some(parent) {
            return Failure::new(Code::Failed, "the command that was to supervise it is gone");
        }
    }
    let _ = parent;
    let Some((program, arguments)) = command.split_first() else {
        return Failure::invalid("COMMAND", "it is missing");
    };
    let error = std::process::Command::new(program).args(arguments).exec();
    Failure::new(Code::Failed, format_args!("{}: {error}", program.display()))
}

/// Says why a program is not run; its exit status.
pub(super) fn not_run(context: &Context, failure: &Failure, status: u8) -> Result<(), Failure> {
    context.out.failure(failure);
    Err(Failure::new(Code::Program(status), &failure.message))
}

/// The exit status of a program as this command's own.
pub(super) fn status(ended: ExitStatus) -> Result<(), Failure> {
    use std::os::unix::process::ExitStatusExt;
    let number = ended.code().unwrap_or_else(|| 128 + ended.signal().unwrap_or_default());
    match u8::try_from(number).unwrap_or(u8::MAX) {
        0 => Ok(()),
        status => Err(Failure::new(Code::Program(status), ended)),
    }
}

/// SIGINT and SIGTERM.
pub(super) struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            Some(()) = self.interrupt.recv() => Signal::INT,
            Some(()) = self.terminate.recv() => Signal::TERM,
        }
    }
}
