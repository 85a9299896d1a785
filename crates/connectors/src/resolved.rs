//! What a connector needs that does not stand in its own object, already read by the controller.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::PathBuf;

use claviger_api::{ConfigMapKeyRef, SecretKeyRef};
use secrecy::{ExposeSecret, SecretSlice, SecretString};

use crate::BuildError;
use crate::certificates::Certificates;
use crate::local::LocalUser;

/// Where a Secret of the type `kubernetes.io/tls` has its certificate chain.
pub const TLS_CERTIFICATE: &str = "tls.crt";
/// Where it has the private key of that.
pub const TLS_PRIVATE_KEY: &str = "tls.key";

/// What one key of a Secret is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Password of the account that searches a directory.
    BindPassword,
    /// Password of Claviger's own account at a service.
    ServicePassword,
    /// `client_secret` of Claviger at the upstream.
    ClientSecret,
    /// The private key that authenticates Claviger at the upstream, PEM.
    ClientAssertionKey,
    /// Certificates to trust, PEM.
    CertificateAuthority,
    /// Certificates that sign a proxy's client certificate, PEM.
    ClientCertificateAuthority,
    /// Our own certificate chain, PEM.
    ClientCertificate,
    /// Its private key, PEM.
    ClientKey,
    /// Certificates that an identity provider signs with, PEM.
    SignatureCertificates,
    /// The private key that signs requests to it, PEM.
    RequestKey,
    /// That key's certificate, PEM.
    RequestCertificate,
    /// The key file of a service account, JSON.
    ServiceAccount,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BindPassword => "the bind password",
            Self::ServicePassword => "the password of Claviger's account there",
            Self::ClientSecret => "the client secret",
            Self::ClientAssertionKey => "the client's private key",
            Self::CertificateAuthority => "the CA certificates",
            Self::ClientCertificateAuthority => "the authorities of the proxy's client certificate",
            Self::ClientCertificate => "the client certificate",
            Self::ClientKey => "the client certificate's key",
            Self::SignatureCertificates => "the identity provider's certificates",
            Self::RequestKey => "the key that signs requests",
            Self::RequestCertificate => "the certificate of the key that signs requests",
            Self::ServiceAccount => "the service account's key file",
        })
    }
}

/// One key of a Secret that a connector needs, in the connector's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SecretRef {
    /// Name of the Secret.
    pub name: String,
    /// Key in its data.
    pub key: String,
    /// What for.
    pub purpose: Purpose,
}

impl SecretRef {
    /// The key a field of the Connector names.
    pub fn new(reference: &SecretKeyRef, purpose: Purpose) -> Self {
        Self { name: reference.name.clone(), key: reference.key.clone(), purpose }
    }
}

/// Where the certificate authorities of a connector are; at most one of them.
pub struct Authorities<'a> {
    /// Inline, PEM.
    pub bundle: Option<&'a str>,
    /// In a Secret.
    pub secret: Option<&'a SecretKeyRef>,
    /// In a `ConfigMap`.
    pub config_map: Option<&'a ConfigMapKeyRef>,
}

/// What the controller has read for one connector.
#[derive(Debug, Default)]
pub struct Resolved {
    secrets: HashMap<(String, String), SecretSlice<u8>>,
    /// What the `ConfigMap` holds that the connector names.
    pub config_map: Option<String>,
    /// Through which proxy the upstream is reached over HTTP, if through one.
    pub proxy: Option<String>,
    /// The token by which Entra ID knows this process, if whoever starts it names one.
    pub azure_federated_token_file: Option<PathBuf>,
    /// All local users in service, for a `local` connector.
    pub local_users: Vec<LocalUser>,
    /// Where the certificates are noted that the upstream's servers show.
    pub certificates: Certificates,
    /// IDs of local users that exist but are invalid at the moment: their sessions wait.
    pub suspended_users: BTreeSet<String>,
}

impl Resolved {
    /// Adds what a Secret holds under a key.
    pub fn insert(&mut self, name: &str, key: &str, value: Vec<u8>) {
        self.secrets.insert((name.to_owned(), key.to_owned()), value.into());
    }

    /// What a Secret holds.
    ///
    /// # Errors
    /// [`BuildError::SecretMissing`].
    pub fn bytes(&self, name: &str, key: &str, purpose: Purpose) -> Result<&[u8], BuildError> {
        let missing =
            || BuildError::SecretMissing { name: name.to_owned(), key: key.to_owned(), purpose };
        let value = self.secrets.get(&(name.to_owned(), key.to_owned())).ok_or_else(missing)?;
        Ok(value.expose_secret())
    }

    /// The certificate authorities to trust instead of the system's, PEM.
    ///
    /// # Errors
    /// [`BuildError::SecretMissing`], [`BuildError::ConfigMapMissing`].
    pub fn authorities<'a>(&'a self, at: &Authorities<'a>) -> Result<Option<&'a [u8]>, BuildError> {
        match (at.bundle, at.secret, at.config_map) {
            (Some(bundle), _, _) => Ok(Some(bundle.as_bytes())),
            (None, Some(at), _) => {
                self.bytes(&at.name, &at.key, Purpose::CertificateAuthority).map(Some)
            }
            (None, None, Some(at)) => {
                let (name, key) = (at.name.clone(), at.key.clone());
                let missing = BuildError::ConfigMapMissing { name, key };
                self.config_map.as_ref().map(|text| Some(text.as_bytes())).ok_or(missing)
            }
            (None, None, None) => Ok(None),
        }
    }

    /// A password.
    ///
    /// # Errors
    /// [`BuildError::SecretMissing`], [`BuildError::SecretUnusable`]: not text, or with the line
    /// feed at its end that `echo` leaves and no directory accepts.
    pub fn password(
        &self,
        name: &str,
        key: &str,
        purpose: Purpose,
    ) -> Result<SecretString, BuildError> {
        let unusable = |cause: &str| BuildError::SecretUnusable {
            name: name.to_owned(),
            key: key.to_owned(),
            purpose,
            cause: cause.to_owned(),
        };
        let bytes = self.bytes(name, key, purpose)?;
        let text = std::str::from_utf8(bytes).map_err(|_| unusable("it is not UTF-8 text"))?;
        if text.ends_with('\n') {
            return Err(unusable("it ends with a line feed; write it with printf, not echo"));
        }
        Ok(SecretString::from(text))
    }
}
