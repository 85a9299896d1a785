//! Runs a command with a real control plane beside it: `with-control-plane -- cargo test -p claviger-e2e`.
//!
//! The command finds it by `KUBECONFIG` (the admin's), `CLAVIGER_CONTROL_PLANE_DIR` (state folder),
//! `CLAVIGER_CONTROL_PLANE_BIN` (kubectl and the others; in front of `PATH` too). Whatever happens, nothing
//! of it is left behind: the command leads a process group that is killed when the command ends or when we do
//! (a watchdog sees to that should we be killed), and etcd and the API server die with us. We exit with the
//! command's status, or 128 + the signal that ended it.
//!
//! The command runs in the background of a terminal, so its input is empty if ours is one.

use std::ffi::OsString;
use std::io::{IsTerminal, stdin};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use claviger_testkit::control_plane::{BINARIES_ENV, STATE_ENV};
use claviger_testkit::{Authentication, ControlPlane, RunningControlPlane, process};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};
use tokio::time::timeout;

/// How long the command may take to end after a signal, before it is killed.
const GRACE: Duration = Duration::from_secs(10);

/// Kills the group `$0` unless told otherwise before its input ends, as it does when we die.
const WATCHDOG: &str = r#"read -r word; [ "$word" = stand-down ] || kill -s KILL -- "-$0""#;

/// Run a command with a real control plane (etcd + kube-apiserver) beside it.
#[derive(Parser)]
struct Args {
    /// Where it lives; replaced if it exists, and left there [default: a scratch folder, removed at the end]
    #[arg(long, value_name = "DIR")]
    state_folder: Option<PathBuf>,
    /// The `AuthenticationConfiguration` it starts with [default: no issuer]
    #[arg(long, value_name = "FILE")]
    authentication_config: Option<PathBuf>,
    /// One more flag for kube-apiserver; may be repeated
    #[arg(long = "api-server-flag", value_name = "FLAG", allow_hyphen_values = true)]
    api_server_flags: Vec<String>,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("with-control-plane: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<u8> {
    let mut signals = Signals::new()?;
    let plane = tokio::select! {
        plane = start(&args) => plane?,
        signal = signals.next() => return Ok(code_of(signal)),
    };
    let status = Companion::spawn(&args.command, &plane)?.wait(&mut signals).await?;
    Ok(match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).unwrap_or(u8::MAX),
        (None, signal) => u8::try_from(128 + signal.unwrap_or_default()).unwrap_or(u8::MAX),
    })
}

async fn start(args: &Args) -> Result<RunningControlPlane> {
    let mut builder = ControlPlane::builder();
    if let Some(folder) = &args.state_folder {
        builder = builder.state_folder(folder);
    }
    if let Some(file) = &args.authentication_config {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("failed to read {}", file.display()))?;
        builder = builder.authentication(Authentication::Configuration(text));
    }
    for flag in &args.api_server_flags {
        builder = builder.api_server_flag(flag);
    }
    builder.start().await
}

/// The command, the group it leads, and the watchdog that ends the group should we not be able to.
struct Companion {
    command: Child,
    group: Pid,
    watchdog: Child,
}

impl Companion {
    fn spawn(command: &[OsString], plane: &ControlPlane) -> Result<Self> {
        let (program, arguments) = command.split_first().context("no command")?;
        let mut path = plane.bin_folder().as_os_str().to_owned();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut command = Command::from(process::tied(program));
        command
            .args(arguments)
            .env("KUBECONFIG", plane.kubeconfig())
            .env(STATE_ENV, plane.state_folder())
            .env(BINARIES_ENV, plane.bin_folder())
            .env("PATH", path)
            .process_group(0);
        if stdin().is_terminal() {
            command.stdin(Stdio::null());
        }
        let command = command.spawn().context("failed to run setpriv (util-linux)")?;
        let group = command.id().context("the command has no process id")?;
        let watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, &group.to_string()])
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .context("failed to start the watchdog")?;
        let group = i32::try_from(group).ok().and_then(Pid::from_raw).context("no process id")?;
        Ok(Self { command, group, watchdog })
    }

    /// Waits for the command to end; hands signals on to its whole group.
    async fn wait(mut self, signals: &mut Signals) -> Result<ExitStatus> {
        let received = tokio::select! {
            status = self.command.wait() => return status.context("failed to wait for the command"),
            signal = signals.next() => signal,
        };
        let _ = kill_process_group(self.group, received);
        tokio::select! {
            ended = timeout(GRACE, self.command.wait()) => if let Ok(status) = ended {
                return status.context("failed to wait for the command");
            },
            _ = signals.next() => {}
        }
        let _ = kill_process_group(self.group, Signal::KILL);
        self.command.wait().await.context("failed to wait for the command")
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        // The group's id stays taken while anybody is in it; if nobody is, there is nobody to kill.
        let _ = kill_process_group(self.group, Signal::KILL);
        let _ = self.watchdog.start_kill();
    }
}

struct Signals {
    interrupt: Stream,
    terminate: Stream,
    hang_up: Stream,
}

impl Signals {
    fn new() -> Result<Self> {
        let listen = |kind| signal(kind).context("failed to listen for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.hang_up.recv() => Signal::HUP,
        }
    }
}

fn code_of(signal: Signal) -> u8 {
    u8::try_from(128 + signal.as_raw()).unwrap_or(u8::MAX)
}
