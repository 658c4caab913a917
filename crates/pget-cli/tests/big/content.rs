//! Content that can be checked as fast as it arrives.

use std::{fs::File, io::Write as _, os::unix::fs::FileExt as _, path::Path, sync::LazyLock};

use pget_testkit::{aistore::Object, content::Pattern};

use crate::{servers::PATTERN, sizes::HUGE};

/// Distance of the marks in a sparse object.
const STEP: u64 = 1 << 30;
/// Bytes before and after each multiple of [`STEP`] that are not zero.
const HALF: u64 = 2048;

/// Creates a sparse file with a mark around every GiB.
///
/// A mark consists of the pattern's bytes for its offset, so a misplaced mark is noticed.
pub(crate) fn sparse_file(path: &Path, size: u64) {
    let file = File::create_new(path).expect("a new file");
    file.set_len(size).expect("a sparse file of that size");
    for mark in (STEP..=size).step_by(1 << 30) {
        // The last mark may cross the end.
        let bytes = PATTERN.bytes(mark - HALF, if mark < size { 4096 } else { 2048 });
        file.write_all_at(&bytes, mark - HALF).expect("a mark");
    }
    assert_eq!(file.metadata().expect("a file").len(), size);
}

/// Creates a file of the pattern.
pub(crate) fn pattern_file(path: &Path, size: u64) {
    let mut file = File::create_new(path).expect("a new file");
    let mut piece = vec![0; 1 << 20];
    for at in (0..size).step_by(1 << 20) {
        PATTERN.fill(at, &mut piece);
        file.write_all(&piece).expect("room for it");
    }
}

/// The period of the AIStore stand-in's repeated content.
///
/// It is a multiple of no chunk size, so the content shows where it belongs.
const PERIOD: usize = (4 << 20) - 3;

/// Returns the stand-in's repeated object of 64 GiB.
///
/// The Python package of xxHash computed its XXH64. The stand-in would take as long to compute it
/// as the test takes to read.
pub(crate) fn huge_repeated() -> Object {
    Object::repeated(PATTERN.seed, HUGE).with_stated_checksum("xxhash2", "5a31c7d97f57b4ae")
}

/// Checks the bytes at `offset` of the stand-in's repeated object.
pub(crate) fn check_repeated(offset: u64, data: &[u8]) -> Result<(), u64> {
    static BLOCK: LazyLock<Vec<u8>> = LazyLock::new(|| PATTERN.bytes(0, PERIOD));
    let mut at = offset;
    let mut rest = data;
    while !rest.is_empty() {
        let place = usize::try_from(at % PERIOD as u64).expect("within the block");
        let (head, tail) = rest.split_at(rest.len().min(PERIOD - place));
        if head != &BLOCK[place..place + head.len()] {
            return Err(at);
        }
        at += head.len() as u64;
        rest = tail;
    }
    Ok(())
}

/// Checks the bytes at `offset` of the sparse object.
pub(crate) fn check_sparse(offset: u64, data: &[u8]) -> Result<(), u64> {
    let (mut at, mut rest) = (offset, data);
    while !rest.is_empty() {
        // The first mark that ends after `at`. The bytes around 0 have no mark.
        let mark = ((at + HALF) / STEP + u64::from((at + HALF) % STEP >= 2 * HALF)).max(1) * STEP;
        let marked = at >= mark - HALF;
        let until = if marked { mark + HALF } else { mark - HALF };
        let length = usize::try_from(until - at).map_or(rest.len(), |length| length.min(rest.len()));
        let (head, tail) = rest.split_at(length);
        if marked {
            PATTERN.check(at, head)?;
        } else if !head
            .chunks(4096)
            .all(|chunk| chunk.iter().fold(0, |any, byte| any | byte) == 0)
        {
            return Err(at);
        }
        at += length as u64;
        rest = tail;
    }
    Ok(())
}

/// Reads to the end and compares the bytes with the pattern. Returns their number.
pub(crate) fn check_pattern(pattern: Pattern, from: &mut impl std::io::Read) -> u64 {
    let mut buffer = vec![0; 1 << 18];
    let mut at = 0;
    loop {
        let count = from.read(&mut buffer).expect("what it reads");
        if count == 0 {
            return at;
        }
        assert_eq!(pattern.check(at, &buffer[..count]), Ok(()));
        at += count as u64;
    }
}

#[test]
fn marks_are_noticed() {
    let mut data = vec![0; 10_000];
    PATTERN.fill(STEP - HALF, &mut data[1000..1000 + 4096]);
    let offset = STEP - HALF - 1000;
    assert_eq!(check_sparse(offset, &data), Ok(()));
    assert_eq!(check_sparse(offset + 2000, &data[2000..]), Ok(()));
    assert!(check_sparse(offset + 8, &data).is_err());
    assert_eq!(check_sparse(0, &[0; 5000]), Ok(()));
    data[9000] = 1;
    assert!(check_sparse(offset, &data).is_err());
}
