//! At whose door a user signs in: a client's, or that of the page where they let a device in. There it is not
//! known yet which client's device it is: its policy is asked once they have said its code, and a client that
//! wants sign-ins of its own gets one then.

use crate::browser_session::Sharing;
use crate::client::{Client, Grant};
use crate::connector::Connector;
use crate::flow::Flow;
use crate::issuer::Issuer;
use crate::login::{StepError, client_of};

/// What the sign-in page calls the device page.
const DEVICE_PAGE: &str = "your device";

/// At whose door a flow's user is.
#[derive(Debug, Clone, Copy)]
pub enum Door<'i> {
    /// A client's.
    Client(&'i Client),
    /// The device page's.
    DevicePage {
        /// Whether the sign-in is to be one of its own.
        separate: bool,
    },
}

impl<'i> From<&'i Client> for Door<'i> {
    fn from(client: &'i Client) -> Self {
        Self::Client(client)
    }
}

impl<'i> Door<'i> {
    /// The flow's, if it may still be used.
    ///
    /// # Errors
    /// [`StepError::NoClient`].
    pub fn of(issuer: &'i Issuer, flow: &Flow) -> Result<Self, StepError> {
        if flow.device.is_none() {
            return client_of(issuer, flow).map(Self::Client);
        }
        let offered = issuer.grants.contains(&Grant::DeviceCode);
        if offered {
            Ok(Self::DevicePage { separate: flow.separate })
        } else {
            Err(StepError::NoClient)
        }
    }

    /// What the pages call it.
    pub fn name(self) -> &'i str {
        match self {
            Self::Client(client) => &client.display_name,
            Self::DevicePage { .. } => DEVICE_PAGE,
        }
    }

    /// Whether a sign-in here begins, and goes on with, the browser's session.
    pub fn shares(self) -> bool {
        match self {
            Self::Client(client) => client.sharing == Sharing::Shared,
            Self::DevicePage { separate } => !separate,
        }
    }

    /// Whether users may sign in here with this connector.
    pub fn admits(self, connector: &Connector) -> bool {
        match self {
            Self::Client(client) => client.admits(connector),
            Self::DevicePage { .. } => true,
        }
    }

    /// Whether an authentication of this class is enough here.
    pub fn allows_acr(self, acr: Option<&str>) -> bool {
        match self {
            Self::Client(client) => client.allows_acr(acr),
            Self::DevicePage { .. } => true,
        }
    }
}
