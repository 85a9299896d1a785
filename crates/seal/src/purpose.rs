//! What a subkey is for, and which ring its keys are in. Each purpose has its own subkey, so nothing
//! made for one is good for another.

use std::fmt;

/// One of the two rings of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RingKind {
    /// For what lives as long as a session: rotated slowly, kept for the longest of them.
    Long,
    /// For what lives minutes: rotated daily, and destroyed as soon as what they sealed is past.
    Short,
}

impl RingKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Long, Self::Short];

    /// The word that stands in the Secret, in messages and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Long => "long",
            Self::Short => "short",
        }
    }
}

impl fmt::Display for RingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What something is sealed or authenticated for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// An authorization request on its way through login (cookie).
    Flow,
    /// An authorization code.
    Code,
    /// The grant a consent form sends back.
    Consent,
    /// An authorization request that a client pushed.
    PushedRequest,
    /// A nonce for proofs of possession.
    DpopNonce,
    /// What a device asked for, in its stored authorization.
    DeviceRequest,
    /// What a device's user granted, in the same.
    DeviceGrant,
    /// Who signed in at the device page (form).
    DeviceSignIn,
    /// An access token.
    AccessToken,
    /// The authoritative part of a stored session.
    SessionPayload,
    /// The authoritative part of a stored browser session.
    BrowserPayload,
    /// What names a browser's session (cookie).
    BrowserTicket,
    /// Where a browser's user signed in, where that is no session here (cookie).
    UpstreamTicket,
    /// What a browser remembers of its user's consent (cookie).
    Consents,
    /// The MAC of refresh tokens.
    RefreshMac,
    /// The MAC of form tokens against cross-site requests.
    Csrf,
    /// The MAC of device codes.
    DeviceCodeMac,
    /// The MAC that users' codes for devices are known by.
    UserCodeMac,
    /// The MAC that addresses of devices are known by.
    DeviceSourceMac,
}

impl Purpose {
    /// Every purpose, in the order of declaration.
    pub const ALL: [Self; 19] = [
        Self::Flow,
        Self::Code,
        Self::Consent,
        Self::PushedRequest,
        Self::DpopNonce,
        Self::DeviceRequest,
        Self::DeviceGrant,
        Self::DeviceSignIn,
        Self::AccessToken,
        Self::SessionPayload,
        Self::BrowserPayload,
        Self::BrowserTicket,
        Self::UpstreamTicket,
        Self::Consents,
        Self::RefreshMac,
        Self::Csrf,
        Self::DeviceCodeMac,
        Self::UserCodeMac,
        Self::DeviceSourceMac,
    ];

    /// The word that stands in subkey derivation and associated data. Never changes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Flow => "flow",
            Self::Code => "code",
            Self::Consent => "consent",
            Self::PushedRequest => "pushed-request",
            Self::DpopNonce => "dpop-nonce",
            Self::DeviceRequest => "device-request",
            Self::DeviceGrant => "device-grant",
            Self::DeviceSignIn => "device-sign-in",
            Self::AccessToken => "access-token",
            Self::SessionPayload => "session-payload",
            Self::BrowserPayload => "browser-payload",
            Self::BrowserTicket => "browser-ticket",
            Self::UpstreamTicket => "upstream-ticket",
            Self::Consents => "consents",
            Self::RefreshMac => "refresh-mac",
            Self::Csrf => "csrf",
            Self::DeviceCodeMac => "device-code-mac",
            Self::UserCodeMac => "user-code-mac",
            Self::DeviceSourceMac => "device-source-mac",
        }
    }

    /// The ring whose keys seal this. What is sealed by the short one must be past within minutes:
    /// its keys do not wait for it.
    pub fn ring(self) -> RingKind {
        match self {
            Self::Flow
            | Self::Code
            | Self::Consent
            | Self::PushedRequest
            | Self::DpopNonce
            | Self::DeviceRequest
            | Self::DeviceGrant
            | Self::DeviceSignIn
            | Self::DeviceCodeMac
            | Self::UserCodeMac
            | Self::DeviceSourceMac
            | Self::Csrf => RingKind::Short,
            Self::AccessToken
            | Self::SessionPayload
            | Self::BrowserPayload
            | Self::BrowserTicket
            | Self::UpstreamTicket
            | Self::Consents
            | Self::RefreshMac => RingKind::Long,
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lives_minutes_is_sealed_by_keys_that_live_days() {
        let short = Purpose::ALL.into_iter().filter(|purpose| purpose.ring() == RingKind::Short);
        let short: Vec<Purpose> = short.collect();
        let minutes = [
            Purpose::Flow,
            Purpose::Code,
            Purpose::Consent,
            Purpose::PushedRequest,
            Purpose::DpopNonce,
            Purpose::DeviceRequest,
            Purpose::DeviceGrant,
            Purpose::DeviceSignIn,
            Purpose::Csrf,
            Purpose::DeviceCodeMac,
            Purpose::UserCodeMac,
            Purpose::DeviceSourceMac,
        ];
        assert_eq!(short, minutes);
    }
}
