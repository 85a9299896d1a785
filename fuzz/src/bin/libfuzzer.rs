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
        let target = target::named(&name);
        let target = target.unwrap_or_else(|| panic!("FUZZ_TARGET must be one of {names:?}"));
        if target.catches {
            let_panics_be_caught();
        }
        target
    })
}

/// libfuzzer-sys ends the process at every panic, those among them that a library is expected to have and that are caught.
/// One that reaches the target itself ends the process all the same.
fn let_panics_be_caught() {
    drop(std::panic::take_hook());
    std::panic::set_hook(Box::new(|panic| {
        if panic.location().is_some_and(|at| at.file().starts_with("fuzz/")) {
            eprintln!("{panic}");
        }
    }));
}

fuzz_target!(|bytes: &[u8]| (target().run)(bytes));
