//! Child processes that do not outlive us.
//!
//! - Each child leads a process group of its own; its handle, when dropped, kills that whole group.
//! - If this process dies without dropping anything (`SIGKILL`, abort), the kernel kills the child: it is
//!   started by `setpriv --pdeathsig KILL`. That signal is tied to the *thread* that started the child, and
//!   a test's thread ends with the test, so one thread that lives as long as the process starts them all.
//! - What a child prints goes to a log file whose end is part of every error about it; one that ended
//!   although nobody told it to is named, with that end, when its handle is dropped.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal};

use crate::eventually;

const LOG_LINES_IN_ERRORS: usize = 15;

/// A running child and the group it leads. Dropping it kills the group.
#[derive(Debug)]
pub struct Supervised {
    name: String,
    child: Child,
    group: Pid,
    log: PathBuf,
    /// The same file, for when its folder is gone already.
    output: File,
    told_to_end: AtomicBool,
}

/// A command for `program` that the kernel kills when the thread that spawned it ends.
/// Give it to [`Supervised::spawn`], which has a thread for that.
pub fn tied(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

impl Supervised {
    /// Starts `command` (made by [`tied`]) in a group of its own, without input, its output appended to `log`.
    pub fn spawn(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let output = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(log)
            .with_context(|| format!("failed to open {}", log.display()))?;
        command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("failed to duplicate a log file")?)
            .stderr(output.try_clone().context("failed to duplicate a log file")?);
        let child = spawn_on_lasting_thread(command)
            .with_context(|| format!("failed to start {name} by setpriv (util-linux)"))?;
        let group = Pid::from_child(&child);
        let (name, log) = (name.to_owned(), log.to_owned());
        Ok(Self { name, child, group, log, output, told_to_end: AtomicBool::new(false) })
    }

    /// The process id; it is also the id of the process group.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// `None` while it runs.
    pub fn exit_status(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("failed to wait for {}", self.name))
    }

    /// An error with the end of the log if it has ended.
    pub fn check_alive(&mut self) -> Result<()> {
        match self.exit_status()? {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status}:\n{}", self.name, self.log_tail()),
        }
    }

    /// Waits until it answers, by whatever `ask` takes for an answer.
    ///
    /// # Errors
    /// When it ends, or does not answer in time, with the end of its log.
    pub async fn until_it_answers<F>(&mut self, within: Duration, mut ask: F) -> Result<()>
    where
        F: AsyncFnMut() -> Result<()>,
    {
        let answered = eventually(within, async || {
            if let Err(ended) = self.check_alive() {
                return Ok(Err(ended));
            }
            ask().await?;
            Ok(Ok(()))
        })
        .await;
        answered.with_context(|| {
            format!("{} does not answer; it says:\n{}", self.name, self.log_tail())
        })?
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        let length = self.output.metadata().map_or(0, |metadata| metadata.len());
        let mut text = vec![0; usize::try_from(length).unwrap_or_default()];
        let read = self.output.read_at(&mut text, 0).unwrap_or_default();
        text.truncate(read);
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_IN_ERRORS)..].join("\n")
    }

    /// Sends `signal` to the whole group.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        if matches!(signal, Signal::TERM | Signal::INT | Signal::KILL) {
            self.told_to_end.store(true, Ordering::Relaxed);
        }
        rustix::process::kill_process_group(self.group, signal)
            .with_context(|| format!("failed to send {signal:?} to {}", self.name))
    }

    /// Ends the group at once (`SIGKILL`) and returns when the process is gone.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // Until the child is waited for, its id cannot become somebody else's.
        match self.child.try_wait() {
            Ok(None) => drop(self.signal(Signal::KILL)),
            Ok(Some(status)) if !self.told_to_end.load(Ordering::Relaxed) => {
                eprintln!("{} had ended by itself, {status}:\n{}", self.name, self.log_tail());
            }
            Ok(Some(_)) | Err(_) => {}
        }
        let _ = self.child.wait();
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.end();
    }
}

struct Order {
    command: Command,
    answer: mpsc::Sender<io::Result<Child>>,
}

/// Spawns on a thread that ends with the process, since the death signal is tied to the spawning thread.
fn spawn_on_lasting_thread(command: Command) -> Result<Child> {
    static ORDERS: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();
    let orders = ORDERS.get_or_init(|| {
        let (sender, receiver) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for Order { mut command, answer } in receiver {
                // Nobody waits for the answer any more: the child dropped here is nobody's, so it ends.
                if let Err(mpsc::SendError(Ok(mut child))) = answer.send(command.spawn()) {
                    let _ = child.kill();
                    let _ = child.wait();
                }
            }
        });
        Mutex::new(sender)
    });
    let (answer, answered) = mpsc::channel();
    orders
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send(Order { command, answer })
        .map_err(|_| anyhow!("the thread that starts children has ended"))?;
    Ok(answered.recv().context("the thread that starts children has ended")??)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eventually;
    use anyhow::ensure;
    use std::time::Duration;

    fn group_is_gone(group: Pid) -> bool {
        rustix::process::test_kill_process_group(group).is_err()
    }

    #[tokio::test]
    async fn a_dropped_handle_takes_grandchildren_along() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = tied("sh");
        command.args(["-c", "sleep 1000 & echo started; wait"]);
        let child = Supervised::spawn("sh", command, &folder.path().join("log")).unwrap();
        let group = child.group;
        eventually(Duration::from_secs(5), async || {
            ensure!(child.log_tail() == "started", "the shell has not started its child");
            Ok(())
        })
        .await
        .unwrap();
        drop(child);
        // The orphaned sleep is dead, but PID 1 has yet to reap it.
        eventually(Duration::from_secs(5), async || {
            ensure!(group_is_gone(group), "process group {group:?} is still there");
            Ok(())
        })
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn a_child_outlives_the_thread_that_asked_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut child = thread::spawn(move || {
            let mut command = tied("sh");
            command.args(["-c", "read nothing; echo up; exec sleep 1000"]);
            Supervised::spawn("sh", command, &log).unwrap()
        })
        .join()
        .unwrap();
        eventually(Duration::from_secs(5), async || {
            ensure!(child.log_tail() == "up", "the shell has not started");
            Ok(())
        })
        .await
        .unwrap();
        child.check_alive().unwrap();
    }

    #[tokio::test]
    async fn the_error_about_an_ended_child_shows_its_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = tied("sh");
        command.args(["-c", "echo alas; exit 3"]);
        let mut child = Supervised::spawn("sh", command, &folder.path().join("log")).unwrap();
        eventually(Duration::from_secs(5), async || {
            ensure!(child.exit_status()?.is_some(), "still running");
            Ok(())
        })
        .await
        .unwrap();
        let message = child.check_alive().unwrap_err().to_string();
        assert!(message.contains("exit status: 3") && message.ends_with("alas"), "{message}");
    }
}
