//! Every label and annotation Claviger reads or writes. Names and values are part of the API.

/// On a Secret: which field may refer to it. A Secret without it is never read, so that whoever
/// may edit a Connector cannot point an LDAP bind at the signing keys.
pub const SECRET: &str = "claviger.dev/secret";
/// Value of [`SECRET`]: `Connector` references (passwords, certificate authorities, client
/// certificates).
pub const SECRET_CONNECTOR: &str = "connector";
/// Value of [`SECRET`]: `OAuth2Client` secrets, given or generated.
pub const SECRET_CLIENT: &str = "client";
/// Value of [`SECRET`]: password hashes of `LocalUser`s.
pub const SECRET_USER: &str = "user";
/// Value of [`SECRET`]: serving certificates of `OIDCIssuer`s.
pub const SECRET_TLS: &str = "tls";
/// Value of [`SECRET`]: initial access tokens of `OIDCIssuer`s.
pub const SECRET_REGISTRATION: &str = "registration";
/// Value of [`SECRET`]: private signing keys. Written by Claviger; no field can refer to it.
pub const SECRET_SIGNING_KEY: &str = "signing-key";
/// Value of [`SECRET`]: the ring that seals what browsers and clients carry. Written by Claviger;
/// no field can refer to it.
pub const SECRET_SEALING_RING: &str = "sealing-ring";

/// On a ConfigMap: that a `Connector` may refer to it. Others are not read.
pub const CONFIG_MAP: &str = "claviger.dev/config-map";
/// Value of [`CONFIG_MAP`].
pub const CONFIG_MAP_CONNECTOR: &str = "connector";

/// On a signing-key Secret: name of the SigningKey it belongs to. It replaces an ownerReference,
/// which would let Kubernetes delete the keys of a restored SigningKey.
pub const SIGNING_KEY: &str = "claviger.dev/signing-key";
/// On a generated client Secret: name of the OAuth2Client it was made for.
pub const CLIENT: &str = "claviger.dev/client";

/// On a Session: the hour (seconds since the epoch / 3,600, in decimal) in which it expires;
/// garbage collection selects by it.
pub const EXPIRY_HOUR: &str = "claviger.dev/expiry-hour";
/// On a DeviceAuthorization: the minute (seconds since the epoch / 60, in decimal) in which it expires;
/// garbage collection selects by it.
pub const EXPIRY_MINUTE: &str = "claviger.dev/expiry-minute";
/// On a Session or DeviceAuthorization: hash of the issuer's UID.
pub const ISSUER_HASH: &str = "claviger.dev/issuer-hash";
/// On a Session: hash of issuer, connector and user ID.
pub const USER_HASH: &str = "claviger.dev/user-hash";
/// On a Session or DeviceAuthorization: hash of the client's UID.
pub const CLIENT_HASH: &str = "claviger.dev/client-hash";
/// On a Session of a client: hash of the browser session it came of, if it came of one.
pub const BROWSER_HASH: &str = "claviger.dev/browser-hash";
/// On a Session: its state, [`STATE_REVOKED`] alone being set, so that a watch of tombstones is a
/// label selection.
pub const STATE: &str = "claviger.dev/state";
/// Value of [`STATE`]: the session is over.
pub const STATE_REVOKED: &str = "Revoked";

/// On a Session whose client is yet to be told that it is over: since when, in seconds since the epoch. An
/// administrator may set it to anything on a Session of type Browser to sign that browser out and have every client
/// told. Claviger takes it off.
pub const LOGOUT_PENDING: &str = "claviger.dev/logout-pending";

/// On every object Claviger writes.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Value of [`MANAGED_BY`].
pub const MANAGED_BY_CLAVIGER: &str = "claviger";

/// Annotation on a generated client Secret: the `generatedSecret.rotation` it was last rotated
/// for.
pub const ROTATION: &str = "claviger.dev/rotation";

/// Annotation on the Secret labelled [`SECRET_SEALING_RING`], written by an administrator: a whole
/// number; one that is higher than the ring's `rotationRequest` rotates both rings now.
pub const ROTATION_REQUEST: &str = "claviger.dev/rotation-request";
/// Annotation on the Secret labelled [`SECRET_SEALING_RING`], written by an administrator: IDs of
/// keys, separated by commas, that must not be trusted any more. What they sealed is refused at once.
pub const REVOKED_KEY_IDS: &str = "claviger.dev/revoked-key-ids";
