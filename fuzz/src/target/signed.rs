//! Tokens that others sign, signed well and saying anything: only what is right in every claim is believed.
//!
//! An input is a line for `typ` and a JSON object of claims, signed here by the key that is known for it; whatever it is, it is
//! presented as it stands too, and unsigned is believed by nobody. What is believed is held against the claims once more, by
//! other means than those that believed it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use claviger_domain::client::{Client, ClientAuthentication, ClientKeys, Grant, ServiceAccount};
use claviger_domain::client_assertion::Assertions;
use claviger_domain::dpop::{self, Proof};
use claviger_domain::fakes::{CLUSTER_ISSUER, World};
use claviger_domain::issuer::ClientEntry;
use claviger_domain::token::{self, TokenError};
use claviger_domain::trusted_issuer::TrustedIssuer;
use claviger_jose::{Algorithm, KeySet, PrivateKey, Signer, unverified_claims};
use claviger_protocol::client_auth::{ClientCredentials, JWT_BEARER};
use claviger_protocol::form::Params;
use claviger_protocol::token::{TokenRequest, TokenResponse};
use claviger_protocol::{jwt_bearer, token_exchange};
use secrecy::ExposeSecret;
use serde_json::{Map, Value};
use tokio::runtime::Runtime;

/// The clock of [`World`].
pub const NOW: i64 = 1_767_225_600;
/// The one ServiceAccount that is listed.
pub const ACCOUNT: &str = "system:serviceaccount:team:app";
const ACCOUNT_UID: &str = "uid-of-app";
const URL: &str = "https://id.example.org";
const CI: &str = "https://token.ci.example";
const KEYS: &str = "https://token.ci.example/keys";
/// What a claim `nonce` becomes that says so: a nonce of ours.
const NONCE: &str = "NONCE";
/// The token that proofs at `/userinfo` are presented with, and its `ath`.
const TOKEN: &str = "token";
const ATH: &str = "PEaenWxYddN6Q_NT1PiOYfz4EsZu7jRXRlpAsNpBU-A";
/// As much as clocks may differ, and the second that a fraction is cut to.
const SKEW: f64 = 60.0;

type Claims = Map<String, Value>;

/// Those who sign, and a provider that knows their keys.
struct Party {
    runtime: Runtime,
    world: World,
    client: Signer,
    cluster: Signer,
    ci: Signer,
    holder: (Signer, Value),
}

/// Adds a client like `kubernetes`.
pub fn add_client(world: &mut World, id: &str, change: impl FnOnce(&mut Client)) {
    let Some(ClientEntry::InService(model)) = world.issuer.clients.get("kubernetes") else {
        panic!("no client kubernetes");
    };
    let mut client = model.as_ref().clone();
    (client.id, client.uid) = (id.to_owned(), format!("uid-of-{id}"));
    change(&mut client);
    world.issuer.clients.insert(id.to_owned(), ClientEntry::InService(Arc::new(client)));
}

fn party() -> MutexGuard<'static, Party> {
    static PARTY: OnceLock<Mutex<Party>> = OnceLock::new();
    let party = PARTY.get_or_init(|| Mutex::new(Party::gather()));
    let mut party = party.lock().unwrap_or_else(PoisonError::into_inner);
    // What was used up before is not remembered: an input holds or not by itself.
    let publishers = party.world.publishers.clone();
    party.world.provider.assertions = Arc::new(Assertions::new(publishers.clone(), publishers));
    party
}

impl Party {
    fn gather() -> Self {
        let key = || PrivateKey::generate(Algorithm::ES256, 0).expect("a key can be made");
        let [client, cluster, ci, holder] = [key(), key(), key(), key()];
        let set = |key: &PrivateKey| KeySet::new([key.public_key().clone()]);
        let mut world = World::new();
        world.issuer.grants.extend([Grant::JwtBearer, Grant::TokenExchange]);
        let account = ServiceAccount { subject: ACCOUNT.into(), uid: Some(ACCOUNT_UID.into()) };
        world.change_client("cli", |cli| {
            cli.grants = [Grant::JwtBearer, Grant::TokenExchange].into();
            cli.workloads.service_accounts = vec![account.clone()];
            cli.workloads.trusted_issuers = vec![trusted()];
        });
        world.change_client("kubernetes", |it| {
            it.authentication = ClientAuthentication::Keys(ClientKeys::Inline(set(&client).into()));
        });
        add_client(&mut world, "workload", |it| {
            it.authentication = ClientAuthentication::ServiceAccount(account);
        });
        add_client(&mut world, "target", |it| {
            it.workloads.brought_by = ["cli".to_owned()].into();
        });
        world.publishers.publish("cluster", set(&cluster).to_json());
        world.publishers.publish(KEYS, set(&ci).to_json());
        let mut jwk = holder.public_jwk();
        let members = jwk.as_object_mut().expect("a JWK");
        members.retain(|name, _| !["kid", "use", "alg"].contains(&name.as_str()));
        let signer = |key| Signer::new(key).expect("a key can sign");
        Self {
            runtime: tokio::runtime::Builder::new_current_thread().build().expect("a runtime"),
            world,
            client: signer(&client),
            cluster: signer(&cluster),
            ci: signer(&ci),
            holder: (signer(&holder), jwk),
        }
    }

