//! The lies that are told to other readers too, by `benches/lies`: in every mode right bytes or an error, never wrong ones, never a hang.

use futures_util::{StreamExt as _, stream};
use pget_testkit::hostile::{Lie, lies};

use crate::{CHUNK, SEED, SHAPES, SIZE, everywhere};

#[tokio::test]
async fn twenty_nine_lies_get_no_wrong_byte_through() {
    let lies = lies(SEED, SIZE, CHUNK / 4);
    assert_eq!(lies.len(), 29);
    // No HEAD is sent for a read, so it cannot lie: case_50 asks for one.
    let told = lies.into_iter().filter(|lie| lie.case != 50);
    stream::iter(told).for_each_concurrent(4, tell).await;
}

async fn tell(lie: Lie) {
    for run in everywhere(&lie.route, &SHAPES).await {
        let what = format!("case {}, {}, {}, {:?}", lie.case, lie.name, run.mode, run.shape);
        assert!(run.met > 0, "{what}: not met");
        match run.outcome.end {
            Ok(()) => assert!(lie.survivable, "{what}: it was read"),
            Err(error) => assert!(!lie.survivable, "{what}: {}", error.to_line()),
        }
    }
}
