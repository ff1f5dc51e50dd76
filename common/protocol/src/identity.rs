//! The identities of a broker's connections.

use std::borrow::Borrow;

use crate::Bytes;

/// The routing id that libzmq gives to a connection of a ROUTER.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity(pub Bytes);

impl Borrow<[u8]> for Identity {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}
