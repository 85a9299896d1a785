//! The command line. Every flag may be given as an environment variable too.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;

/// OpenID Connect for Kubernetes: everything said in custom resources, everything remembered in the cluster.
#[derive(Debug, Parser)]
#[command(name = "claviger", version)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the controller and the OpenID Connect server.
    Run(Box<RunArgs>),
    /// Prints how a kube-apiserver is told to trust an OIDCIssuer.
    AuthenticationConfig(AuthenticationConfigArgs),
    /// Reads a password from standard input and prints its hash for a LocalUser's Secret.
    HashPassword,
}

#[derive(Debug, ClapArgs)]
pub struct ClusterArgs {
    /// Kubeconfig file; without it KUBECONFIG, ~/.kube/config or the pod's ServiceAccount is used.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// Home namespace: where issuers, connectors, keys, users and sessions live. Defaults to the
    /// pod's (`POD_NAMESPACE`) or the kubeconfig's namespace.
    #[arg(long, env = "POD_NAMESPACE")]
    pub namespace: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub struct RunArgs {
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Namespaces whose client Secrets may be read and generated, beside home (comma-separated).
    #[arg(long, value_delimiter = ',', env = "CLAVIGER_TENANT_NAMESPACES")]
    pub tenant_namespaces: Vec<String>,
    /// Address of the OpenID Connect endpoints.
    #[arg(long, default_value = "0.0.0.0:5556", env = "CLAVIGER_LISTEN")]
    pub listen: SocketAddr,
    /// PEM file with the certificate chain, leaf first. Read again when it changes.
    #[arg(long, requires = "tls_key_file", env = "CLAVIGER_TLS_CERT_FILE")]
    pub tls_cert_file: Option<PathBuf>,
    /// PEM file with the private key.
    #[arg(long, requires = "tls_cert_file", env = "CLAVIGER_TLS_KEY_FILE")]
    pub tls_key_file: Option<PathBuf>,
    /// Serves plain HTTP: only behind something that ends TLS on the same machine or mesh.
    #[arg(long, conflicts_with_all = ["tls_cert_file", "tls_key_file"], env = "CLAVIGER_INSECURE_HTTP")]
    pub insecure_http: bool,
    /// Address at which trusted proxies (Connectors with an authProxy) bring their users, by TLS with a
    /// client certificate. Without it there is no such listener.
    #[arg(long, requires = "tls_cert_file", env = "CLAVIGER_AUTH_PROXY_LISTEN")]
    pub auth_proxy_listen: Option<SocketAddr>,
    /// File with the ServiceAccount token that microsoft Connectors with a federatedCredential show to Entra ID. Read whenever
    /// it is shown. Azure Workload Identity names it in the environment.
    #[arg(long, env = "AZURE_FEDERATED_TOKEN_FILE")]
    pub azure_federated_token_file: Option<PathBuf>,
    /// Address of /metrics, /livez and /readyz.
    #[arg(long, default_value = "0.0.0.0:5558", env = "CLAVIGER_ADMIN_LISTEN")]
    pub admin_listen: SocketAddr,
    /// Name of this replica in the leader Lease; the pod's name.
    #[arg(long, env = "POD_NAME")]
    pub identity: Option<String>,
    /// Seconds between two looks for sessions that are over (leader only): 1 to 3600.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=3_600), env = "CLAVIGER_CLEANUP_INTERVAL_SECONDS")]
    pub cleanup_interval_seconds: u64,
    /// A leader that does not renew the Lease for this many seconds leads no more.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(2..=3600), env = "CLAVIGER_LEASE_DURATION_SECONDS")]
    pub lease_duration_seconds: u64,
    /// The Lease is renewed this many seconds before it runs out. Also how far the clocks of two
    /// replicas may differ.
    #[arg(long, default_value_t = 35, value_parser = clap::value_parser!(u64).range(1..=3600), env = "CLAVIGER_LEASE_GRACE_SECONDS")]
    pub lease_grace_seconds: u64,
    /// Session writes per second, on average, that this replica asks of the API server; beyond, clients
    /// are told to come back. Revocations do not count.
    #[arg(long, default_value = "1000", env = "CLAVIGER_SESSION_WRITES_PER_SECOND")]
    pub session_writes_per_second: NonZeroU32,
    /// Session writes at once after a quiet while.
    #[arg(long, default_value = "2000", env = "CLAVIGER_SESSION_WRITES_BURST")]
    pub session_writes_burst: NonZeroU32,
    /// Session writes that may wait for the API server's answer at once.
    #[arg(long, default_value = "512", env = "CLAVIGER_SESSION_WRITES_IN_FLIGHT")]
    pub session_writes_in_flight: NonZeroU32,
    #[command(flatten)]
    pub shares: ShareArgs,
    #[command(flatten)]
    pub bounds: BoundsArgs,
    #[command(flatten)]
    pub outbound: OutboundArgs,
    /// Form of the log lines.
    #[arg(long, value_enum, default_value_t = LogFormat::Json, env = "CLAVIGER_LOG_FORMAT")]
    pub log_format: LogFormat,
}

/// What one account may have written, so that nobody alone fills etcd or uses up all writes.
#[derive(Debug, ClapArgs)]
pub struct ShareArgs {
    /// Sign-ins of one user per minute, on average, that this replica stores; beyond, the client is told
    /// to come back.
    #[arg(long, default_value = "6", env = "CLAVIGER_USER_SIGN_INS_PER_MINUTE")]
    pub user_sign_ins_per_minute: NonZeroU32,
    /// Sign-ins of one user at once after a quiet while.
    #[arg(long, default_value = "30", env = "CLAVIGER_USER_SIGN_INS_BURST")]
    pub user_sign_ins_burst: NonZeroU32,
    /// Refreshes of one session per minute, on average, that this replica stores; beyond, the client is
    /// told to come back.
    #[arg(long, default_value = "60", env = "CLAVIGER_SESSION_REFRESHES_PER_MINUTE")]
    pub session_refreshes_per_minute: NonZeroU32,
    /// Refreshes of one session at once after a quiet while.
    #[arg(long, default_value = "20", env = "CLAVIGER_SESSION_REFRESHES_BURST")]
    pub session_refreshes_burst: NonZeroU32,
}

/// When every cache must have seen a signing key: it signs after the sum of the three. All replicas must
/// be told the same.
#[derive(Debug, ClapArgs)]
pub struct BoundsArgs {
    /// How long relying parties may keep a copy of the key set, in seconds: 45 to 300.
    #[arg(long = "jwks-max-age-seconds", default_value = "60", env = "CLAVIGER_JWKS_MAX_AGE_SECONDS",
        value_parser = clap::value_parser!(u32).range(45..=300))]
    pub jwks_max_age: u32,
    /// How far clocks may be apart, in seconds: 1 to 300.
    #[arg(long = "clock-skew-seconds", default_value = "60", env = "CLAVIGER_CLOCK_SKEW_SECONDS",
        value_parser = clap::value_parser!(u32).range(1..=300))]
    pub clock_skew: u32,
    /// A replica to which the API server has confirmed nothing for this long signs nothing, in seconds: 10
    /// to 600. Below 150, watches are opened again more often.
    #[arg(long = "staleness-seconds", default_value = "150", env = "CLAVIGER_STALENESS_SECONDS",
        value_parser = clap::value_parser!(u32).range(10..=600))]
    pub staleness: u32,
}

