//! libFuzzer's way in: `FUZZ_TARGET` names the target. `scripts/fuzz` builds and runs it.
#![no_main]

use std::sync::OnceLock;

use claviger_fuzz::target::{self, Target};
use libfuzzer_sys::fuzz_target;

fn target() -> &'static Target {
    static TARGET: OnceLock<&'static Target> = OnceLock::new();
    TARGET.get_or_init(|| {
        let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
        let names: Vec<_> = target::ALL.iter().map(|target| target.name).collect();
        target::named(&name).unwrap_or_else(|| panic!("FUZZ_TARGET must be one of {names:?}"))
    })
}

fuzz_target!(|bytes: &[u8]| (target().run)(bytes));
