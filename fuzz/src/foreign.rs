//! Targets for input from another language or another process.

#![allow(unsafe_code, reason = "calls the C ABI as a C program does")]

use std::{
    ffi::{CStr, CString},
    fs,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    ptr::null_mut,
    sync::LazyLock,
    time::Instant,
};

const OK: i32 = 0;
const INVALID: i32 = -1;

/// Calls the C ABI with arbitrary numbers, texts and pointers.
///
/// Setters must accept exactly the values that the header allows. A text may contain any bytes
/// before its final zero. A foreign pointer must not be taken for a handle.
pub fn c_abi(input: &[u8]) {
    let (numbers, texts) = input.split_at(input.len().min(24));
    let number = |at: usize| {
        numbers
            .get(at..at + 8)
            .map_or(0, |bytes| u64::from_ne_bytes(bytes.try_into().expect("eight")))
    };
    let (wide, other, handle) = (number(0), number(8), number(16));
    #[allow(clippy::cast_possible_truncation, reason = "any number will do")]
    let narrow = wide as u32;
    let options = ffi::pget_options_new();
    let expect =
        |fits: bool, status: i32| assert_eq!(status, if fits { OK } else { INVALID }, "{wide} {other}");
    expect(wide <= 1 << 30, ffi::pget_options_set_chunk_size(options, wide));
    expect(narrow <= 1024, ffi::pget_options_set_concurrency(options, narrow));
    expect(narrow <= 65_536, ffi::pget_options_set_window(options, narrow));
    expect(narrow <= 1000, ffi::pget_options_set_retries(options, narrow));
    expect(narrow <= 1024, ffi::pget_options_set_threads(options, narrow));
    let timeout = (1..=86_400_000).contains(&wide);
    expect(timeout, ffi::pget_options_set_connect_timeout(options, wide));
    expect(timeout, ffi::pget_options_set_first_byte_timeout(options, wide));
    expect(timeout, ffi::pget_options_set_stall_timeout(options, wide));
    expect(timeout, ffi::pget_options_set_retry_timeout(options, wide));
    expect(
        wide != u64::MAX && (other == u64::MAX || wide.checked_add(other).is_some()),
        ffi::pget_options_set_range(options, wide, other),
    );
    // The settings restrict the calls below to one small chunk without retries.
    assert_eq!(ffi::pget_options_set_chunk_size(options, 1), OK);
    assert_eq!(ffi::pget_options_set_range(options, 0, 1), OK);
    assert_eq!(ffi::pget_options_set_threads(options, 1), OK);
    assert_eq!(ffi::pget_options_set_retries(options, 0), OK);

    let foreign = std::ptr::without_provenance_mut(usize::try_from(handle).unwrap_or_default());
    if foreign != options {
        assert_eq!(ffi::pget_options_set_chunk_size(foreign, 1), INVALID);
        ffi::pget_options_free(foreign);
    }
    let mut parts = texts
        .split(|&byte| byte == 0)
        .map(|part| CString::new(part).expect("it has no zero"));
    let mut text = || parts.next().unwrap_or_default();
    let (key, value, url) = (text(), text(), text());
    let utf8 = |text: &CStr| text.to_str().is_ok();
    // SAFETY: the texts end with a zero, and live throughout the calls.
    let (property, header) = unsafe {
        (
            ffi::pget_options_set_property(options, key.as_ptr(), value.as_ptr()),
            ffi::pget_options_set_header(options, key.as_ptr(), value.as_ptr()),
        )
    };
    expect(utf8(&key) && utf8(&value), property);
    expect(utf8(&key) && utf8(&value), header);
    // Open only addresses that need no network: a path that does not exist, or an invalid address.
    let mut path = b"/nonexistent/".to_vec();
    path.extend_from_slice(url.as_bytes());
    if !url.as_bytes().windows(2).any(|two| two == b"..") {
        open(options, &CString::new(path).expect("it has no zero"));
    }
    if !url.as_bytes().contains(&b'/') {
        open(options, &url);
    }
    ffi::pget_options_free(options);
    ffi::pget_options_free(options);
}

/// Opens an object that cannot exist. Checks the status, and that the message is a single line.
fn open(options: *mut ffi::pget_options, url: &CStr) {
    let (mut reader, mut error) = (null_mut(), null_mut());
    // SAFETY: the text ends with a zero, and both pointers have a place.
    let status = unsafe { ffi::pget_open(url.as_ptr(), options, &raw mut reader, &raw mut error) };
    assert!(
        status < 0 && reader.is_null() && !error.is_null(),
        "{url:?}: {status}"
    );
    assert_eq!(ffi::pget_error_status(error), status);
    // SAFETY: the text lives as long as the error.
    let message = unsafe { CStr::from_ptr(ffi::pget_error_message(error)) };
    let message = message.to_str().expect("messages are UTF-8");
    assert!(
        !message.is_empty() && !message.chars().any(char::is_control),
        "{message:?}"
    );
    ffi::pget_error_free(error);
    ffi::pget_error_free(error);
}

/// The name of a segment of this process. Every input creates the segment again.
static NAME: LazyLock<String> = LazyLock::new(|| format!("pget-fuzz-{}", std::process::id()));

/// Attaches to a segment with an arbitrary companion.
///
/// Attaching must fail, or return immediately with no more bytes than the data has.
pub fn shared_header(input: &[u8]) {
    let Some((&[size, keep], said)) = input.split_first_chunk::<2>() else {
        return;
    };
    let data = format!("/dev/shm/{}", *NAME);
    let companion = format!("{data}.pget");
    let write = |path: &str, bytes: &[u8]| {
        fs::remove_file(path).ok();
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .expect("a file");
        std::io::Write::write_all(&mut file, bytes).expect("it is written");
        file.metadata().expect("it is there").ino()
    };
    let inode = write(&data, &vec![7; usize::from(size)]);
    let mut page = said.to_vec();
    page.resize(4096, 0);
    // The inode is mostly the right one, so that the check of the inode does not end the run.
    if keep & 1 == 0 {
        page[40..48].copy_from_slice(&inode.to_ne_bytes());
    }
    if keep & 2 == 0 {
        page[..8].copy_from_slice(b"pgetshm\0");
        page[8..12].copy_from_slice(&1_u32.to_ne_bytes());
    }
    write(&companion, &page);
    if let Ok(buffer) = pget_shm::SharedBuffer::attach(&NAME) {
        let length = buffer.len();
        assert!(length <= usize::from(size), "{length} of {size} bytes");
        for offset in [0, length / 2, length, length + 1, usize::MAX] {
            if let Ok(bytes) = buffer.wait_until(offset, Instant::now()) {
                assert!(
                    bytes.len() >= offset && bytes.len() <= length && bytes.iter().all(|&byte| byte == 7)
                );
            }
        }
        assert!(buffer.as_slice().len() <= length);
        assert!(buffer.revision().len() <= 3 * 1024, "{}", buffer.revision());
        assert_eq!(buffer.len(), length);
    }
    // Ignore a failure: another process may have cleaned up, because these two files are not
    // locked.
    fs::remove_file(&companion).ok();
    fs::remove_file(&data).ok();
}