    /// Whether this assertion proves that its bearer is this client.
    fn proves(&self, client: &str, assertion: &str) -> bool {
        let form = Params::default()
            .with("client_id", client)
            .with("client_assertion_type", JWT_BEARER)
            .with("client_assertion", assertion);
        let Ok(credentials) = ClientCredentials::from_parts(None, &form) else { return false };
        let World { provider, issuer, .. } = &self.world;
        let found = token::authenticate(provider, issuer, &credentials, "/token");
        let found = self.runtime.block_on(found);
        found.is_ok_and(|found| {
            assert_eq!(found.id, client, "another client than was said");
            true
        })
    }

    /// The answer to a form of the public client `cli`.
    fn ask(&self, form: &Params) -> Option<TokenResponse> {
        let form = form.clone().with("client_id", "cli");
        let credentials = ClientCredentials::from_parts(None, &form).ok()?;
        let request = TokenRequest::parse(&form).ok()?;
        let World { provider, issuer, .. } = &self.world;
        let asked = token::exchange(provider, issuer, &credentials, request, None);
        match self.runtime.block_on(asked) {
            Ok(response) => Some(response),
            Err(TokenError::Refused { .. }) => None,
            Err(error) => panic!("{error}"),
        }
    }

    fn bring(&self, assertion: &str) -> Option<TokenResponse> {
        let form = Params::default()
            .with("grant_type", jwt_bearer::GRANT_TYPE)
            .with("scope", "openid")
            .with("assertion", assertion);
        self.ask(&form)
    }

    fn trade(&self, subject_token: &str) -> Option<TokenResponse> {
        let form = Params::default()
            .with("grant_type", token_exchange::GRANT_TYPE)
            .with("subject_token_type", "urn:ietf:params:oauth:token-type:jwt")
            .with("audience", "target")
            .with("subject_token", subject_token);
        self.ask(&form)
    }

    /// Whether this proof is good at an endpoint, twice where it is claimed twice.
    fn holds(&self, jwt: &str, path: &str, access_token: Option<&str>) -> bool {
        let World { provider, issuer, .. } = &self.world;
        let verify =
            || dpop::verify(provider, issuer, Proof { jwt, method: "POST", path, access_token });
        let Ok(verified) = verify() else { return false };
        assert!(verified.claim(provider, "uid-of-cli").is_ok(), "a proof is good once");
        let again = verify().expect("what was good is good").claim(provider, "uid-of-cli");
        assert!(again.is_err(), "a proof is good twice");
        true
    }
}

fn trusted() -> TrustedIssuer {
    let one = |value: &str| [value.to_owned()].into();
    TrustedIssuer {
        issuer: CI.into(),
        audience: URL.into(),
        jwks_uri: Some(KEYS.into()),
        algorithms: vec![Algorithm::ES256],
        rules: BTreeMap::from([
            ("repository".to_owned(), one("my-org/my-repo")),
            ("protected".to_owned(), one("true")),
        ]),
        groups: vec!["ci".into()],
        groups_claim: None,
        max_life: 900,
    }
}

/// What an input says: its `typ`, if any, and its claims.
fn said(bytes: &[u8]) -> Option<(Option<&str>, Claims)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (typ, claims) = text.split_once('\n')?;
    Some(((!typ.is_empty()).then_some(typ), serde_json::from_str(claims).ok()?))
}

fn text<'c>(claims: &'c Claims, name: &str) -> Option<&'c str> {
    claims.get(name)?.as_str()
}

/// Whether a time is there and in this range, a second aside.
fn is_within(claims: &Claims, name: &str, from: f64, to: f64) -> bool {
    let time = claims.get(name).and_then(Value::as_f64);
    time.is_some_and(|time| (from - 1.0..=to + 1.0).contains(&time))
}

