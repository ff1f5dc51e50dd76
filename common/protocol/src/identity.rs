//! How a broker tells its connections apart.

use std::borrow::Borrow;

use crate::Bytes;

/// A peer of a ROUTER: libzmq's name for one connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity(pub Bytes);

impl Borrow<[u8]> for Identity {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}
