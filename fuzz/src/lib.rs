//! Bytes from outside, thrown at everything that reads them.
//!
//! ```text
//! corpus/<target>/*  ──┬─ tests/corpora.rs      each as it stands, then a bounded number of mutants (`make test`)
//!                      └─ bin/libfuzzer.rs      guided by coverage, for as long as one likes (`make fuzz`)
//!                                   │
//!                           target::ALL[..].run(bytes)      panics when something does not hold
//! ```
//! A target is a function of bytes. Not to panic is the least that is asked of what it calls: what was read and printed
//! reads the same again, limits hold, nothing opens that we did not seal, no token verifies that was changed, and whatever a
//! stranger sends costs the session store nothing and is answered by no error of ours.

pub mod edits;
pub mod mutant;
pub mod target;