#[expect(clippy::cast_precision_loss, reason = "times of this century are exact")]
const fn now() -> f64 {
    NOW as f64
}

/// Whether a token is for this audience, among others or alone.
fn is_for(claims: &Claims, audience: &str) -> bool {
    match claims.get("aud") {
        Some(Value::String(one)) => one == audience,
        Some(Value::Array(several)) => several.iter().any(|one| one == audience),
        _ => false,
    }
}

/// A `typ` without what may be left out of it (RFC 7515 4.1.9).
fn bare(typ: &str) -> String {
    let typ = typ.to_ascii_lowercase();
    typ.strip_prefix("application/").unwrap_or(&typ).to_owned()
}

fn is_of_cluster(claims: &Claims) -> bool {
    let life = |name| claims.get(name).and_then(Value::as_f64).unwrap_or(f64::INFINITY);
    let uid = claims.get("kubernetes.io").and_then(|it| it["serviceaccount"]["uid"].as_str());
    text(claims, "iss") == Some(CLUSTER_ISSUER)
        && (text(claims, "sub"), uid) == (Some(ACCOUNT), Some(ACCOUNT_UID))
        && is_for(claims, URL)
        && is_within(claims, "iat", f64::NEG_INFINITY, now() + SKEW)
        && is_within(claims, "exp", now() - SKEW, f64::INFINITY)
        && life("exp") - life("iat") <= 3_601.0
}

/// Assertions of clients: believed once, of the client that signs, for what says so.
pub fn client_assertion(bytes: &[u8]) {
    is_believed_assertion(bytes);
}

fn is_believed_assertion(bytes: &[u8]) -> bool {
    let party = party();
    if let Ok(text) = std::str::from_utf8(bytes) {
        for client in ["kubernetes", "workload"] {
            assert!(!party.proves(client, text), "a text proves {client}: {text}");
        }
    }
    let Some((typ, claims)) = said(bytes) else { return false };
    let sign = |signer: &Signer| signer.sign(typ, &claims).expect("claims can be signed");
    let (own, cluster) = (sign(&party.client), sign(&party.cluster));
    assert!(!party.proves("kubernetes", &cluster), "the cluster signs for a client with keys");
    assert!(!party.proves("workload", &own), "a client signs for a ServiceAccount");
    let signs = party.proves("kubernetes", &own);
    if signs {
        assert!(!party.proves("kubernetes", &own), "an assertion is good twice");
        let who = (text(&claims, "iss"), text(&claims, "sub"));
        assert_eq!(who, (Some("kubernetes"), Some("kubernetes")));
        assert!(is_for(&claims, URL) || is_for(&claims, &format!("{URL}/token")));
        assert!(is_within(&claims, "exp", now() - SKEW, now() + 60.0 + SKEW), "{claims:?}");
        assert!(text(&claims, "jti").is_some_and(|jti| (1..=256).contains(&jti.len())));
        let types = ["jwt", "client-authentication+jwt"];
        assert!(typ.is_none_or(|typ| types.contains(&&*bare(typ))), "{typ:?}");
    }
    let is_account = party.proves("workload", &cluster);
    assert!(!is_account || is_of_cluster(&claims), "{claims:?} prove a ServiceAccount");
    signs || is_account
}

/// Grants of `ServiceAccounts`: believed of the account that is listed, and nothing outlives them.
pub fn jwt_bearer(bytes: &[u8]) {
    is_granted(bytes);
}

fn is_granted(bytes: &[u8]) -> bool {
    let party = party();
    if let Ok(text) = std::str::from_utf8(bytes) {
        assert!(party.bring(text).is_none(), "a text is a grant: {text}");
    }
    let Some((typ, claims)) = said(bytes) else { return false };
    let sign = |signer: &Signer| signer.sign(typ, &claims).expect("claims can be signed");
    for other in [&party.client, &party.ci] {
        assert!(party.bring(&sign(other)).is_none(), "another's key makes grants");
    }
    let Some(response) = party.bring(&sign(&party.cluster)) else { return false };
    assert!(is_of_cluster(&claims), "{claims:?} are a grant");
    assert!(is_within(&claims, "exp", now(), f64::INFINITY), "an expired grant");
    assert!(response.refresh_token.is_none(), "a workload has a refresh token");
    outlives_nothing(&response, &claims);
    true
}

/// Tokens of another issuer: believed where each claim that has a rule keeps it, and nothing outlives them.
pub fn subject_token(bytes: &[u8]) {
    is_exchanged(bytes);
}

