//! A device without a browser that waits for its user (RFC 8628): what is stored of it, and its two codes.
//!
//! ```text
//! device ──/device/code──▶ DeviceAuthorization (1 create, capped) ──▶ device code, user code
//! user, signed in ──/device──▶ user code, confirmation ──▶ Approved or Denied (1 patch)
//! device ──/token──▶ from memory: pending · denied · expired; approved ──▶ its Session (1 create: the single use)
//! ```
//! What always holds:
//! - neither code is stored: the device's is proven by its MAC, the user's is known by one, and whoever reads
//!   the store learns neither;
//! - a poll costs no request until there is something to give;
//! - authority is what the sealed payload says; the plain state of the object only says which payload it is.

use claviger_protocol::device::UserCode;
use claviger_seal::{Context, KeyRing, OpenError, Purpose};
use data_encoding::BASE64URL_NOPAD;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::code::LoginGrant;
use crate::issuer::Issuer;
use crate::ports::KnownDevice;
use crate::refresh_token::Binding;

/// Least seconds between two polls (RFC 8628 3.2), and how many more each `slow_down` asks for (3.5).
pub const INTERVAL_SECONDS: i64 = 5;
/// Longest sealed payload, in characters: what the schema of a `DeviceAuthorization` takes.
pub const MAX_PAYLOAD: usize = 16_384;

const PREFIX: &str = "clv_dc_";
/// Longest text taken for a device code; ours are about 115 characters.
const MAX_LENGTH: usize = 512;

/// What an issuer says of devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DevicePolicy {
    /// Seconds until both codes die: 60–600.
    pub lifetime: i64,
    /// How many of one client may wait at once.
    pub per_client: usize,
    /// How many may wait at once.
    pub total: usize,
}

/// One address has one in so many of those that may wait, so that it takes several to keep all others waiting.
const SHARE_OF_SOURCE: usize = 4;

impl DevicePolicy {
    /// How many of one client, of one address, may wait at once.
    pub fn per_client_and_source(&self) -> usize {
        (self.per_client / SHARE_OF_SOURCE).max(1)
    }

    /// How many of one address may wait at once.
    pub fn per_source(&self) -> usize {
        (self.total / SHARE_OF_SOURCE).max(1)
    }
}

/// What a device code says once its MAC was found good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceCode {
    /// Name of the stored authorization.
    pub name: String,
    /// When it dies.
    pub not_after: i64,
}

/// Why a text is not one of our live device codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DeviceCodeError {
    /// Not made by us for this issuer and client.
    #[error("device code was not issued to this client by this issuer")]
    Foreign,
    /// Past its time.
    #[error("device code has expired")]
    Expired,
}

impl DeviceCode {
    /// The code's text: `clv_dc_<ring key>.<name>.<not after>.<mac>`, the MAC over issuer, client and the rest.
    pub fn encode(&self, ring: &KeyRing, binding: Binding<'_>) -> SecretString {
        let body = format!("{}.{}", self.name, self.not_after);
        let (key_id, mac) = ring.mac(Purpose::DeviceCodeMac, &code_parts(binding, &body));
        SecretString::from(format!("{PREFIX}{key_id}.{body}.{}", BASE64URL_NOPAD.encode(&mac)))
    }

    /// Reads a code and proves it.
    ///
    /// # Errors
    /// [`DeviceCodeError`].
    pub fn decode(
        text: &str,
        ring: &KeyRing,
        binding: Binding<'_>,
        now: i64,
    ) -> Result<Self, DeviceCodeError> {
        let code = Self::proven(text, ring, binding).ok_or(DeviceCodeError::Foreign)?;
        if now >= code.not_after { Err(DeviceCodeError::Expired) } else { Ok(code) }
    }

    fn proven(text: &str, ring: &KeyRing, binding: Binding<'_>) -> Option<Self> {
        let text = Some(text).filter(|text| text.len() <= MAX_LENGTH)?;
        let (key_id, rest) = text.strip_prefix(PREFIX)?.split_once('.')?;
        let (body, mac) = rest.rsplit_once('.')?;
        let mac = BASE64URL_NOPAD.decode(mac.as_bytes()).ok()?;
        // As it stands: a number spelt another way is another code.
        let parts = code_parts(binding, body);
        ring.verify_mac(Purpose::DeviceCodeMac, key_id, &parts, &mac).ok()?;
        let (name, not_after) = body.split_once('.')?;
        Some(Self { name: name.to_owned(), not_after: not_after.parse().ok()? })
    }
}

