//! The chunked coding, against a reading of the whole body at once.

use crate::{chunked::Chunked, fuzzing::Front};

/// Decoded in pieces of any size, the data, where it ends and whether it is sound are those that a
/// plain reading of RFC 9112 section 7.1 finds.
pub fn chunked(input: &[u8]) {
    let mut front = Front(input);
    let piece = usize::from(front.byte()) + 1;
    let body = front.0;
    let mut decoder = Chunked::default();
    let (mut data, mut at) = (Vec::new(), 0);
    let mut sound = true;
    while at < body.len() && !decoder.is_done() {
        let part = &body[at..body.len().min(at + piece)];
        let left = decoder.data_left();
        let used = if left > 0 {
            let count = part.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            data.extend_from_slice(&part[..count]);
            decoder.took(count as u64);
            count
        } else {
            match decoder.framing(part) {
                Ok(used) => used,
                Err(_) => {
                    sound = false;
                    break;
                }
            }
        };
        assert!(used > 0 && used <= part.len(), "it does not get on");
        at += used;
    }
    let plain = read(body);
    assert_eq!(sound, plain.sound, "{:?}", String::from_utf8_lossy(body));
    assert_eq!(data, plain.data);
    assert_eq!(decoder.is_done(), plain.end.is_some());
    if let Some(end) = plain.end {
        assert_eq!(at, end);
    }
}

struct Plain {
    data: Vec<u8>,
    /// After the last trailer's empty line.
    end: Option<usize>,
    sound: bool,
}

fn read(body: &[u8]) -> Plain {
    let mut plain = Plain {
        data: Vec::new(),
        end: None,
        sound: true,
    };
    let mut at = 0;
    let outcome = (|| -> Result<Option<usize>, ()> {
        loop {
            let (line, complete) = line(body, at, 4096, |c| c != b'\n')?;
            if at == body.len() {
                return Ok(None);
            }
            let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
            if digits == 0 || !matches!(line.get(digits), None | Some(b';' | b' ' | b'\t')) {
                return Err(());
            }
            let size = line[..digits].iter().try_fold(0_u64, |size, &digit| {
                size.checked_mul(16)?
                    .checked_add(char::from(digit).to_digit(16)?.into())
            });
            let size = size.ok_or(())?;
            if !complete {
                return Ok(None);
            }
            at += line.len() + 2;
            if size == 0 {
                break;
            }
            let take = (body.len() - at).min(usize::try_from(size).unwrap_or(usize::MAX));
            plain.data.extend_from_slice(&body[at..at + take]);
            at += take;
            match &body[at..] {
                [] | [b'\r'] => return Ok(None),
                [b'\r', b'\n', ..] => at += 2,
                _ => return Err(()),
            }
        }
        let trailers = at;
        loop {
            // All trailers share one limit.
            let room = (16 << 10) - (at - trailers);
            let text = |c: u8| c >= b' ' || c == b'\t';
            let (line, complete) = line(body, at, room, text)?;
            if !complete {
                return Ok(None);
            }
            at += line.len() + 2;
            if line.is_empty() {
                return Ok(Some(at));
            }
        }
    })();
    match outcome {
        Ok(end) => plain.end = end,
        Err(()) => plain.sound = false,
    }
    plain
}

/// The line at `at`, without its end, as far as it is there, and whether that is all of it; at most
/// `most` bytes with the end, all of them `allowed`.
fn line(body: &[u8], at: usize, most: usize, allowed: impl Fn(u8) -> bool) -> Result<(&[u8], bool), ()> {
    let rest = &body[at..];
    for (index, &byte) in rest.iter().enumerate() {
        if index >= most {
            return Err(());
        }
        if byte == b'\r' {
            return match rest.get(index + 1) {
                None => Ok((&rest[..index], false)),
                Some(b'\n') if index + 1 < most => Ok((&rest[..index], true)),
                Some(_) => Err(()),
            };
        }
        if !allowed(byte) {
            return Err(());
        }
    }
    Ok((rest, false))
}
