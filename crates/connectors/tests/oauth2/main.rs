//! The connectors that speak OAuth 2.0 to a vendor, each against a fake of it on loopback that speaks as it documents and
//! lies where a test wants it to.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod bitbucket_cloud;
mod fixture;
mod flow;
mod generic;
mod gitea;
mod github;
mod gitlab;
mod openshift;
mod outage;
mod recheck;