/// Where clients may publish their keys.
#[derive(Debug, ClapArgs)]
pub struct OutboundArgs {
    /// Networks (CIDR, comma-separated) from which clients' keys may be fetched though they are not
    /// public, such as that of the cluster's Services. Without it only public addresses are asked.
    #[arg(
        long = "outbound-allowed-networks",
        value_delimiter = ',',
        env = "CLAVIGER_OUTBOUND_ALLOWED_NETWORKS"
    )]
    pub allowed_networks: Vec<IpNet>,
    /// PEM file with certificate authorities that are trusted there, beside the system's.
    #[arg(long = "outbound-ca-file", env = "CLAVIGER_OUTBOUND_CA_FILE")]
    pub ca_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Json,
    Text,
}

#[derive(Debug, ClapArgs)]
pub struct AuthenticationConfigArgs {
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Name of the OIDCIssuer.
    #[arg(long)]
    pub issuer: String,
    /// Client ID that the API server accepts as audience.
    #[arg(long, default_value = "kubernetes")]
    pub client_id: String,
    /// Claim that becomes the user name.
    #[arg(long, default_value = "email")]
    pub username_claim: String,
    /// Put before user names, so that nobody can be named like a built-in user.
    #[arg(long, default_value = "oidc:")]
    pub username_prefix: String,
    /// Put before groups.
    #[arg(long, default_value = "oidc:")]
    pub groups_prefix: String,
    /// PEM file with the certificate authority of the issuer's certificate, if it is a private one.
    #[arg(long)]
    pub certificate_authority: Option<PathBuf>,
    /// What to print.
    #[arg(long, value_enum, default_value_t = ConfigFormat::Config)]
    pub format: ConfigFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ConfigFormat {
    /// A structured `AuthenticationConfiguration` file (`--authentication-config`).
    Config,
    /// The older `--oidc-*` flags, one per line.
    Flags,
}