fn is_exchanged(bytes: &[u8]) -> bool {
    let party = party();
    if let Ok(text) = std::str::from_utf8(bytes) {
        assert!(party.trade(text).is_none(), "a text is exchanged: {text}");
    }
    let Some((typ, claims)) = said(bytes) else { return false };
    let sign = |signer: &Signer| signer.sign(typ, &claims).expect("claims can be signed");
    for other in [&party.client, &party.cluster] {
        assert!(party.trade(&sign(other)).is_none(), "another's key makes subject tokens");
    }
    let Some(response) = party.trade(&sign(&party.ci)) else { return false };
    let alone = claims["aud"] == URL || claims["aud"] == Value::from(vec![URL]);
    assert!(text(&claims, "iss") == Some(CI) && alone, "{claims:?}");
    let keeps = |name: &str, value: &str| match &claims[name] {
        Value::Array(several) => several.iter().any(|one| one == value),
        Value::Bool(flag) => flag.to_string() == value,
        one => one == value,
    };
    assert!(keeps("repository", "my-org/my-repo") && keeps("protected", "true"), "{claims:?}");
    assert!(claims.get("cnf").is_none(), "a token that is bound to a key");
    assert!(is_within(&claims, "exp", now(), now() + 900.0 + SKEW), "{claims:?}");
    assert!(is_within(&claims, "iat", now() - 900.0, now() + SKEW), "{claims:?}");
    assert!(response.refresh_token.is_none(), "a workload has a refresh token");
    outlives_nothing(&response, &claims);
    true
}

/// What was given ends with what was brought.
fn outlives_nothing(response: &TokenResponse, brought: &Claims) {
    let ends = brought["exp"].as_f64().expect("it was believed");
    let tokens = [Some(&response.access_token), response.id_token.as_ref()];
    for token in tokens.into_iter().flatten() {
        let given = unverified_claims(token.expose_secret()).expect("a token of ours");
        assert!(given["exp"].as_f64().is_some_and(|given| given <= ends), "{given:?} of {ends}");
    }
}

/// Proofs of possession (RFC 9449 4.3): good once, for one method, one address and this moment.
pub fn dpop(bytes: &[u8]) {
    is_proof(bytes);
}

fn is_proof(bytes: &[u8]) -> bool {
    let party = party();
    let places = [("/token", None), ("/userinfo", Some(TOKEN))];
    if let Ok(text) = std::str::from_utf8(bytes) {
        for (path, token) in places {
            assert!(!party.holds(text, path, token), "a text is a proof: {text}");
        }
    }
    let Some((typ, mut claims)) = said(bytes) else { return false };
    let is_ours = text(&claims, "nonce") == Some(NONCE);
    if is_ours {
        claims.insert("nonce".into(), dpop::nonce(&party.world.issuer, NOW).into());
    }
    let (signer, jwk) = &party.holder;
    let typ = typ.unwrap_or("dpop+jwt");
    let proof = signer.sign_showing(jwk, typ, &claims).expect("claims can be signed");
    let mut good = false;
    for (path, token) in places {
        if !party.holds(&proof, path, token) {
            continue;
        }
        good = true;
        let address = text(&claims, "htu").unwrap_or_default();
        let address = address.split(['?', '#']).next().unwrap_or_default();
        assert_eq!((text(&claims, "htm"), address), (Some("POST"), &*format!("{URL}{path}")));
        assert!(is_within(&claims, "iat", now() - 60.0 - SKEW, now() + SKEW), "{claims:?}");
        assert!(text(&claims, "jti").is_some_and(|jti| (1..=256).contains(&jti.len())));
        assert!(is_ours || (token.is_some() && text(&claims, "nonce").is_none()), "{claims:?}");
        assert!(token.is_none() || text(&claims, "ath") == Some(ATH), "{claims:?}");
        assert_eq!(bare(typ), "dpop+jwt");
    }
    good
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each target believes when everything is right: without it, that others are refused says nothing.
    #[test]
    fn what_is_right_in_every_claim_is_believed() {
        let seed = |name: &str| {
            let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus");
            std::fs::read(format!("{corpus}/{name}")).expect(name)
        };
        assert!(is_believed_assertion(&seed("client_assertion/good")));
        assert!(is_believed_assertion(&seed("client_assertion/account")));
        assert!(is_granted(&seed("jwt_bearer/good")));
        assert!(is_exchanged(&seed("subject_token/good")));
        assert!(is_proof(&seed("dpop/good")) && is_proof(&seed("dpop/userinfo")));
    }
}
