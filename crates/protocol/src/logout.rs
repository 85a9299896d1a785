//! `/logout` (OpenID Connect RP-Initiated Logout 1.0 section 2): what an application asks when its user signs out.

use std::fmt;

use url::form_urlencoded;

use crate::error::ErrorResponse;
use crate::form::Params;

const MAX_ID_TOKEN_HINT: usize = 16 * 1024;
const MAX_CLIENT_ID: usize = 512;
const MAX_REDIRECT_URI: usize = 2_048;
const MAX_STATE: usize = 512;
/// Longest `state` that is a whole request of ours, on its way back from an upstream.
const MAX_RETURNING: usize = 8 * 1024;
/// What such a one begins with.
const RETURNING: &str = "return?";

/// A request to sign a user out. Nothing of it is required.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct LogoutRequest {
    /// `id_token_hint`: whom, and at which client.
    pub id_token_hint: Option<String>,
    /// `client_id`.
    pub client_id: Option<String>,
    /// `post_logout_redirect_uri`: where the user goes afterwards.
    pub post_logout_redirect_uri: Option<String>,
    /// `state`, for that address.
    pub state: Option<String>,
}

/// Names of the parameters alone: whoever has the hint can end its session's sign-in.
impl fmt::Debug for LogoutRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogoutRequest")?;
        f.debug_set().entries(self.fields().iter().map(|(name, _)| *name)).finish()
    }
}

impl LogoutRequest {
    /// Reads a request; unknown parameters, `logout_hint` and `ui_locales` among them, are ignored. One that an upstream
    /// brings back in its `state` alone says what that says, which anybody could have said at once.
    ///
    /// # Errors
    /// `invalid_request` for what is too long.
    pub fn parse(params: &Params) -> Result<Self, ErrorResponse> {
        let state = params.get("state").unwrap_or_default();
        let is_alone = params.get("post_logout_redirect_uri").is_none();
        match state.strip_prefix(RETURNING).filter(|_| is_alone && state.len() <= MAX_RETURNING) {
            Some(query) => Self::read(&Params::parse(query.as_bytes())?),
            None => Self::read(params),
        }
    }

    /// What an upstream is to bring back in `state`, of this query of a request of ours.
    pub fn returning(query: &str) -> String {
        format!("{RETURNING}{query}")
    }

    fn read(params: &Params) -> Result<Self, ErrorResponse> {
        Ok(Self {
            id_token_hint: params.bounded("id_token_hint", MAX_ID_TOKEN_HINT)?,
            client_id: params.bounded("client_id", MAX_CLIENT_ID)?,
            post_logout_redirect_uri: params
                .bounded("post_logout_redirect_uri", MAX_REDIRECT_URI)?,
            state: params.bounded("state", MAX_STATE)?,
        })
    }

    /// The request as a query.
    pub fn query(&self) -> String {
        form_urlencoded::Serializer::new(String::new()).extend_pairs(self.fields()).finish()
    }

    /// The request as the fields of a form.
    pub fn fields(&self) -> Vec<(&'static str, &str)> {
        [
            ("id_token_hint", &self.id_token_hint),
            ("client_id", &self.client_id),
            ("post_logout_redirect_uri", &self.post_logout_redirect_uri),
            ("state", &self.state),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.as_deref()?)))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_again_and_the_rest_is_ignored() {
        let query = b"id_token_hint=ey&client_id=web&post_logout_redirect_uri=https://a/&state=s&logout_hint=x";
        let request = LogoutRequest::parse(&Params::parse(query).unwrap()).unwrap();
        assert_eq!(request.fields().len(), 4);
        let again = LogoutRequest::parse(&Params::parse(request.query().as_bytes()).unwrap());
        let again = again.unwrap();
        assert_eq!(again, request);
        let long = format!("state={}", "s".repeat(MAX_STATE + 1));
        assert!(LogoutRequest::parse(&Params::parse(long.as_bytes()).unwrap()).is_err());
        assert_eq!(LogoutRequest::parse(&Params::default()).unwrap(), LogoutRequest::default());
    }

    #[test]
    fn a_request_comes_back_in_the_state_of_an_upstream_alone_and_once() {
        let request = LogoutRequest {
            client_id: Some("web".into()),
            post_logout_redirect_uri: Some("https://a/?b=c&d".into()),
            state: Some("return?client_id=other".into()),
            ..LogoutRequest::default()
        };
        let read = |pairs: &[(&str, &str)]| {
            let query =
                form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
            LogoutRequest::parse(&Params::parse(query.as_bytes()).unwrap())
        };
        let state = LogoutRequest::returning(&request.query());
        assert_eq!(read(&[("state", &state)]).unwrap(), request, "its own state is left alone");
        let beside =
            read(&[("state", "return?client_id=x"), ("post_logout_redirect_uri", "https://a/")]);
        assert_eq!(beside.unwrap().client_id, None, "an application's own");
        let long = LogoutRequest::returning(&"s".repeat(MAX_RETURNING));
        assert!(read(&[("state", &long)]).is_err());
    }

    #[test]
    fn a_request_prints_names_and_no_hint() {
        let request =
            LogoutRequest { id_token_hint: Some("ey.s3cret".into()), ..LogoutRequest::default() };
        assert_eq!(format!("{request:?}"), r#"LogoutRequest{"id_token_hint"}"#);
    }
}
