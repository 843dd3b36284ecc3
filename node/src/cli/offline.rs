//! Commands that need no peer: config, completions.

use clap::CommandFactory;
use serde_json::json;

use super::Context;
use crate::args::Cli;
use crate::failure::Failure;
use crate::output::{Output, plain, table};

pub(super) fn config(context: &Context) -> Result<(), Failure> {
    let settings: serde_json::Map<_, _> =
        context.config.raw.iter().map(|(key, setting)| (key.name.to_owned(), json!(setting))).collect();
    let whole = json!({ "file": context.config.file, "settings": settings });
    context.out.value(&whole, |_| {
        let row = |(key, setting): &(&'static crate::config::Key, crate::config::Setting<crate::config::Raw>)| {
            vec![key.name.to_owned(), plain(&setting.value.to_string()), format!("({})", setting.source)]
        };
        table(&context.config.raw.iter().map(row).collect::<Vec<_>>())
    })
}

pub(super) fn completions(shell: clap_complete::Shell, out: Output) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "foreshore", &mut script);
    out.line(String::from_utf8_lossy(&script).trim_end())
}