fn code_parts<'a>(binding: Binding<'a>, body: &'a str) -> [&'a [u8]; 3] {
    [binding.issuer_uid.as_bytes(), binding.client_uid.as_bytes(), body.as_bytes()]
}

/// What a user's code is known by in the store: bound to the authorization it belongs to, so that it cannot be
/// moved to another. A MAC, for a hash of 34 bits would be guessed.
pub fn user_code_mac(issuer: &Issuer, name: &str, code: &UserCode) -> String {
    let (key_id, mac) = issuer.sealing.mac(Purpose::UserCodeMac, &user_parts(issuer, name, code));
    format!("{key_id}.{}", BASE64URL_NOPAD.encode(&mac))
}

/// Whether this is the user's code of a stored authorization.
pub fn is_user_code(issuer: &Issuer, device: &KnownDevice, code: &UserCode) -> bool {
    let Some((key_id, mac)) = device.user_code_mac.split_once('.') else { return false };
    let parts = user_parts(issuer, &device.name, code);
    BASE64URL_NOPAD.decode(mac.as_bytes()).is_ok_and(|mac| {
        issuer.sealing.verify_mac(Purpose::UserCodeMac, key_id, &parts, &mac).is_ok()
    })
}

fn user_parts<'a>(issuer: &'a Issuer, name: &'a str, code: &'a UserCode) -> [&'a [u8]; 3] {
    [issuer.uid.as_bytes(), name.as_bytes(), code.letters()]
}

/// What the address that a device asks from is known by in the store, where it is only compared. A MAC, for an
/// address would be guessed from a hash. Another key of the ring makes another: at a rotation an address begins anew.
pub fn source_mac(issuer: &Issuer, source: &str) -> String {
    let parts = [issuer.uid.as_bytes(), source.as_bytes()];
    let (key_id, mac) = issuer.sealing.mac(Purpose::DeviceSourceMac, &parts);
    format!("{key_id}.{}", BASE64URL_NOPAD.encode(&mac))
}

/// What a device asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Scopes, space-separated.
    #[serde(rename = "s")]
    pub scopes: String,
    /// Resources the access tokens are for; none means `/userinfo`.
    #[serde(rename = "r", default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
}

impl Request {
    /// Seals what was asked for into the authorization of this name, until that is over.
    pub fn seal(&self, issuer: &Issuer, (client_uid, name): (&str, &str), expiry: i64) -> String {
        seal(issuer, Purpose::DeviceRequest, (client_uid, name), expiry, self)
    }

    /// What a device that waits asked for.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(issuer: &Issuer, device: &KnownDevice, now: i64) -> Result<Self, OpenError> {
        open(issuer, Purpose::DeviceRequest, device, now)
    }
}

/// Seals what a user granted into the authorization of this name, until that is over.
pub fn seal_grant(issuer: &Issuer, device: &KnownDevice, grant: &LoginGrant) -> String {
    let whose = (device.client_uid.as_str(), device.name.as_str());
    seal(issuer, Purpose::DeviceGrant, whose, device.expires_at, grant)
}

/// What the user of an approved device granted.
///
/// # Errors
/// [`OpenError`].
pub fn open_grant(
    issuer: &Issuer,
    device: &KnownDevice,
    now: i64,
) -> Result<LoginGrant, OpenError> {
    open(issuer, Purpose::DeviceGrant, device, now)
}

fn seal(
    issuer: &Issuer,
    purpose: Purpose,
    (client_uid, name): (&str, &str),
    expiry: i64,
    payload: &impl Serialize,
) -> String {
    let plain = rmp_serde::to_vec_named(payload).unwrap_or_default();
    let context =
        Context { issuer_uid: &issuer.uid, object_name: Some(name), client_uid: Some(client_uid) };
    issuer.sealing.seal(purpose, &context, expiry.saturating_add(crate::SKEW_SECONDS), &plain)
}

