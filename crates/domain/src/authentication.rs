//! When and how a user proved who they are (OIDC Core 2: `auth_time`, `acr`, `amr`).

use serde::{Deserialize, Serialize};

use crate::connector::{Connector, Login};

/// The method that nearly every sign-in is by (RFC 8176 2).
const PASSWORD: &str = "pwd";

/// One authentication of one user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct Authentication {
    /// When, in seconds since the Unix epoch.
    pub time: i64,
    /// The class its connector's administrator vouches for.
    pub acr: Option<String>,
    /// The methods (RFC 8176), where they are known.
    pub amr: Vec<String>,
}

impl Authentication {
    /// A sign-in at this connector, now.
    pub fn at(connector: &Connector, now: i64) -> Self {
        let amr = match connector.login {
            Login::Password(_) => vec![PASSWORD.to_owned()],
            // How is the affair of the proxy or the upstream; what is unknown here is not said.
            Login::Proxy(_) | Login::Redirect(_) => Vec::new(),
        };
        Self { time: now, acr: connector.acr.clone(), amr }
    }
}

/// As it is stored, in every session: a sign-in by password and no class is its time alone.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Stored {
    Password(i64),
    Any(i64, Vec<String>, Option<String>),
}

impl From<Stored> for Authentication {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::Password(time) => Self { time, acr: None, amr: vec![PASSWORD.to_owned()] },
            Stored::Any(time, amr, acr) => Self { time, acr, amr },
        }
    }
}

impl From<Authentication> for Stored {
    fn from(authentication: Authentication) -> Self {
        let Authentication { time, acr, amr } = authentication;
        if acr.is_none() && amr == [PASSWORD] {
            Self::Password(time)
        } else {
            Self::Any(time, amr, acr)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_comes_back_and_a_password_is_a_time() {
        let password = Authentication { time: 7, acr: None, amr: vec!["pwd".into()] };
        let others = [
            Authentication { acr: Some("gold".into()), ..password.clone() },
            Authentication { amr: Vec::new(), ..password.clone() },
            Authentication { amr: vec!["pwd".into(), "otp".into()], ..password.clone() },
        ];
        assert_eq!(serde_json::to_string(&password).unwrap(), "7");
        for authentication in others.into_iter().chain([password]) {
            let json = serde_json::to_vec(&authentication).unwrap();
            assert_eq!(serde_json::from_slice::<Authentication>(&json).unwrap(), authentication);
            let packed = rmp_serde::to_vec_named(&authentication).unwrap();
            assert_eq!(rmp_serde::from_slice::<Authentication>(&packed).unwrap(), authentication);
        }
    }
}
