//! What a device and its user bring (RFC 8628): a request for codes, and the code that is typed in.

use std::sync::OnceLock;

use claviger_domain::device;
use claviger_domain::fakes::World;
use claviger_domain::issuer::Issuer;
use claviger_domain::ports::{DeviceState, KnownDevice};
use claviger_protocol::device::{DeviceAuthorizationRequest, UserCode};
use claviger_protocol::form::Params;

use super::grant::are_resources;

/// A request for codes asks for `openid` and for what it names, no more.
pub fn request(bytes: &[u8]) {
    let Ok(params) = Params::parse(bytes) else { return };
    let Ok(request) = DeviceAuthorizationRequest::parse(&params) else { return };
    let asked = params.get("scope").unwrap_or_default();
    assert!(asked.split(' ').any(|word| word == "openid"), "no openid in {asked}");
    assert!(request.scope.iter().all(|scope| asked.split(' ').any(|word| word == scope.as_str())));
    are_resources(&params, &request.resources);
}

/// What a person types is one code or none; it is the same however it is printed, and that of one device alone.
pub fn user_code(bytes: &[u8]) {
    static KNOWN: OnceLock<(Issuer, KnownDevice, UserCode)> = OnceLock::new();
    let (issuer, device, known) = KNOWN.get_or_init(|| {
        let issuer = World::new().issuer;
        let code = UserCode::parse("BCDF-GHJK").expect("a code");
        let device = waiting(device::user_code_mac(&issuer, "device", &code));
        (issuer, device, code)
    });
    if let Some(code) = UserCode::from_random(bytes) {
        assert_eq!(UserCode::parse(&code.to_string()), Some(code));
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Some(code) = UserCode::parse(text) else { return };
    let typed: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
    assert_eq!(typed.to_ascii_uppercase().as_bytes(), code.letters(), "{text}");
    let printed = code.to_string();
    assert_eq!((printed.len(), code.letters().len()), (9, UserCode::LENGTH));
    assert_eq!(UserCode::parse(&printed.to_lowercase().replace('-', " ")).as_ref(), Some(&code));
    assert_eq!(device::is_user_code(issuer, device, &code), code == *known, "{printed}");
}

/// A device that waits for its user.
fn waiting(user_code_mac: String) -> KnownDevice {
    KnownDevice {
        name: "device".into(),
        issuer_hash: String::new(),
        client_hash: String::new(),
        client_uid: String::new(),
        state: DeviceState::Pending,
        user_code_mac,
        source_mac: String::new(),
        expires_at: i64::MAX,
        payload: String::new(),
    }
}
