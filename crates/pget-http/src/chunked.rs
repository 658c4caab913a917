//! The chunked transfer coding (RFC 9112 section 7.1) as a state machine that sees only the
//! framing.
//!
//! Pure: the caller feeds it framing bytes and receives the data itself, straight into the slot.
//! Invariants: sizes are checked, extensions and trailers are skipped and bounded, and nothing but
//! CR LF ends a line.

use std::fmt;

/// The most bytes of one size line, extensions included.
const LONGEST_LINE: u32 = 4096;
/// The most bytes of all trailers.
const LONGEST_TRAILERS: u32 = 16 * 1024;

/// Where the decoder stands.
#[derive(Debug, Default)]
pub(crate) struct Chunked {
    state: State,
    /// Bytes of data left in the chunk at hand, or its size while that is being read.
    left: u64,
    /// Bytes of the current line (or of the trailers) so far.
    seen: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Before the first digit.
    #[default]
    Size,
    Digits,
    Extension,
    LineFeed,
    Data,
    DataCarriageReturn,
    DataLineFeed,
    TrailerStart,
    Trailer,
    TrailerLineFeed,
    LastLineFeed,
    Done,
}

/// The body is not in the chunked coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadChunk(&'static str);

impl fmt::Display for BadChunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bad chunked coding: {}", self.0)
    }
}

impl std::error::Error for BadChunk {}

impl Chunked {
    /// Bytes of data to be received before more framing comes; 0 while framing is due.
    pub(crate) fn data_left(&self) -> u64 {
        if self.state == State::Data { self.left } else { 0 }
    }

    /// The last chunk and its trailers are over.
    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// `count` bytes of data, at most [`data_left`](Self::data_left), were received.
    pub(crate) fn took(&mut self, count: u64) {
        debug_assert!(count <= self.data_left(), "more data than the chunk has");
        self.left = self.left.saturating_sub(count);
        if self.left == 0 && self.state == State::Data {
            self.state = State::DataCarriageReturn;
        }
    }

    /// Consumes framing from the front of `input` until data begins, the body is over, or `input`
    /// is used up; returns how much.
    pub(crate) fn framing(&mut self, input: &[u8]) -> Result<usize, BadChunk> {
        let mut used = 0;
        for &byte in input {
            if matches!(self.state, State::Data | State::Done) {
                break;
            }
            used += 1;
            self.step(byte)?;
        }
        Ok(used)
    }

    fn step(&mut self, byte: u8) -> Result<(), BadChunk> {
        self.seen += 1;
        let limit = match self.state {
            State::TrailerStart | State::Trailer | State::TrailerLineFeed | State::LastLineFeed => {
                LONGEST_TRAILERS
            }
            _ => LONGEST_LINE,
        };
        if self.seen > limit {
            return Err(BadChunk("a line is too long"));
        }
        self.state = match (self.state, byte) {
            (State::Size | State::Digits, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                self.left = self
                    .left
                    .checked_mul(16)
                    .and_then(|size| size.checked_add(digit.into()))
                    .ok_or(BadChunk("a size that cannot be counted"))?;
                State::Digits
            }
            (State::Size, _) => return Err(BadChunk("no size")),
            (State::Digits | State::Extension, b'\r') => State::LineFeed,
            (State::Digits, b';' | b' ' | b'\t') => State::Extension,
            (State::Digits, _) => return Err(BadChunk("a size that is no number")),
            (State::Extension, b'\n') => return Err(BadChunk("a line feed in an extension")),
            (State::Extension, _) => State::Extension,
            (State::LineFeed, b'\n') => {
                self.seen = 0;
                if self.left == 0 {
                    State::TrailerStart
                } else {
                    State::Data
                }
            }
            (State::DataCarriageReturn, b'\r') => State::DataLineFeed,
            (State::DataLineFeed, b'\n') => {
                self.seen = 0;
                State::Size
            }
            (State::DataCarriageReturn | State::DataLineFeed, _) => {
                return Err(BadChunk("a chunk longer than its size"));
            }
            (State::TrailerStart, b'\r') => State::LastLineFeed,
            (State::TrailerStart | State::Trailer, 0x20..=0xff | b'\t') => State::Trailer,
            (State::Trailer, b'\r') => State::TrailerLineFeed,
            (State::TrailerLineFeed, b'\n') => State::TrailerStart,
            (State::LastLineFeed, b'\n') => State::Done,
            (
                State::LineFeed
                | State::TrailerStart
                | State::Trailer
                | State::TrailerLineFeed
                | State::LastLineFeed,
                _,
            ) => {
                return Err(BadChunk("a line that does not end"));
            }
            (State::Data | State::Done, _) => return Err(BadChunk("framing where none belongs")),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `input` fed in pieces of `piece` bytes; the data and the unused rest.
    fn decode(input: &[u8], piece: usize) -> Result<(Vec<u8>, usize, bool), BadChunk> {
        let mut decoder = Chunked::default();
        let mut data = Vec::new();
        let mut at = 0;
        while at < input.len() && !decoder.is_done() {
            let part = &input[at..input.len().min(at + piece)];
            let left = usize::try_from(decoder.data_left()).unwrap_or(usize::MAX);
            if left > 0 {
                let count = left.min(part.len());
                data.extend_from_slice(&part[..count]);
                decoder.took(count as u64);
                at += count;
            } else {
                at += decoder.framing(part)?;
            }
        }
        Ok((data, at, decoder.is_done()))
    }

    #[test]
    fn any_split_decodes_the_same() {
        let body =
            b"5;name=\"value\"\r\nhello\r\nA \r\n0123456789\r\n0\r\nTrailer: yes\r\nOther: x\r\n\r\nNEXT";
        for piece in 1..=body.len() {
            let (data, used, done) = decode(body, piece).expect("it is well formed");
            assert_eq!(
                (data.as_slice(), used, done),
                (&b"hello0123456789"[..], body.len() - 4, true)
            );
        }
    }

    #[test]
    fn rubbish_is_refused() {
        let long_extension = [b"5;".as_slice(), &[b'x'; 5000], b"\r\nhello\r\n0\r\n\r\n"].concat();
        let long_trailer = [b"0\r\nT: ".as_slice(), &[b'x'; 20_000], b"\r\n\r\n"].concat();
        let bad: [&[u8]; 11] = [
            b"\r\n",
            b"-5\r\nhello",
            b"+5\r\nhello",
            b"0x5\r\nhello",
            b"5\nhello",
            b"3\r\nhello\r\n",
            b"11111111111111111\r\n",
            b"5\rhello",
            b"0\r\n\n",
            &long_extension,
            &long_trailer,
        ];
        for body in bad {
            assert!(
                decode(body, 7).is_err(),
                "{:?}",
                String::from_utf8_lossy(&body[..body.len().min(40)])
            );
        }
    }

    #[test]
    fn a_cut_body_is_not_done() {
        let body = b"5\r\nhello\r\n0\r\n\r\n";
        for cut in 0..body.len() {
            let (_, _, done) = decode(&body[..cut], 3).expect("a prefix is well formed");
            assert!(!done, "cut at {cut}");
        }
    }

    #[test]
    fn seeded_noise_never_panics() {
        let alphabet = b"0123456789abcdefF;\r\n\r\nxX \t:\0\xff";
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..20_000 {
            let mut input = Vec::new();
            for _ in 0..24 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let index = usize::try_from(state % alphabet.len() as u64).unwrap_or_default();
                input.push(alphabet[index]);
            }
            drop(decode(&input, 5));
        }
    }
}
