//! services list, watch.

use serde_json::Value as Json;

use super::{Context, item, running_peer};
use crate::args::ServicesCommand;
use crate::failure::Failure;
use crate::output::{plain, short};
use crate::request::{Request, ServiceEvent, ServiceLine};

pub(super) async fn services(context: &Context, command: ServicesCommand) -> Result<(), Failure> {
    running_peer(context, "services").await?;
    let space = context.space();
    let _: Json = match command {
        ServicesCommand::List { name } => {
            context
                .items(Request::Services { space, service: name }, |line| {
                    let line: ServiceLine = item(line)?;
                    context.out.value(&line, human)
                })
                .await?
        }
        ServicesCommand::Watch { name, count } => {
            context
                .items(Request::ServicesWatch { space, service: name, count }, |line| {
                    let line: ServiceEvent = item(line)?;
                    context.out.value(&line, |e| {
                        let whose = if e.mine { "here".to_owned() } else { short(&e.owner) };
                        let meta = meta(&e.metadata);
                        format!("{:<8}{whose:<9} {}  {}{meta}", e.kind, plain(&e.service), plain(&e.endpoint))
                    })
                })
                .await?
        }
        ServicesCommand::Register(_) => Json::Null,
    };
    Ok(())
}

fn human(line: &ServiceLine) -> String {
    let whose = if line.mine { "here".to_owned() } else { short(&line.owner) };
    let away = if line.away { "  away" } else { "" };
    let meta = meta(&line.metadata);
    format!("{whose:<9} {}  {}{meta}{away}", plain(&line.service), plain(&line.endpoint))
}

fn meta(metadata: &std::collections::BTreeMap<String, String>) -> String {
    metadata.iter().map(|(key, value)| format!("  {}={}", plain(key), plain(value))).collect()
}
