//! The locks and atomics of what is model-checked: the standard library's, or in the models
//! (`engine/model.rs`) those of shuttle, which runs the same code through many interleavings:
//! `cargo test -p pget-core --features model --lib model`. With that feature the other unit tests
//! cannot run, as these locks work in a model only.
//!
//! What the models cannot see: orderings weaker than `SeqCst` (shuttle has one order of all
//! accesses), and the insides of tokio's and futures' own primitives, which run in one step there.
//! Used by what writers, driver and consumer of a download share: memory, `Engine`, fence,
//! destination's gate, cancel. Counters are the standard library's everywhere.

#[cfg(not(all(test, feature = "model")))]
pub(crate) use std::{
    sync::{Mutex, MutexGuard, atomic},
    thread_local,
};

#[cfg(all(test, feature = "model"))]
pub(crate) use shuttle::{
    sync::{Mutex, MutexGuard, atomic},
    thread_local,
};
