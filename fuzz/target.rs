//! One program a target: its name says which.
#![no_main]

use std::sync::OnceLock;

use foreshore::fuzz::{Target, target};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    static TARGET: OnceLock<Target> = OnceLock::new();
    let target = TARGET.get_or_init(|| target(env!("CARGO_BIN_NAME")).expect("each program is named after a target"));
    if data.len() <= target.max_len {
        (target.run)(data);
    }
});
