//! What must hold of a journal, for any input.

use super::{Journal, MAGIC, VERSION, checksum};

/// Reads `input` as a journal that was found beside a part: what is read makes sense and, written
/// again, is read as the same. The digest, which no search would hit, is put before what `input`
/// has after its first byte, the sequence.
pub fn journal(input: &[u8]) {
    let Some((&sequence, body)) = input.split_first() else {
        return;
    };
    let head = format!("{MAGIC} {VERSION} {sequence} {}", body.len());
    let mut bytes = format!("{head} {}\n", checksum(&head, body)).into_bytes();
    bytes.extend_from_slice(body);
    for bytes in [&bytes[..], input] {
        let Some((journal, sequence)) = Journal::read(bytes) else {
            continue;
        };
        let range = journal.range();
        assert!(range.start <= range.end && range.end <= journal.size.max(range.start));
        assert!(journal.landed.total() <= range.end - range.start);
        if let Some(slot) = journal.slot(sequence) {
            let (again, same) = Journal::read(&slot).expect("it was just written");
            assert_eq!(same, sequence);
            assert!(again.landed.total() <= journal.landed.total());
            assert_eq!(
                (&again.asked, &again.revision),
                (&journal.asked, &journal.revision)
            );
        }
    }
}
