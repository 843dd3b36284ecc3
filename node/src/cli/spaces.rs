//! space, invite, join, members, peers, status.

use std::io::Write as _;
use std::path::Path;

use serde::Serialize;

use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

use super::{Context, argument_or_stdin, item};
use crate::args::{Expiry, InviteArgs, JoinArgs, SpaceCommand};
use crate::failure::{Code, Failure};
use crate::output::{count, plain, short, size, table, time};
use crate::request::{Invitation, Member, Neighbour, Request, RootKeyLine, SpaceLine, Status};
use crate::service::Opening;

/// Longest invitation that is read.
const MAX_INVITATION: u64 = 16 << 10;

pub(super) async fn space(context: &Context, command: Option<SpaceCommand>) -> Result<(), Failure> {
    let line = |space: &SpaceLine| vec![plain(&space.name), space.id.clone(), count(space.documents, "document")];
    match command {
        None | Some(SpaceCommand::List) => {
            let spaces: Vec<SpaceLine> = context.answer(Request::Spaces, Opening::Existing).await?;
            context.out.value(&spaces, |spaces| table(&spaces.iter().map(line).collect::<Vec<_>>()))
        }
        Some(SpaceCommand::Create { name }) => {
            let space: SpaceLine = context.answer(Request::CreateSpace { name }, Opening::Create).await?;
            context.out.value(&space, |space| table(&[line(space)]))
        }
        Some(SpaceCommand::RootKey { file }) => save_root_key(context, &file).await,
    }
}

/// Into a file and nowhere else: neither a terminal nor a pipe keeps a secret.
async fn save_root_key(context: &Context, file: &Path) -> Result<(), Failure> {
    let key: RootKeyLine = context.answer(Request::RootKey { space: context.space() }, Opening::Existing).await?;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(file).and_then(|mut to| {
        writeln!(to, "{}", key.root_key)?;
        to.sync_all()
    });
    written
        .map_err(|error| Failure::new(Code::Failed, format_args!("{} cannot be written: {error}", file.display())))?;
    let saved = RootKeySaved { space: key.space, file: file.display().to_string() };
    context.out.value(&saved, |saved| format!("the root key of {} is in {}", saved.space, plain(&saved.file)))
}

/// Where a root key was saved to.
#[derive(Serialize)]
struct RootKeySaved {
    space: String,
    file: String,
}

pub(super) async fn invite(context: &Context, args: InviteArgs) -> Result<(), Failure> {
    if !(args.print || context.out.json || context.out.is_terminal()) {
        return Err(Failure::new(Code::Invalid, "an invitation is a secret, and the output is not a terminal")
            .hint("--print or --json prints it all the same"));
    }
    let expires_seconds = match args.expires {
        Expiry::Never => None,
        Expiry::After(time) => Some(time.as_secs()),
    };
    let request = Request::Invite {
        space: context.space(),
        role: args.role.name().into(),
        prefix: args.prefix,
        expires_seconds,
        addresses: args.address,
    };
    let invitation: Invitation = context.answer(request, Opening::Existing).await?;
    let code = context.out.is_terminal() && !args.no_qr;
    context.out.value(&invitation, |i| {
        let mut text = String::new();
        if let Some(code) = code.then(|| QrCode::new(i.link.as_bytes()).ok()).flatten() {
            text += &code.render::<Dense1x2>().quiet_zone(true).build();
            text.push('\n');
        }
        text + &i.link
    })?;
    if !context.out.json && context.out.is_terminal() {
        let until = invitation.expires_at.map_or("for ever".into(), |at| format!("until {}", time(at)));
        eprintln!("{} on {} {until}. Whoever has it may use it.", invitation.role, plain(&invitation.prefix));
    }
    Ok(())
}

pub(super) async fn join(context: &Context, args: JoinArgs) -> Result<(), Failure> {
    let invitation = argument_or_stdin(args.invitation, "invitation", MAX_INVITATION)?.trim().to_owned();
    let space: SpaceLine = context.answer(Request::Join { invitation, name: args.name }, Opening::Create).await?;
    context.out.value(&space, |s| format!("joined {} ({})", plain(&s.name), s.id))
}

pub(super) async fn members(context: &Context) -> Result<(), Failure> {
    let mut rows = Vec::new();
    let request = Request::Members { space: context.space() };
    let _: serde_json::Value = context
        .items(request, |line| {
            let member: Member = item(line)?;
            if context.out.json {
                return context.out.value(&member, |_| String::new());
            }
            for role in &member.roles {
                rows.push(vec![
                    member.device.clone(),
                    role.role.clone(),
                    plain(&role.prefix),
                    role.not_after.map_or_else(|| "-".into(), |at| format!("until {}", time(at))),
                    if member.me { "this device".into() } else { String::new() },
                ]);
            }
            Ok(())
        })
        .await?;
    if rows.is_empty() { Ok(()) } else { context.out.line(&table(&rows)) }
}

pub(super) async fn peers(context: &Context) -> Result<(), Failure> {
    let peers: Vec<Neighbour> = context.answer(Request::Peers, Opening::Existing).await?;
    context.out.value(&peers, |peers| match peers.is_empty() {
        true => "no peer is connected".into(),
        false => table(&peers.iter().map(neighbour).collect::<Vec<_>>()),
    })
}

fn neighbour(peer: &Neighbour) -> Vec<String> {
    vec![
        short(&peer.peer),
        if peer.in_step { "in step".into() } else { "catching up".into() },
        format!("sent {}", size(peer.bytes_sent)),
        format!("received {}", size(peer.bytes_received)),
        count(peer.round_trips, "round trip"),
        if peer.relayed { "relayed".into() } else { "direct".into() },
        peer.address.as_deref().map(plain).unwrap_or_default(),
    ]
}

pub(super) async fn status(context: &Context) -> Result<(), Failure> {
    let status: Status = context.answer(Request::Status, Opening::Existing).await?;
    context.out.value(&status, |s| {
        let mut rows = vec![
            vec!["peer".into(), s.peer.clone()],
            vec!["device".into(), s.device.clone()],
            vec!["data".into(), format!("{} ({} on disk)", plain(&s.data), size(s.storage_bytes))],
            vec!["process".into(), format!("{}, up {} s, {}", s.pid, s.uptime_seconds, size(s.resident_bytes))],
        ];
        rows.extend(s.listen.iter().map(|address| vec!["listen".into(), plain(address)]));
        rows.extend(s.http.iter().map(|address| vec!["http".into(), plain(address)]));
        rows.extend(s.zookeeper.iter().map(|address| vec!["zookeeper".into(), plain(address)]));
        rows.extend(s.automerge_repo.iter().map(|address| vec!["automerge-repo".into(), plain(address)]));
        for space in &s.spaces {
            let (documents, members) = (count(space.documents, "document"), count(space.members, "member"));
            let counts = format!("{documents}, {members}, {} pending", space.pending);
            rows.push(vec!["space".into(), format!("{} ({}): {counts}", plain(&space.name), short(&space.id))]);
            rows.push(vec![String::new(), super::voters::in_short(&space.strong)]);
        }
        rows.push(vec!["hot".into(), format!("{}, {}", count(s.hot_documents, "document"), size(s.hot_bytes))]);
        for peer in &s.peers {
            rows.push(vec!["link".into(), neighbour(peer).join("  ")]);
        }
        rows.extend(s.trouble.iter().map(|trouble| vec!["trouble".into(), plain(trouble)]));
        table(&rows)
    })
}
