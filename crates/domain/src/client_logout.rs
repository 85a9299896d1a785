//! How a client wants to learn that a session of its users is over.

/// What a client said of it. Nothing by default: it is not told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientLogout {
    /// Told by us, server to server (Back-Channel Logout 1.0).
    pub back_channel: Option<BackChannel>,
    /// Told by the user's browser: the page that is shown in a frame (Front-Channel Logout 1.0). Its origin is
    /// that of a redirect URI.
    pub front_channel: Option<String>,
}

/// Where a client is told, and how the session is named to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackChannel {
    /// An https URL, or an http one on loopback.
    pub uri: String,
    /// What a logout token names.
    pub names: Named,
}

/// What a logout token names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// `sid` alone: a token that names no user is nobody's to a kube-apiserver, which does not look at `typ`.
    Session,
    /// `sid` and `sub`, for clients that know their users alone.
    SessionAndUser,
}

impl ClientLogout {
    /// Whether it is told at all: what is known of its sessions is then kept as long as a browser's may last.
    pub fn is_told(&self) -> bool {
        self.back_channel.is_some() || self.front_channel.is_some()
    }
}
