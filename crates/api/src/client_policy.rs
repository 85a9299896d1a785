//! What an OAuth2Client demands of requests, and what it may ask: one enum a choice.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether a code challenge must be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Pkce {
    /// Without one the request is refused.
    Required,
    /// It is checked if it is sent.
    Optional,
}

/// Whether tokens must be bound to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Dpop {
    /// Without a proof of possession there is no token.
    Required,
    /// They are bound if there is a proof.
    Optional,
}

/// Whether an authorization request must be pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PushedAuthorizationRequests {
    /// One that was not is refused.
    Required,
    /// It may be.
    Optional,
}

/// Whether users are asked before a client learns who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ClientConsent {
    /// They are asked.
    Required,
    /// They are not.
    Skip,
}

/// Which tokens a client may ask about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ClientIntrospection {
    /// None.
    Forbidden,
    /// Those that were given to itself.
    OwnTokens,
    /// Every access token of the issuer, and its own refresh tokens.
    AllTokens,
}
