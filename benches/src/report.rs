//! What a bench found: a table for people, JSON for programs.

use std::path::Path;

use anyhow::Context;
use serde_json::{Map, Value, json};

/// Which way a figure should go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    Lower,
    Higher,
}

#[derive(Debug)]
struct Figure {
    name: String,
    /// `Err`: not measured, and why.
    value: Result<f64, String>,
    unit: &'static str,
    goal: Option<(Better, f64)>,
}

/// The figures of one bench.
#[derive(Debug)]
pub(crate) struct Report {
    bench: String,
    quick: bool,
    figures: Vec<Figure>,
    notes: Vec<String>,
}

impl Report {
    pub(crate) fn new(bench: &str, quick: bool) -> Self {
        Self { bench: bench.into(), quick, figures: Vec::new(), notes: Vec::new() }
    }

    /// A figure without a goal: context for the others.
    pub(crate) fn figure(&mut self, name: &str, value: f64, unit: &'static str) {
        self.figures.push(Figure { name: name.into(), value: Ok(value), unit, goal: None });
    }

    /// A figure that should be at most `goal`.
    pub(crate) fn at_most(&mut self, name: &str, goal: f64, value: f64, unit: &'static str) {
        self.figures.push(Figure { name: name.into(), value: Ok(value), unit, goal: Some((Better::Lower, goal)) });
    }

    /// A figure that should be at least `goal`.
    pub(crate) fn at_least(&mut self, name: &str, goal: f64, value: f64, unit: &'static str) {
        self.figures.push(Figure { name: name.into(), value: Ok(value), unit, goal: Some((Better::Higher, goal)) });
    }

    /// A figure that this run could not take.
    pub(crate) fn missing(&mut self, name: &str, why: impl Into<String>) {
        self.figures.push(Figure { name: name.into(), value: Err(why.into()), unit: "", goal: None });
    }

    /// What a reader of the table has to know about the run.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    pub(crate) fn print(&self) {
        println!("\n{}{}", self.bench, if self.quick { "  (quick: sizes cut by ten, goals do not apply)" } else { "" });
        for figure in &self.figures {
            let Figure { name, unit, .. } = figure;
            match &figure.value {
                Ok(value) => println!("  {name:<40} {:>14} {unit:<8} {}", shown(*value), figure.verdict()),
                Err(why) => println!("  {name:<40} {:>14} {unit:<8} not measured: {why}", "—"),
            }
        }
        self.notes.iter().for_each(|note| println!("  · {note}"));
    }

    /// Writes `BENCH.json` into `directory`.
    pub(crate) fn write(&self, directory: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(directory)?;
        let file = directory.join(format!("{}.json", self.bench));
        let text = serde_json::to_string_pretty(&self.json())?;
        std::fs::write(&file, text + "\n").with_context(|| format!("{} cannot be written", file.display()))?;
        println!("  → {}", file.display());
        Ok(())
    }

    fn json(&self) -> Value {
        let figures: Map<String, Value> = self.figures.iter().map(|f| (f.name.clone(), f.json())).collect();
        let mut report = json!({ "bench": self.bench, "figures": figures });
        if self.quick {
            report["quick"] = true.into();
        }
        if !self.notes.is_empty() {
            report["notes"] = self.notes.clone().into();
        }
        report
    }
}

impl Figure {
    fn verdict(&self) -> String {
        match (self.goal, &self.value) {
            (Some((Better::Lower, goal)), Ok(value)) if *value <= goal => format!("goal ≤ {}: met", shown(goal)),
            (Some((Better::Lower, goal)), _) => format!("goal ≤ {}: MISSED", shown(goal)),
            (Some((Better::Higher, goal)), Ok(value)) if *value >= goal => format!("goal ≥ {}: met", shown(goal)),
            (Some((Better::Higher, goal)), _) => format!("goal ≥ {}: MISSED", shown(goal)),
            (None, _) => String::new(),
        }
    }

    fn json(&self) -> Value {
        let mut figure = match &self.value {
            Ok(value) => json!({ "value": value, "unit": self.unit }),
            Err(why) => json!({ "value": null, "why": why }),
        };
        if let Some((better, goal)) = self.goal {
            figure["goal"] = goal.into();
            figure["better"] = if better == Better::Lower { "lower" } else { "higher" }.into();
        }
        figure
    }
}

/// Four figures, more where they are whole.
fn shown(value: f64) -> String {
    match value.abs() {
        v if v >= 1_000.0 || v.fract() == 0.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 0.01 => format!("{value:.3}"),
        _ => format!("{value:.2e}"),
    }
}
