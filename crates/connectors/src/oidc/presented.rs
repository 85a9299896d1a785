//! ID tokens that the provider made for applications of its own, brought here to be exchanged.
//!
//! What always holds: every audience of a token, and who has it, is one that the administrator lists with the client that
//! brings it; it is signed by an asymmetric key of the provider, is not expired, and is no access token, no logout token and
//! bound to no key.

use async_trait::async_trait;
use claviger_domain::connector::Authenticated;
use claviger_domain::upstream_token::{Presented, PresentedError, UpstreamTokens};
use claviger_jose::Claims;
use claviger_jose::verify::audiences;
use serde_json::Value;

use super::signed::SignedError;
use super::{Provider, claims};

/// Longest token, in bytes.
const MAX_TOKEN: usize = 16 * 1024;

#[async_trait]
impl UpstreamTokens for Provider {
    async fn believe(
        &self,
        id_token: &str,
        client: &str,
        now: i64,
    ) -> Result<Presented, PresentedError> {
        if id_token.len() > MAX_TOKEN {
            return Err(refused("it is longer than 16 KiB"));
        }
        // Every audience is looked at.
        let said = self.believed(id_token, (None, None), now).await.map_err(disbelief)?;
        self.check(&said, client)?;
        let identity = claims::identity(&said, &self.spec.claims, self.spec.email_verification);
        let identity = identity.map_err(PresentedError::Refused)?;
        let time = |name| said.get(name).and_then(Value::as_i64);
        let expires_at = time("exp").ok_or_else(|| refused("exp is no whole number"))?;
        if now >= expires_at {
            return Err(refused("it has expired (exp)"));
        }
        let amr = said.get("amr").and_then(Value::as_array).into_iter().flatten();
        let amr = amr.filter_map(Value::as_str).map(str::to_owned).collect();
        let made = time("auth_time").or_else(|| time("iat"));
        let time = made.ok_or_else(|| refused("iat is no whole number"))?;
        let authenticated = Authenticated { identity, raw: said, data: None };
        let reached_acr = !self.spec.acr_values.is_empty(); // or it would have been refused
        Ok(Presented { authenticated, time, amr, reached_acr, expires_at })
    }
}

impl Provider {
    /// Whether a client here may bring the tokens of an application there.
    fn may_bring(&self, client: &str, application: &str) -> bool {
        let listed = self.spec.token_exchange.iter().flat_map(|exchange| &exchange.audiences);
        let mut listed = listed.filter(|audience| audience.name == application);
        listed.any(|audience| audience.clients.iter().any(|known| known == client))
    }

    /// Whom it is for, and that it is an ID token.
    fn check(&self, said: &Claims, client: &str) -> Result<(), PresentedError> {
        let audiences = audiences(said).map_err(|error| refused(&error.to_string()))?;
        let presenter = match said.get("azp") {
            None => None,
            Some(azp) => Some(azp.as_str().ok_or_else(|| refused("azp is no text"))?),
        };
        let mut parties = audiences.iter().copied().chain(presenter);
        if audiences.is_empty() || !parties.all(|party| self.may_bring(client, party)) {
            return Err(refused(
                "its aud and azp must all be in the connector's tokenExchange.audiences, each with this client",
            ));
        }
        if said.contains_key("cnf") {
            return Err(refused(
                "it is bound to a key (cnf): what it is exchanged for would not be",
            ));
        }
        let of_another_kind = ["events", "scope", "scp", "client_id"];
        if of_another_kind.into_iter().any(|claim| said.contains_key(claim))
            || said.get("typ").is_some_and(|typ| typ != "ID")
            || said.get("token_use").is_some_and(|used| used != "id")
        {
            return Err(refused("it is no ID token"));
        }
        let wanted = &self.spec.acr_values;
        let reached = said.get("acr").and_then(Value::as_str);
        if wanted.is_empty() || reached.is_some_and(|acr| wanted.iter().any(|one| one == acr)) {
            return Ok(());
        }
        Err(refused("its acr is none of the connector's acrValues"))
    }
}

fn disbelief(error: SignedError) -> PresentedError {
    match error {
        SignedError::Unavailable(error) => PresentedError::Unavailable(error.to_string()),
        // Whoever brings it is at fault, or may bring it again.
        refused => PresentedError::Refused(refused.to_string()),
    }
}

fn refused(why: &str) -> PresentedError {
    PresentedError::Refused(why.to_owned())
}
