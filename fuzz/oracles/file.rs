//! What must hold of a journal, for any input. Not in an ordinary build.

pub use crate::journal::oracle::journal;

#[cfg(test)]
mod tests {
    use pget_testkit::corpus::replay;

    #[test]
    fn corpora_hold() {
        replay("journal", super::journal);
    }
}
