//! How we show a provider who we are (OIDC Core 9, RFC 6749 2.3, RFC 7523 2.2).
//!
//! What always holds: a signed assertion is for one provider, lives a minute, and no two are alike; a key signs with the
//! algorithm it was made for, and a certificate stands with its own key alone; a refusal of it is never a verdict about a user.

use std::fmt;

use super::description::Configuration;
use aws_lc_rs::digest;
use claviger_api::connector::client_key::{OidcAssertionAudience, OidcClientKey};
use claviger_api::connector::oidc::{OidcClientAuthentication, OidcUpstream};
use claviger_api::{LocalObjectRef, SecretKeyRef};
use claviger_jose::{Algorithm, KeyError, PrivateKey, Signer};
use data_encoding::BASE64URL_NOPAD;
use openidconnect::{AuthType, CsrfToken};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::federated_token::FederatedToken;
use crate::resolved::{TLS_CERTIFICATE, TLS_PRIVATE_KEY};
use crate::{BuildError, Purpose, Resolved, SecretRef};

/// RFC 7523 2.2.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// Seconds an assertion lives: it is sent at once.
const LIFE: i64 = 60;
/// Random bytes in `jti`.
const JTI_BYTES: u32 = 16;
/// What a key signs with that states nothing, by what it is.
const DEFAULTS: [Algorithm; 4] =
    [Algorithm::RS256, Algorithm::ES256, Algorithm::ES384, Algorithm::ES512];

/// How one provider is shown who we are.
pub enum ClientAuthentication {
    /// It is not: a public client.
    None,
    /// By a secret.
    Secret(SecretString, AuthType),
    /// By what a key signs.
    Key(ClientKey),
    /// By what somebody else signed about us.
    Federated(FederatedToken),
}

/// A key that signs assertions.
pub struct ClientKey {
    signer: Signer,
    /// The header but for `alg`.
    header: Value,
    audience: OidcAssertionAudience,
}

impl fmt::Debug for ClientAuthentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Secret(..) => "Secret",
            Self::Key(_) => "Key",
            Self::Federated(_) => "Federated",
        })
    }
}

/// Which keys of which Secrets it needs.
pub fn secret_refs(spec: &OidcUpstream) -> impl Iterator<Item = SecretRef> {
    let secret = spec.client_secret_ref.iter().map(|at| SecretRef::new(at, Purpose::ClientSecret));
    let key = spec.client_key.iter();
    secret.chain(key.map(|key| SecretRef::new(&key.secret_ref, Purpose::ClientAssertionKey)))
}

/// The same, where a certificate is shown.
pub fn certificate_refs(at: &LocalObjectRef) -> [SecretRef; 2] {
    let part = |key: &str, purpose| SecretRef::new(&part_of(at, key), purpose);
    [
        part(TLS_CERTIFICATE, Purpose::ClientCertificate),
        part(TLS_PRIVATE_KEY, Purpose::ClientAssertionKey),
    ]
}

fn part_of(at: &LocalObjectRef, key: &str) -> SecretKeyRef {
    SecretKeyRef { name: at.name.clone(), key: key.to_owned() }
}

impl ClientAuthentication {
    /// As a Connector says.
    ///
    /// # Errors
    /// [`BuildError`]; `field` names the upstream.
    pub fn of(
        field: &'static str,
        spec: &OidcUpstream,
        resolved: &Resolved,
    ) -> Result<Self, BuildError> {
        // The schema says so too; an older one would not.
        let contradicts = |what: &str| Err(BuildError::Oidc(format!("{field}: {what}")));
        match (&spec.client_key, &spec.client_secret_ref, spec.client_authentication) {
            (Some(_), Some(_), _) => contradicts("clientKey takes the place of clientSecretRef"),
            (Some(key), None, _) => ClientKey::new(key, resolved).map(Self::Key),
            (None, Some(at), by) => {
                let secret = resolved.password(&at.name, &at.key, Purpose::ClientSecret)?;
                let by = match by {
                    Some(OidcClientAuthentication::ClientSecretPost) => AuthType::RequestBody,
                    _ => AuthType::BasicAuth,
                };
                Ok(Self::Secret(secret, by))
            }
            (None, None, None | Some(OidcClientAuthentication::None)) => Ok(Self::None),
            (None, None, _) => contradicts("clientAuthentication needs clientSecretRef"),
        }
    }