fn open<T: for<'de> Deserialize<'de>>(
    issuer: &Issuer,
    purpose: Purpose,
    device: &KnownDevice,
    now: i64,
) -> Result<T, OpenError> {
    let context = Context {
        issuer_uid: &issuer.uid,
        object_name: Some(&device.name),
        client_uid: Some(&device.client_uid),
    };
    let plain = issuer.sealing.open(purpose, &context, now, &device.payload)?;
    rmp_serde::from_slice(&plain).map_err(|_| OpenError::Malformed)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;
    use crate::fakes::World;
    use crate::ports::DeviceState;

    const BINDING: Binding<'_> = Binding { issuer_uid: "issuer", client_uid: "client" };

    fn device(name: &str, mac: String) -> KnownDevice {
        KnownDevice {
            name: name.into(),
            issuer_hash: "i".into(),
            client_hash: "c".into(),
            client_uid: "client".into(),
            state: DeviceState::Pending,
            user_code_mac: mac,
            source_mac: String::new(),
            expires_at: 2_000,
            payload: String::new(),
        }
    }

    #[test]
    fn a_device_code_is_good_for_its_issuer_client_and_time_alone() {
        let ring = KeyRing::generate(0).unwrap();
        let code = DeviceCode { name: "name".into(), not_after: 100 };
        let text = code.encode(&ring, BINDING);
        let text = text.expose_secret();
        let decode = |text: &str, binding, now| DeviceCode::decode(text, &ring, binding, now);
        assert_eq!(decode(text, BINDING, 99), Ok(code));
        assert_eq!(decode(text, BINDING, 100), Err(DeviceCodeError::Expired));
        let (other, foreign) =
            (Binding { client_uid: "other", ..BINDING }, DeviceCodeError::Foreign);
        assert_eq!(decode(text, other, 99), Err(foreign), "another client's");
        let elsewhere = Binding { issuer_uid: "other", ..BINDING };
        assert_eq!(decode(text, elsewhere, 99), Err(foreign), "another issuer's");
        for edited in [
            text.replacen(".100.", ".900.", 1),
            text.replacen(".name.", ".eman.", 1),
            text.replacen("clv_dc_", "clv_rt_", 1),
            text.replacen(".100.", ".+100.", 1),
            text[..text.len() - 2].to_owned(),
            "x".repeat(10_000),
            String::new(),
        ] {
            assert_eq!(decode(&edited, BINDING, 99), Err(foreign), "{edited}");
        }
    }

    #[test]
    fn a_user_code_is_known_by_a_mac_of_its_own_authorization() {
        let issuer = World::new().issuer;
        let code = UserCode::parse("BCDFGHJK").unwrap();
        let one = device("one", user_code_mac(&issuer, "one", &code));
        assert!(one.user_code_mac.len() <= 64, "what the schema takes");
        assert!(is_user_code(&issuer, &one, &code));
        assert!(!is_user_code(&issuer, &one, &UserCode::parse("BCDFGHJL").unwrap()));
        let moved = KnownDevice { name: "two".into(), ..one.clone() };
        assert!(!is_user_code(&issuer, &moved, &code), "copied to another authorization");
        assert!(!is_user_code(&issuer, &device("one", "none".into()), &code));
    }

    #[test]
    fn one_address_has_a_quarter_of_the_room_and_one_place_at_least() {
        let policy = |per_client, total| DevicePolicy { lifetime: 300, per_client, total };
        for (per_client, total, expected) in
            [(200, 1_000, (50, 250)), (7, 8, (1, 2)), (1, 1, (1, 1)), (4, 5_000, (1, 1_250))]
        {
            let policy = policy(per_client, total);
            assert_eq!((policy.per_client_and_source(), policy.per_source()), expected);
        }
        let issuer = World::new().issuer;
        let [one, again, other] =
            ["192.0.2.1", "192.0.2.1", "192.0.2.2"].map(|s| source_mac(&issuer, s));
        assert!(one == again && one != other && !one.contains("192"));
        assert!(one.len() <= 64, "what the schema takes");
        let elsewhere = Issuer { uid: "other".into(), ..issuer };
        assert_ne!(source_mac(&elsewhere, "192.0.2.1"), one);
    }

    #[test]
    fn what_was_asked_is_never_taken_for_what_was_granted() {
        let issuer = World::new().issuer;
        let request = Request { scopes: "openid".into(), resources: Vec::new() };
        let payload = request.seal(&issuer, ("client", "one"), 2_000);
        let stored = KnownDevice { payload, ..device("one", String::new()) };
        assert_eq!(Request::open(&issuer, &stored, 1_000), Ok(request));
        assert_eq!(open_grant(&issuer, &stored, 1_000), Err(OpenError::Forged));
        for moved in [
            KnownDevice { name: "two".into(), ..stored.clone() },
            KnownDevice { client_uid: "other".into(), ..stored.clone() },
        ] {
            assert_eq!(Request::open(&issuer, &moved, 1_000), Err(OpenError::Forged));
        }
        let over = 2_000 + crate::SKEW_SECONDS;
        assert_eq!(Request::open(&issuer, &stored, over), Err(OpenError::Expired));
    }
}
