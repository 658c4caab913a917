//! What must hold of a journal, for any input. Not in an ordinary build.

/// Reads `input` as a journal that was found beside a part.
pub fn journal(input: &[u8]) {
    crate::journal::hold_for_any_input(input);
}

#[cfg(test)]
mod tests {
    use pget_testkit::corpus::replay;

    #[test]
    fn corpora_hold() {
        replay("journal", super::journal);
    }
}