    /// By a secret that goes where every other parameter does.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn posting(at: &SecretKeyRef, resolved: &Resolved) -> Result<Self, BuildError> {
        let secret = resolved.password(&at.name, &at.key, Purpose::ClientSecret)?;
        Ok(Self::Secret(secret, AuthType::RequestBody))
    }

    /// By the certificate and RSA key in a Secret of type kubernetes.io/tls, for the token endpoint, as Microsoft wants it.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn certified(at: &LocalObjectRef, resolved: &Resolved) -> Result<Self, BuildError> {
        let key_at = part_of(at, TLS_PRIVATE_KEY);
        let signer = signer(&key_at, Some(Algorithm::PS256), resolved)?;
        let thumbprint = thumbprint(at, resolved)?;
        let header = json!({ "typ": "JWT", "x5t#S256": thumbprint });
        let audience = OidcAssertionAudience::TokenEndpoint;
        Ok(Self::Key(ClientKey { signer, header, audience }))
    }

    /// Whether it could be shown now, as far as that is ours.
    ///
    /// # Errors
    /// Why not, and the fix, in words.
    pub async fn check(&self, now: i64) -> Result<(), String> {
        match self {
            Self::Federated(token) => token.read(now).await.map(drop),
            Self::None | Self::Secret(..) | Self::Key(_) => Ok(()),
        }
    }

    /// What is shown at the token endpoint besides a secret.
    ///
    /// # Errors
    /// In words, when nothing can be signed, or there is nothing to show.
    pub async fn assertion(
        &self,
        client_id: &str,
        provider: &Configuration,
        now: i64,
    ) -> Result<Vec<(&'static str, String)>, String> {
        let assertion = match self {
            Self::None | Self::Secret(..) => return Ok(Vec::new()),
            Self::Key(key) => key.sign(client_id, provider, now)?,
            Self::Federated(token) => token.read(now).await?,
        };
        let kind = ("client_assertion_type", ASSERTION_TYPE.to_owned());
        Ok(vec![kind, ("client_assertion", assertion)])
    }
}

impl ClientKey {
    fn new(spec: &OidcClientKey, resolved: &Resolved) -> Result<Self, BuildError> {
        let at = &spec.secret_ref;
        let stated = spec.algorithm.and_then(|stated| stated.as_str().parse().ok());
        let signer = signer(at, stated, resolved)?;
        let kid = spec.key_id.as_deref().unwrap_or(signer.kid());
        let header = json!({ "typ": "JWT", "kid": kid });
        Ok(Self { header, audience: spec.audience, signer })
    }

    /// An assertion (RFC 7523 3).
    fn sign(&self, client_id: &str, provider: &Configuration, now: i64) -> Result<String, String> {
        let audience = match self.audience {
            OidcAssertionAudience::Issuer => provider.issuer().as_str(),
            OidcAssertionAudience::TokenEndpoint => {
                let endpoint = provider.token_endpoint().map(|endpoint| endpoint.as_str());
                endpoint
                    .ok_or("the provider has no token endpoint: say it in endpoints.tokenURL")?
            }
        };
        let jti = CsrfToken::new_random_len(JTI_BYTES);
        let claims = json!({
            "iss": client_id, "sub": client_id, "aud": audience, "jti": jti.secret(),
            "iat": now, "nbf": now, "exp": now + LIFE,
        });
        self.signer.sign_under(&self.header, &claims).map_err(|error| error.to_string())
    }
}

/// What signs by the key in a Secret.
fn signer(
    at: &SecretKeyRef,
    stated: Option<Algorithm>,
    resolved: &Resolved,
) -> Result<Signer, BuildError> {
    let purpose = Purpose::ClientAssertionKey;
    let unusable = |cause: &dyn ToString| BuildError::unusable(at, purpose, &cause.to_string());
    let pem = resolved.bytes(&at.name, &at.key, purpose)?;
    let pem = std::str::from_utf8(pem).map_err(|_| unusable(&"it is not PEM text"))?;
    let pem = SecretString::from(pem.trim());
    let key = match stated {
        Some(algorithm) => PrivateKey::from_pkcs8_pem(algorithm, pem.expose_secret()),
        None => of_its_kind(pem.expose_secret()),
    };
    let key = key.map_err(|error| unusable(&error))?;
    Signer::new(&key).map_err(|error| unusable(&error))
}

/// SHA-256 of the certificate (RFC 7515 4.1.8), if the key beside it is its own.
fn thumbprint(at: &LocalObjectRef, resolved: &Resolved) -> Result<String, BuildError> {
    let part = part_of(at, TLS_CERTIFICATE);
    let unusable = |cause: &dyn ToString| {
        BuildError::unusable(&part, Purpose::ClientCertificate, &cause.to_string())
    };
    let pem = resolved.bytes(&part.name, TLS_CERTIFICATE, Purpose::ClientCertificate)?;
    let key = resolved.bytes(&part.name, TLS_PRIVATE_KEY, Purpose::ClientAssertionKey)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| unusable(&error))?;
    let leaf = chain.first().ok_or_else(|| unusable(&"there is no certificate in it"))?;
    let thumbprint = BASE64URL_NOPAD.encode(digest::digest(&digest::SHA256, leaf).as_ref());
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| unusable(&error))?;
    CertifiedKey::from_der(chain, key, &default_provider()).map_err(|error| unusable(&error))?;
    Ok(thumbprint)
}

/// The key with the algorithm that keys of its kind have.
fn of_its_kind(pem: &str) -> Result<PrivateKey, KeyError> {
    let mut read = PrivateKey::from_pkcs8_pem(DEFAULTS[0], pem);
    for algorithm in &DEFAULTS[1..] {
        if !matches!(read, Err(KeyError::WrongKind(_))) {
            break;
        }
        read = PrivateKey::from_pkcs8_pem(*algorithm, pem);
    }
    read
}
