//! `make bench`: a load driver for Claviger and for the API server beside it, in one run on one machine.
//!
//! ```text
//! stage (etcd, kube-apiserver, release binary)  ←─ scale (1,000 clients, 100 connectors, 50,000 sessions)
//!    ↑ drive: N clients, each again and again
//! operations (discovery … sign-in, refresh)   ceiling (the API server's own create and patch)
//!    ↓ counters (API server), processes (/proc)
//! report (table, JSON, ratios), plot (SVG)
//! ```
//! What always holds:
//! - Every ratio is taken within one run: two cores share everything, and another machine has other numbers.
//! - Requests are counted by the API server from a phase's first operation to its last, so the counts are exact.
//! - One operation that fails fails the run: a benchmark of errors is none.
//! - Nothing but 127.0.0.1 is asked, every phase is bounded, and what was started ends with the driver.
//! - Rates are never asserted: a loaded machine must not fail a test. `make test` runs what is pure here.

mod ceiling;
mod connection;
mod counters;
mod drive;
mod operations;
mod phases;
mod plot;
mod processes;
mod report;
mod scale;
mod stage;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

pub use report::Report;

/// What the names of the API server's own phases begin with.
const CEILING: &str = "ceiling: ";
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// What a run is told.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long each phase is measured.
    pub measured: Duration,
    /// Clients at once.
    pub clients: usize,
    /// Folder for what comes out.
    pub output: PathBuf,
}

/// Runs everything, prints the table and writes `report.json`, `report.md` and `plot.svg`.
///
/// # Errors
/// When a phase fails; nothing is written then.
pub async fn run(options: &Options) -> Result<()> {
    let report = phases::run(options).await?;
    let text = report.to_text();
    println!("{text}");
    std::fs::create_dir_all(&options.output)
        .with_context(|| format!("failed to make {}", options.output.display()))?;
    let json = serde_json::to_string_pretty(&report)?;
    write(&options.output.join("report.json"), &json)?;
    write(&options.output.join("report.md"), &text)?;
    write(&options.output.join("plot.svg"), &plot::draw(&report))
}

fn write(path: &Path, content: &str) -> Result<()> {
    std::fs::write(path, content).with_context(|| format!("failed to write {}", path.display()))?;
    println!("bench: wrote {}", path.display());
    Ok(())
}
