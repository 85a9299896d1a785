//! `make bench`: what Claviger and the API server beside it can do, on this machine, in this run.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use claviger_testkit::bench::{Options, run};

/// Brings up a control plane, loads it, and writes what it found out.
#[derive(Parser)]
struct Args {
    /// Seconds that each phase is measured; scale and idle phases shrink with it.
    #[arg(long, env = "BENCH_SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Clients at once.
    #[arg(long, env = "BENCH_CLIENTS", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=256))]
    clients: u16,
    /// Folder for table, JSON and plot.
    #[arg(long, default_value = "target/bench")]
    output: PathBuf,
}

/// One thread: the driver shares the machine with what it measures, and must not take more than one core.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    let options = Options {
        measured: Duration::from_secs(args.seconds),
        clients: usize::from(args.clients),
        output: args.output,
    };
    match run(&options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
