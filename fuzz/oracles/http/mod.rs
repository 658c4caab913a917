//! What must hold of the parsers for any input: the functions that the fuzz targets of `fuzz/`
//! call, and that this crate's unit tests run over the committed corpora. Not in an ordinary build.
//!
//! Each compares with an independent, slower reading of the same bytes, rather than only looking
//! for panics.

mod chunked;
mod content_range;
mod head;
mod redirect;
mod url;

pub use chunked::chunked;
pub use content_range::content_range;
pub use head::head;
pub use redirect::redirect;
pub use url::url;

/// Numbers taken from the front of an input, for what a target needs besides bytes.
struct Front<'a>(&'a [u8]);

impl Front<'_> {
    /// The next byte; 0 at the end.
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((&byte, rest)) => {
                self.0 = rest;
                byte
            }
            None => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use pget_testkit::corpus::replay;

    #[test]
    fn corpora_hold() {
        replay("head", super::head);
        replay("content_range", super::content_range);
        replay("redirect", super::redirect);
        replay("chunked", super::chunked);
        replay("address", |input| super::url(&String::from_utf8_lossy(input)));
    }
}
