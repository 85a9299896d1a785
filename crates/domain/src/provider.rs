//! The ports, together: what every decision that touches the outside is given.

use std::sync::Arc;

use crate::client_assertion::Assertions;
use crate::device_polls::DevicePolls;
use crate::ports::{Audit, Clock, Devices, Entropy, Revocations, Sessions};
use crate::registry::Registry;

/// The provider's view of the outside. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Provider {
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// The session store.
    pub sessions: Arc<dyn Sessions>,
    /// The devices that wait for their users.
    pub devices: Arc<dyn Devices>,
    /// How often they poll.
    pub polls: Arc<DevicePolls>,
    /// Known revocations.
    pub revocations: Arc<dyn Revocations>,
    /// Clients that registered themselves.
    pub registry: Arc<dyn Registry>,
    /// Who hears of it.
    pub audit: Arc<dyn Audit>,
    /// What clients signed to prove themselves, and was used up by that.
    pub assertions: Arc<Assertions>,
}

impl Provider {
    /// An unpredictable identifier: 128 bits as 22 base64url characters.
    pub fn random_id(&self) -> String {
        let mut bytes = [0; 16];
        self.entropy.fill(&mut bytes);
        data_encoding::BASE64URL_NOPAD.encode(&bytes)
    }
}
