//! The parts that all fuzz targets share, and the targets that span several crates.
//!
//! The shared parts are the entry that libFuzzer calls, and a limit on the memory that one input
//! may allocate. Each file of `fuzz_targets/` is a target. It names a function of a crate's
//! `fuzzing` module, or of this crate if the target spans several.
//!
//! - The `fuzzing` modules exist only under `cfg(any(test, fuzzing))`. Targets can thus reach
//!   private parsers, and none of them is public.
//! - The crates' unit tests run the same functions over the committed corpora.
//! - `scripts/fuzz.sh` and cargo-fuzz set `cfg(fuzzing)`. Without it, a target is an empty program.

#[cfg(fuzzing)]
mod foreign;
#[cfg(fuzzing)]
mod words;

#[cfg(fuzzing)]
pub use foreign::{c_abi, shared_header};
#[cfg(fuzzing)]
pub use words::{address, answers, options};

#[cfg(fuzzing)]
use std::{alloc::System, sync::Once};

#[cfg(fuzzing)]
use cap::Cap;
#[cfg(fuzzing)]
#[doc(hidden)]
pub use libfuzzer_sys;

/// The allocator of all Rust code. It does not count libFuzzer's own memory.
#[cfg(fuzzing)]
#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

/// Runs `target` on `input` with a limit on its memory.
///
/// The target may allocate `allowance` bytes plus sixteen times the length of the input. An
/// allocation beyond that fails and ends the process, and libFuzzer keeps the input.
#[cfg(fuzzing)]
pub fn run(target: fn(&[u8]), allowance: usize, input: &[u8]) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            // The report of a panic needs memory.
            MEMORY.set_limit(usize::MAX).ok();
            hook(info);
        }));
    });
    let most = MEMORY.allocated() + allowance + 16 * input.len();
    // The call fails only if the process already holds more than the limit.
    assert!(MEMORY.set_limit(most).is_ok(), "the limit cannot be set");
    target(input);
    assert!(MEMORY.set_limit(usize::MAX).is_ok(), "the limit cannot be lifted");
}

/// Defines the program of a target.
///
/// The arguments are the function, and the bytes that it may allocate in addition to a multiple of
/// its input.
#[macro_export]
macro_rules! target {
    ($target:path, $allowance:expr) => {
        #[cfg(fuzzing)]
        $crate::libfuzzer_sys::fuzz_target!(|input: &[u8]| $crate::run($target, $allowance, input));
        #[cfg(not(fuzzing))]
        fn main() {
            eprintln!("run scripts/fuzz.sh: this build has nothing to fuzz with");
            std::process::exit(1);
        }
    };
}
