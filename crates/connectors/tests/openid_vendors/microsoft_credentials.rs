//! By what Microsoft knows us, where it is no secret: a certificate, or a federated credential.

use claviger_connectors::BuildError;
use claviger_domain::connector::{LoginError, RecheckError};
use claviger_jose::{Algorithm, PrivateKey, Signer};
use claviger_testkit::ci_issuer::now;
use claviger_testkit::client_assertion::AssertingClient;
use claviger_testkit::openid_provider::{CLIENT_ID, Places};
use claviger_testkit::pki;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use crate::fixture::{Vendor, connector};

const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const OID: &str = "aaaaaaaa-0000-0000-0000-000000000001";
const CLUSTER: &str = "https://oidc.example.com/cluster";
const SUBJECT: &str = "system:serviceaccount:claviger-system:claviger";
const EXCHANGE: &str = "api://AzureADTokenExchange";

/// A tenant, and a connector to it that is known by this.
async fn vendor(by: &Value, secrets: &[(&str, &str)], client: AssertingClient) -> Vendor {
    let vendor =
        Vendor::start(Places::microsoft(TENANT, TENANT), "microsoft", &stated(by), secrets).await;
    vendor.says(json!({
        "iss": format!("https://login.microsoftonline.com/{TENANT}/v2.0"), "tid": TENANT, "oid": OID,
        "email": null, "email_verified": null,
    }));
    vendor.answers("/v1.0/me", 200, &json!({"id": OID, "userPrincipalName": "ada@corp.example"}));
    let mut conduct = vendor.provider.conduct();
    conduct.rotates = false;
    conduct.client = Some(client);
    drop(conduct);
    vendor
}

fn stated(by: &Value) -> Value {
    let mut all = json!({"tenant": TENANT, "clientSecretRef": null});
    all.as_object_mut().unwrap().extend(by.as_object().unwrap().clone());
    all
}

fn certificate() -> Value {
    json!({"certificateSecretRef": {"name": "microsoft"}})
}

/// RFC 7515 4.1.8.
fn thumbprint(pem: &str) -> String {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der);
    data_encoding::BASE64URL_NOPAD.encode(digest.as_ref())
}

/// What the stand-in knows of a certificate's key: Microsoft finds it by the certificate's thumbprint, and not by a name.
fn key_of(pem: &str) -> Value {
    let key = PrivateKey::from_pkcs8_pem(Algorithm::PS256, pem).unwrap();
    json!({"keys": [key.public_jwk()]})
}

#[tokio::test]
async fn a_certificate_is_shown_by_its_thumbprint_and_its_key_signs_for_the_token_endpoint() {
    let certified = pki::rsa("claviger").unwrap();
    let (certificate_pem, key_pem) =
        (certified.certificate_pem.as_str(), certified.key_pem.as_str());
    let secrets = [("tls.crt", certificate_pem), ("tls.key", key_pem)];
    let vendor =
        vendor(&certificate(), &secrets, AssertingClient::known_by(&key_of(key_pem))).await;
    let user = vendor.user().await;
    vendor.again(&user).await.unwrap();
    vendor.built.probe.as_ref().unwrap().probe().await.unwrap();
    let taken = vendor.provider.conduct().client.as_ref().unwrap().taken.clone();
    assert_eq!(taken.len(), 2, "for the code and for the refresh token");
    for (header, claims) in taken {
        let thumbprint = thumbprint(certificate_pem);
        assert_eq!(header, json!({"typ": "JWT", "alg": "PS256", "x5t#S256": thumbprint}));
        let endpoint = format!("https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token");
        assert_eq!(claims["aud"], endpoint);
        assert_eq!([&claims["iss"], &claims["sub"]], [CLIENT_ID, CLIENT_ID]);
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["nbf"].as_i64().unwrap(), 60);
    }
    for form in vendor.provider.conduct().forms.clone() {
        assert!(!form.contains_key("client_secret"), "{form:?}");
    }
}

