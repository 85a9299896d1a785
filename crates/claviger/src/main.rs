//! The `claviger` binary: wiring only. What it does is in the crates it wires.

mod admin;
mod args;
mod audit;
mod cleanup;
mod clock;
mod command;
mod expiry_labels;
mod lease;
mod logout_delivery;
mod session_limits;
mod telemetry;
mod upstream_metrics;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Command};

#[tokio::main]
async fn main() -> ExitCode {
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        eprintln!("claviger: another TLS provider is installed already");
        return ExitCode::FAILURE;
    }
    let outcome = match Args::parse().command {
        Command::Run(args) => command::run::run(*args).await,
        Command::AuthenticationConfig(args) => command::authentication_config::print(args).await,
        Command::HashPassword => command::hash_password::print(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("claviger: {error:#}");
            ExitCode::FAILURE
        }
    }
}
