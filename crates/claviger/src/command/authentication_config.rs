//! `claviger authentication-config`: what a kube-apiserver is told, for an OIDCIssuer of this cluster.

use std::collections::BTreeSet;

use anyhow::{Context, bail};
use claviger_api::{OIDCIssuer, OIDCIssuerSpec, SigningAlgorithm, SigningKey};
use kube::Api;
use serde::Serialize;

use super::cluster;
use crate::args::{AuthenticationConfigArgs, ConfigFormat};

/// `AuthenticationConfiguration` (apiserver.config.k8s.io/v1), as far as we use it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AuthenticationConfiguration {
    api_version: &'static str,
    kind: &'static str,
    jwt: [JwtAuthenticator; 1],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct JwtAuthenticator {
    issuer: JwtIssuer,
    claim_mappings: ClaimMappings,
    user_validation_rules: [Rule; 2],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct JwtIssuer {
    url: String,
    audiences: [String; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_authority: Option<String>,
}

#[derive(Debug, Serialize)]
struct ClaimMappings {
    username: PrefixedClaim,
    groups: PrefixedClaim,
}

#[derive(Debug, Serialize)]
struct PrefixedClaim {
    claim: String,
    prefix: String,
}

#[derive(Debug, Serialize)]
struct Rule {
    expression: &'static str,
    message: &'static str,
}

/// Prints the configuration of the issuer the arguments name.
///
/// # Errors
/// When the issuer cannot be read, or the API server would refuse the result.
pub async fn print(args: AuthenticationConfigArgs) -> anyhow::Result<()> {
    let (config, namespace) = cluster(&args.cluster).await?;
    let client = kube::Client::try_from(config)?;
    let issuers: Api<OIDCIssuer> = Api::namespaced(client.clone(), &namespace);
    let issuer = issuers.get(&args.issuer).await.with_context(|| {
        format!(
            "failed to read OIDCIssuer {namespace}/{}: see `kubectl get oidcissuers -A`",
            args.issuer
        )
    })?;
    let OIDCIssuerSpec { url, signing_keys, .. } = issuer.spec;
    if !url.starts_with("https://") {
        bail!("{url}: an API server trusts https issuers only");
    }
    match args.format {
        ConfigFormat::Config => print!("{}", configuration(&args, url)?),
        ConfigFormat::Flags => {
            let keys: Api<SigningKey> = Api::namespaced(client, &namespace);
            let mut algorithms = Vec::new();
            for key in signing_keys {
                let key = keys.get(&key.name).await.with_context(|| {
                    format!("failed to read SigningKey {namespace}/{}", key.name)
                })?;
                algorithms.push(key.spec.algorithm);
            }
            print!("{}", flags(&args, &url, &algorithms));
        }
    }
    Ok(())
}

fn configuration(args: &AuthenticationConfigArgs, url: String) -> anyhow::Result<String> {
    let certificate_authority = args
        .certificate_authority
        .as_ref()
        .map(|path| {
            std::fs::read_to_string(path)
                .with_context(|| format!("failed to read {}", path.display()))
        })
        .transpose()?;
    let prefixed = |claim: &str, prefix: &str| PrefixedClaim {
        claim: claim.to_owned(),
        prefix: prefix.to_owned(),
    };
    let file = AuthenticationConfiguration {
        api_version: "apiserver.config.k8s.io/v1",
        kind: "AuthenticationConfiguration",
        jwt: [JwtAuthenticator {
            issuer: JwtIssuer { url, audiences: [args.client_id.clone()], certificate_authority },
            claim_mappings: ClaimMappings {
                username: prefixed(&args.username_claim, &args.username_prefix),
                groups: prefixed("groups", &args.groups_prefix),
            },
            user_validation_rules: [
                Rule {
                    expression: "!user.username.startsWith('system:')",
                    message: "user names beginning with system: are reserved",
                },
                Rule {
                    expression: "user.groups.all(group, !group.startsWith('system:'))",
                    message: "groups beginning with system: are reserved",
                },
            ],
        }],
    };
    serde_saphyr::to_string(&file).context("failed to write YAML")
}

/// One flag a line. `algorithms` are those of the issuer's keys.
fn flags(args: &AuthenticationConfigArgs, url: &str, algorithms: &[SigningAlgorithm]) -> String {
    // Without a prefix an API server puts the issuer's URL before names that are no email.
    let username_prefix = Some(args.username_prefix.as_str()).filter(|prefix| !prefix.is_empty());
    let mut lines = vec![
        format!("--oidc-issuer-url={url}"),
        format!("--oidc-client-id={}", args.client_id),
        format!("--oidc-username-claim={}", args.username_claim),
        format!("--oidc-username-prefix={}", username_prefix.unwrap_or("-")),
        "--oidc-groups-claim=groups".to_owned(),
        format!("--oidc-groups-prefix={}", args.groups_prefix),
    ];
    lines.extend(signing_algorithms_flag(algorithms));
    if let Some(path) = &args.certificate_authority {
        lines.push(format!("--oidc-ca-file={}", path.display()));
    }
    lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}

/// Nothing where the API server's default will do. RS256 stays in: a key whose algorithm was changed signs
/// with the old one until it is rotated.
fn signing_algorithms_flag(algorithms: &[SigningAlgorithm]) -> Option<String> {
    let mut names = BTreeSet::from([SigningAlgorithm::Rs256.as_str()]);
    names.extend(algorithms.iter().map(|algorithm| algorithm.as_str()));
    let names: Vec<_> = names.into_iter().collect();
    (names.len() > 1).then(|| format!("--oidc-signing-algs={}", names.join(",")))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Args, Command};

    fn printed(arguments: &[&str], algorithms: &[SigningAlgorithm]) -> String {
        let all = ["claviger", "authentication-config", "--issuer", "main"];
        let args = Args::parse_from(all.iter().chain(arguments));
        let Command::AuthenticationConfig(args) = args.command else { panic!("another command") };
        flags(&args, "https://id.example.com", algorithms)
    }

    #[test]
    fn an_empty_user_name_prefix_is_none_and_not_the_issuers_url() {
        let flags = printed(&["--username-prefix", ""], &[]);
        assert!(flags.contains("--oidc-username-prefix=-\n"), "{flags}");
    }

    #[test]
    fn algorithms_are_named_where_the_api_servers_default_would_not_do() {
        assert!(!printed(&[], &[SigningAlgorithm::Rs256]).contains("algs"));
        let flags = printed(&[], &[SigningAlgorithm::Es256, SigningAlgorithm::Es256]);
        assert!(flags.contains("--oidc-signing-algs=ES256,RS256\n"), "{flags}");
    }
}
