//! Google, Microsoft and LinkedIn: their OpenID Connect and their APIs at the addresses they document, played by a
//! provider on loopback behind an HTTP proxy, with a certificate of their names.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod fixture;
mod google;
mod linkedin;
mod microsoft;
mod microsoft_credentials;
