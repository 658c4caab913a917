//! What all fuzz targets share: the entry that libFuzzer calls, and a limit on what one input may allocate; and the targets that span crates.
//!
//! A target is one file of `fuzz_targets/`: one line that names a function of a crate's `fuzzing` module, or of this crate where it spans several. Those modules exist under `cfg(any(test, fuzzing))`
//! only, so that targets reach private parsers and nothing of them is public; the crates' unit tests run the same functions over the committed corpora. Without
//! `cfg(fuzzing)`, which `scripts/fuzz.sh` and cargo-fuzz set, a target is an empty program.

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

/// All memory that Rust code takes; libFuzzer's own is not in it.
#[cfg(fuzzing)]
#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

/// Runs `target` on `input`. It may hold at most `allowance` bytes and sixteen times the input more than before: an allocation beyond that fails, which ends the
/// process, and libFuzzer keeps the input.
#[cfg(fuzzing)]
pub fn run(target: fn(&[u8]), allowance: usize, input: &[u8]) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            // Telling of a panic takes memory.
            MEMORY.set_limit(usize::MAX).ok();
            hook(info);
        }));
    });
    let most = MEMORY.allocated() + allowance + 16 * input.len();
    // Fails only if more than that is held already.
    assert!(MEMORY.set_limit(most).is_ok(), "the limit cannot be set");
    target(input);
    assert!(MEMORY.set_limit(usize::MAX).is_ok(), "the limit cannot be lifted");
}

/// The program of a target: the function, and how many bytes it may allocate besides a multiple of its input.
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
