//! `foreshore doctor`: checks a store and says what it found, also when the store does not open.

use std::path::Path;

use foreshore::doctor::{Counts, Finding, Severity, Told};
use foreshore::store::{Backend, OpenError, Redb, RedbOptions};
use serde::Serialize;

use crate::args::DoctorArgs;
use crate::config::Config;
use crate::failure::{Code, Failure};
use crate::output::{Output, count, plain, size};
use crate::progress::Progress;

/// What was found.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// The data directory.
    pub data: String,
    /// Whether nothing is damaged.
    pub healthy: bool,
    /// Whether the store could be opened.
    pub opened: bool,
    /// Damage, counted.
    pub damaged: u64,
    /// Things worth knowing, counted.
    pub notices: u64,
    /// The first findings.
    pub findings: Vec<Line>,
    /// What was looked at.
    pub counts: Looked,
    /// Bytes that the store occupies.
    pub allocated_bytes: u64,
}

/// One finding.
#[derive(Debug, Serialize)]
pub struct Line {
    /// `damage` or `notice`.
    pub severity: &'static str,
    /// Which part of the store.
    pub table: &'static str,
    /// Where in it.
    pub at: String,
    /// What is wrong.
    pub what: String,
}

/// What was looked at.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs, reason = "named by what they count")]
pub struct Looked {
    pub spaces: u64,
    pub facts: u64,
    pub documents: u64,
    pub changes: u64,
    pub change_bytes: u64,
    pub hidden_changes: u64,
    pub endorsements: u64,
    pub roots: u64,
}

impl From<Counts> for Looked {
    fn from(counts: Counts) -> Self {
        Self {
            spaces: counts.spaces,
            facts: counts.facts,
            documents: counts.documents,
            changes: counts.changes,
            change_bytes: counts.change_bytes,
            hidden_changes: counts.hidden,
            endorsements: counts.endorsements,
            roots: counts.roots,
        }
    }
}

impl Report {
    fn add(&mut self, limit: usize, line: Line) {
        match line.severity {
            "damage" => self.damaged += 1,
            _ => self.notices += 1,
        }
        if self.findings.len() < limit {
            self.findings.push(line);
        }
    }

    fn damage(&mut self, limit: usize, table: &'static str, what: impl ToString) {
        let at = self.data.clone();
        self.add(limit, Line { severity: "damage", table, at, what: what.to_string() });
    }

    /// For people.
    fn text(&self) -> String {
        let mut lines: Vec<String> = self
            .findings
            .iter()
            .map(|f| format!("{:<7} {}: {}: {}", f.severity, f.table, plain(&f.at), plain(&f.what)))
            .collect();
        let hidden = (self.damaged + self.notices).saturating_sub(self.findings.len() as u64);
        if hidden > 0 {
            lines.push(format!("… and {hidden} more; see --limit"));
        }
        let c = &self.counts;
        lines.push(format!(
            "{}, {} ({}), {}, {}, {}; {} on disk",
            count(c.documents, "document"),
            count(c.changes, "change"),
            size(c.change_bytes),
            count(c.endorsements, "endorsement"),
            count(c.facts, "fact"),
            count(c.roots, "root"),
            size(self.allocated_bytes)
        ));
        lines.push(match (self.healthy, self.opened) {
            (true, _) => "healthy".into(),
            (false, true) => format!("{} damaged", self.damaged),
            (false, false) => "the store does not open".into(),
        });
        lines.join("\n")
    }
}

/// Carries out the command.
pub(crate) async fn command(config: &Config, out: Output, args: &DoctorArgs) -> Result<(), Failure> {
    let directory = config.data.value.clone();
    if !directory.join("store.redb").exists() {
        return Err(Failure::new(Code::NotFound, format_args!("no store in {}", directory.display()))
            .hint("name its directory by --data"));
    }
    let progress = Progress::start("checking");
    let (quick, compact, limit) = (args.quick, args.compact, args.limit);
    let done = progress.counter("changes");
    let checked = tokio::task::spawn_blocking(move || examine(&directory, quick, compact, limit, &done)).await;
    drop(progress);
    let report = checked.map_err(|e| Failure::new(Code::Failed, e))??;
    out.value(&report, Report::text)?;
    match report.healthy {
        true => Ok(()),
        false => Err(Failure::new(Code::Damaged, format_args!("{} is damaged", config.data.value.display())).hint(
            "what other peers hold can be fetched again: move the directory away and join anew; keep it for what only it has",
        )),
    }
}

/// Looks at everything. An error means that there was nothing to look at; damage is in the report.
///
/// `quick` leaves the checksums of pages out; `compact` packs the file of a store that is not damaged; `done` is told how
/// many changes have been looked at.
pub fn examine(
    directory: &Path,
    quick: bool,
    compact: bool,
    limit: usize,
    done: &dyn Fn(u64),
) -> Result<Report, Failure> {
    let mut report = Report { data: directory.display().to_string(), ..Report::default() };
    let mut store = match Redb::open_with(directory, RedbOptions::new()) {
        Ok(store) => store,
        Err(OpenError::Corrupt { detail }) => {
            report.damage(limit, "file", detail);
            return Ok(report);
        }
        Err(error) => return Err(crate::service::open_failure(&error)),
    };
    report.opened = true;
    if !quick && let Err(failure) = store.check() {
        report.damage(limit, "file", failure);
    }
    let mut each = |told| match told {
        Told::Finding(finding) => report.add(limit, line(finding)),
        Told::Progress(changes) => done(changes),
    };
    match foreshore::doctor::check(&store, &mut each) {
        Ok(counts) => report.counts = counts.into(),
        Err(failure) => report.damage(limit, "file", failure),
    }
    report.healthy = report.damaged == 0;
    if compact && report.healthy {
        store.compact().map_err(|e| Failure::new(Code::Store, format_args!("packing: {e}")))?;
    }
    report.allocated_bytes = store.allocated_bytes();
    Ok(report)
}

fn line(finding: Finding) -> Line {
    let severity = if finding.severity == Severity::Damage { "damage" } else { "notice" };
    Line { severity, table: finding.table.name(), at: finding.at, what: finding.what }
}
