//! The head of an answer.

use http::header;

use crate::{
    fuzzing::Front,
    head::{Framing, Head, HeadScanner, LONGEST_HEAD},
    request::Method,
};

/// A head, however it is cut into pieces, is found at the same place with the same content; it is
/// bounded, can be written and read again, and its framing is what the headers say by the letter.
pub fn head(input: &[u8]) {
    let mut front = Front(input);
    let piece = usize::from(front.byte()) + 1;
    let received = front.0;
    let at_once = HeadScanner::default().scan(received);
    let mut scanner = HeadScanner::default();
    let mut in_pieces = Ok(None);
    let mut end = 0;
    while end < received.len() {
        end = received.len().min(end + piece);
        in_pieces = scanner.scan(&received[..end]);
        if !matches!(in_pieces, Ok(None)) {
            break;
        }
    }
    match (at_once, in_pieces) {
        (Ok(Some((head, length))), Ok(Some((same, same_length)))) => {
            assert_eq!((head.status, &head.headers), (same.status, &same.headers));
            assert_eq!(length, same_length);
            sound(&head, &received[..length]);
        }
        (Ok(None), Ok(None)) => assert!(received.len() < LONGEST_HEAD),
        // Too much in one piece may be a head in several.
        (Err(_), Err(_) | Ok(_)) => {}
        (whole, pieces) => panic!("at once {whole:?}, in pieces of {piece} {pieces:?}"),
    }
}

fn sound(head: &Head, bytes: &[u8]) {
    assert!(bytes.len() <= LONGEST_HEAD && bytes.ends_with(b"\n"));
    assert!(head.headers.len() <= 256);
    assert!((100..1000).contains(&head.status.as_u16()));
    let mut again = format!("HTTP/1.1 {}\r\n", head.status.as_u16()).into_bytes();
    for (name, value) in &head.headers {
        assert!(!value.as_bytes().iter().any(|byte| b"\r\n\0".contains(byte)));
        again.extend_from_slice(name.as_str().as_bytes());
        again.extend_from_slice(b":");
        again.extend_from_slice(value.as_bytes());
        again.extend_from_slice(b"\r\n");
    }
    again.extend_from_slice(b"\r\n");
    match HeadScanner::default().scan(&again) {
        Ok(Some((same, length))) => {
            assert_eq!((head.status, &head.headers), (same.status, &same.headers));
            assert_eq!(length, again.len());
        }
        other => panic!("written again it is {other:?}"),
    }
    let lengths = head.headers.get_all(header::CONTENT_LENGTH).iter().count();
    let codings = head.headers.get_all(header::TRANSFER_ENCODING).iter().count();
    let Ok(framing) = head.framing(Method::Get) else {
        return;
    };
    // Several lengths are one if all of them say the same (RFC 9110 section 8.6).
    let bodiless = head.status == 204 || head.status == 304;
    assert!(codings <= 1 && (lengths == 0 || codings == 0) || bodiless);
    match framing {
        Framing::Length(0) if bodiless => {}
        Framing::Length(length) => {
            let values = head.headers.get_all(header::CONTENT_LENGTH).iter();
            let texts = values.flat_map(|value| value.to_str().expect("digits").split(','));
            let mut count = 0;
            for text in texts.map(|text| text.trim_matches([' ', '\t'])) {
                let digits = text.trim_start_matches('0');
                assert_eq!(if digits.is_empty() { "0" } else { digits }, length.to_string());
                count += 1;
            }
            assert!(count >= lengths.max(1));
        }
        Framing::Chunked => assert_eq!((lengths, codings), (0, 1)),
        Framing::Close => assert_eq!((lengths, codings), (0, 0)),
    }
}
