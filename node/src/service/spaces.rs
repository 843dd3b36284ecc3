//! Spaces: list, create, invite, join, members.

use std::time::Duration;

use foreshore::engine::MAX_LIST;
use foreshore::id::Prefix;
use foreshore::peer::SpaceInfo;
use foreshore::trust::{self, Role};

use super::{Service, give, refused};
use crate::control::Items;
use crate::failure::{Code, Failure};
use crate::request::{Invitation, Member, MemberRole, RootKeyLine, SpaceLine};

impl Service {
    pub(super) async fn spaces(&self) -> Result<Vec<SpaceLine>, Failure> {
        let spaces = self.peer().spaces().await.map_err(refused)?;
        Ok(spaces.iter().map(line).collect())
    }

    pub(super) async fn create_space(&self, name: String) -> Result<SpaceLine, Failure> {
        let space = self.peer().create_space(name).await.map_err(refused)?;
        self.line_of(&space.id().to_bech32()).await
    }

    pub(super) async fn join(&self, invitation: &str, name: Option<String>) -> Result<SpaceLine, Failure> {
        let joined = match name {
            Some(name) => self.peer().join_as(invitation, name).await,
            None => self.peer().join(invitation).await,
        };
        let space = joined.map_err(refused)?;
        self.line_of(&space.id().to_bech32()).await
    }

    pub(super) async fn root_key(&self, space: &str) -> Result<RootKeyLine, Failure> {
        let space = self.space(space).await?;
        let key = space.root_key().await.map_err(refused)?.ok_or_else(|| {
            Failure::new(Code::NotFound, "this store did not make the space")
                .hint("its root key is where it was made, or where it was saved to")
        })?;
        let root_key = key.seed().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(RootKeyLine { space: space.id().to_bech32(), root_key })
    }

    async fn line_of(&self, id: &str) -> Result<SpaceLine, Failure> {
        let lines = self.spaces().await?;
        let found = lines.into_iter().find(|line| line.id == id);
        found.ok_or_else(|| Failure::new(Code::NotFound, format_args!("this store has no space {id}")))
    }

    pub(super) async fn invite(
        &self,
        space: &str,
        role: &str,
        prefix: &str,
        expires_seconds: Option<u64>,
        addresses: Vec<String>,
    ) -> Result<Invitation, Failure> {
        let given = role;
        let role = match given {
            "reader" => Role::Reader,
            "writer" => Role::Writer,
            "admin" => Role::Admin,
            "voter" => Role::Voter,
            _ => return Err(Failure::invalid("role", "it is reader, writer, admin or voter")),
        };
        let prefix = Prefix::parse(prefix).map_err(|e| Failure::invalid(&format!("prefix {prefix:?}"), e))?;
        for address in &addresses {
            address.parse::<foreshore::peer::Address>().map_err(|e| Failure::invalid("address", e))?;
        }
        let mut invite = self.space(space).await?.invite(role).prefix(&prefix);
        if let Some(seconds) = expires_seconds {
            invite = invite.expires_in(Duration::from_secs(seconds));
        }
        if !addresses.is_empty() {
            invite = invite.addresses(addresses);
        }
        let link = invite.await.map_err(refused)?;
        let expires_at =
            trust::Invitation::parse(&link).ok().and_then(|invitation| invitation.expires()).map(|at| at.0);
        Ok(Invitation { link, role: given.into(), prefix: prefix.to_string(), expires_at })
    }

    pub(super) async fn members(&self, space: &str, items: &Items) -> Result<(), Failure> {
        let space = self.space(space).await?;
        let mut after = None;
        loop {
            let members = space.members(after, MAX_LIST).await.map_err(refused)?;
            after = members.last().map(|member| member.device);
            let full = members.len() == MAX_LIST;
            for member in members {
                let roles = member.roles.iter().zip(&member.grants);
                let roles = roles.map(|((role, prefix, not_after), grant)| MemberRole {
                    role: format!("{role:?}").to_lowercase(),
                    prefix: prefix.to_string(),
                    not_after: not_after.map(|at| at.0),
                    grant: grant.to_string(),
                });
                let line = Member { device: member.device.to_string(), me: member.me, roles: roles.collect() };
                give(items, line).await?;
            }
            if !full {
                return Ok(());
            }
        }
    }
}

fn line(info: &SpaceInfo) -> SpaceLine {
    SpaceLine { name: info.name.clone(), id: info.id.to_bech32(), documents: info.documents, root: info.root }
}
