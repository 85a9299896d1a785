//! What a form of ours carries to prove that our page was seen: a MAC over what the page was about.
//!
//! What always holds: nothing is stored, and no token of one thing is good for another. Whoever asks says what
//! it is about in parts; the MAC keeps parts of different number and length apart.

use claviger_seal::Purpose;
use data_encoding::BASE64URL_NOPAD;

use crate::issuer::Issuer;

/// The token of a form about these parts.
pub(crate) fn form_token(issuer: &Issuer, about: &[&[u8]]) -> String {
    let (key_id, mac) = issuer.sealing.mac(Purpose::Csrf, about);
    format!("{key_id}.{}", BASE64URL_NOPAD.encode(&mac))
}

/// Whether a form's token is the one of these parts; in constant time.
pub(crate) fn is_form_token(issuer: &Issuer, about: &[&[u8]], given: &str) -> bool {
    let Some((key_id, mac)) = given.split_once('.') else { return false };
    BASE64URL_NOPAD
        .decode(mac.as_bytes())
        .is_ok_and(|mac| issuer.sealing.verify_mac(Purpose::Csrf, key_id, about, &mac).is_ok())
}
