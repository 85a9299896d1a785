//! What processes cost: CPU seconds and resident memory, from `/proc`.

use anyhow::{Context, Result};
use serde::Serialize;

/// `USER_HZ`: 100 on every Linux architecture, whatever the kernel's own tick is (proc(5)).
const TICKS_PER_SECOND: f64 = 100.0;

/// A process under observation.
#[derive(Debug, Clone)]
pub struct Observed {
    pub name: &'static str,
    pub pid: u32,
}

/// Resident memory, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// All of it (`VmRSS`).
    pub resident: u64,
    /// Heap and stacks: nobody else's (`RssAnon`).
    pub anonymous: u64,
    /// Pages of the binary and its libraries that were touched (`RssFile`): shared, and given back under pressure.
    pub file: u64,
}

impl Observed {
    /// CPU seconds, user and system, since it started.
    ///
    /// # Errors
    /// When it is gone.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let stat = self.read("stat")?;
        cpu_ticks(&stat)
            .map(|ticks| ticks / TICKS_PER_SECOND)
            .with_context(|| format!("failed to read the times of {}: {stat}", self.name))
    }

    /// Its memory now.
    ///
    /// # Errors
    /// When it is gone.
    pub fn memory(&self) -> Result<Memory> {
        let status = self.read("status")?;
        memory(&status).with_context(|| format!("failed to read the memory of {}", self.name))
    }

    fn read(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.pid);
        std::fs::read_to_string(&path).with_context(|| format!("{} is gone: no {path}", self.name))
    }
}

/// `utime + stime`: fields 14 and 15, counted after the name, which may hold blanks and parentheses.
fn cpu_ticks(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u32>().ok().map(f64::from);
    Some(next()? + next()?)
}

fn memory(status: &str) -> Option<Memory> {
    let kilobytes = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1_024)
    };
    Some(Memory {
        resident: kilobytes("VmRSS")?,
        anonymous: kilobytes("RssAnon")?,
        file: kilobytes("RssFile")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "17 (a) (b) S 1 17 17 0 -1 4194560 9 0 0 0 250 50 0 0 20 0 3 0 100 1 2 3";
        assert_eq!(cpu_ticks(stat), Some(300.0));
        assert_eq!(cpu_ticks("17 (cut"), None);
    }

    #[test]
    fn memory_is_told_apart() {
        let status = "Name:\tx\nVmRSS:\t   2048 kB\nRssAnon:\t    512 kB\nRssFile:\t   1536 kB\n";
        let expected = Memory { resident: 2 << 20, anonymous: 512 << 10, file: 1_536 << 10 };
        assert_eq!(memory(status), Some(expected));
        assert_eq!(memory("VmRSS:\tno kB"), None);
    }

    #[test]
    fn this_process_can_be_observed() {
        let own = Observed { name: "this test", pid: std::process::id() };
        assert!(own.cpu_seconds().unwrap() >= 0.0);
        let memory = own.memory().unwrap();
        assert!(memory.resident > 0 && memory.resident >= memory.file);
    }
}
