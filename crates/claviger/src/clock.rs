//! The real clock and the real randomness behind the domain's ports.

use aws_lc_rs::rand;
use claviger_domain::ports::{Clock, Entropy};

/// The system's wall clock.
#[derive(Debug)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where the port meets the clock")]
    fn now(&self) -> i64 {
        jiff::Timestamp::now().as_second()
    }
}

/// The system's randomness.
#[derive(Debug)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        if rand::fill(buffer).is_err() {
            // Predictable identifiers would be worse than none.
            tracing::error!("the system has no randomness");
            std::process::abort();
        }
    }
}
