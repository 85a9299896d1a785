//! The endpoints as browsers and relying parties see them, on the domain's in-memory ports.

#[cfg(test)]
mod authorization_errors;
#[cfg(test)]
mod client_credentials;
#[cfg(test)]
mod code_flow;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod device;
#[cfg(test)]
mod documents;
mod form_answer;
#[cfg(test)]
mod introspection;
#[cfg(test)]
mod jwt_bearer;
#[cfg(test)]
mod login_form;
mod logout;
#[cfg(test)]
mod password;
#[cfg(test)]
mod proxy;
#[cfg(test)]
mod registration;
#[cfg(test)]
mod revocation;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod sealed_blobs;
#[cfg(test)]
mod single_logout;
#[cfg(test)]
mod sockets;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod token_endpoint;
#[cfg(test)]
mod token_exchange;
#[cfg(test)]
mod trusted_issuers;
#[cfg(test)]
mod upstream;
mod upstream_tokens;
#[cfg(test)]
mod userinfo;