#[tokio::test]
async fn a_certificate_stands_with_its_own_rsa_key_alone() {
    let (one, other) = (pki::rsa("one").unwrap(), pki::rsa("other").unwrap());
    let elliptic = claviger_testkit::CertificateAuthority::create("ec").unwrap();
    let elliptic = elliptic.server(&["claviger"], &[]).unwrap();
    for (certificate_pem, key_pem) in [
        (one.certificate_pem.as_str(), other.key_pem.as_str()),
        (elliptic.certificate_pem.as_str(), elliptic.key_pem.as_str()),
        (one.key_pem.as_str(), one.key_pem.as_str()),
        (one.certificate_pem.as_str(), one.certificate_pem.as_str()),
    ] {
        let secrets = [("tls.crt", certificate_pem), ("tls.key", key_pem)];
        let error = connector("microsoft", &stated(&certificate()), (&secrets, None)).unwrap_err();
        assert!(matches!(error, BuildError::SecretUnusable { .. }), "{error:?}");
        assert!(!error.to_string().contains("BEGIN"), "{error}");
    }
}

/// A ServiceAccount token as the cluster signs it.
fn cluster_token(signer: &Signer, claims: &Value) -> String {
    let mut all = json!({"iss": CLUSTER, "sub": SUBJECT, "aud": [EXCHANGE], "iat": now(), "exp": now() + 3_600});
    all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    signer.sign(None, &all).unwrap()
}

#[tokio::test]
async fn a_federated_credential_is_the_token_that_the_file_holds_at_that_moment() {
    let key = PrivateKey::generate(Algorithm::RS256, 2_048).unwrap();
    let signer = Signer::new(&key).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let lay = |claims: Value| std::fs::write(&file, cluster_token(&signer, &claims)).unwrap();
    let path = file.to_str().unwrap().to_owned();
    let keys = json!({"keys": [key.public_jwk()]});
    let client = AssertingClient::federated(&keys, [CLUSTER, SUBJECT, EXCHANGE]);
    let secrets = [("federatedTokenFile", path.as_str())];
    let vendor = vendor(&json!({"federatedCredential": {}}), &secrets, client).await;
    let probe = vendor.built.probe.clone().unwrap();
    let missing = probe.probe().await.unwrap_err();
    assert!(missing.message.contains("cannot be read"), "{missing}");

    lay(json!({"aud": EXCHANGE, "jti": "first"}));
    probe.probe().await.unwrap();
    let user = vendor.user().await;
    lay(json!({"aud": EXCHANGE, "jti": "second"}));
    vendor.again(&user).await.unwrap();
    let taken = vendor.provider.conduct().client.as_ref().unwrap().taken.clone();
    let taken: Vec<_> = taken.iter().map(|(_, claims)| claims["jti"].as_str().unwrap()).collect();
    assert_eq!(taken, ["first", "second"]);

    // Of the API server, or old: it goes nowhere, and nobody loses their session.
    vendor.provider.conduct().forms.clear();
    for bad in [json!({"aud": ["https://kubernetes.default.svc"]}), json!({"exp": now() - 1})] {
        lay(bad);
        let refused = vendor.sign_in().await;
        assert!(matches!(refused, Err(LoginError::Unavailable(_))), "{refused:?}");
        let unknown = vendor.again(&user).await;
        assert!(matches!(unknown, Err(RecheckError::Unavailable(_))), "{unknown:?}");
        probe.probe().await.unwrap_err();
    }
    assert!(vendor.provider.conduct().forms.is_empty(), "nothing was sent");
}

#[test]
fn a_federated_credential_without_a_token_of_the_process_is_said() {
    let stated = stated(&json!({"federatedCredential": {}}));
    let error = connector("microsoft", &stated, (&[], None)).unwrap_err().to_string();
    assert!(error.contains("--azure-federated-token-file"), "{error}");
}

#[test]
fn microsoft_knows_us_by_one_thing() {
    let none = connector("microsoft", &stated(&json!({})), (&[], None)).unwrap_err();
    let two = stated(&json!({"federatedCredential": {}, "certificateSecretRef": {"name": "m"}}));
    let secrets = [("tls.crt", "x"), ("tls.key", "x")];
    let two = connector("microsoft", &two, (&secrets, None)).unwrap_err();
    for error in [none, two] {
        assert!(error.to_string().contains("exactly one of"), "{error}");
    }
}
