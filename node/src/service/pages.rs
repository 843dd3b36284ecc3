//! How pages find and enter the space of this peer.

use foreshore::trust::Role;

use super::{Service, refused};
use crate::failure::Failure;
use crate::http::{Door, Doors, GRANT_LIFE};

impl Doors for Service {
    async fn door(&self, grant: bool) -> Result<Door, Failure> {
        let space = self.space("").await?;
        let listen = self.peer().listen_addresses();
        let peers: Vec<String> =
            listen.iter().map(ToString::to_string).filter(|address| address.contains("/ws")).collect();
        let grant = match grant {
            true => {
                let invite = space.invite(Role::Writer).expires_in(GRANT_LIFE).addresses(peers.clone());
                Some(invite.await.map_err(refused)?)
            }
            false => None,
        };
        let relay = self.peer().status().await.map_err(refused)?.network.serves_relay;
        Ok(Door { space: space.id().to_bech32(), peers, relay, grant })
    }
}
