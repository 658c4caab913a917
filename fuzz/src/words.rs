//! Targets for texts that people and servers write: addresses, options, command lines, error
//! bodies.

use clap::Parser as _;

/// The program's definition of its command line.
#[path = "../../crates/pget-cli/src/args.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "what the program does with it is not here"
)]
mod args;

/// The program's options that fill the library's settings.
#[path = "../../crates/pget-cli/src/options.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "what the program does with it is not here"
)]
mod options;

/// Passes an address to every transport.
pub fn address(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    pget::fuzzing::address(text);
    pget_http::fuzzing::url(text);
    pget_s3::fuzzing::address(text);
    pget_aistore::fuzzing::address(text);
}

/// Parses the first line as an address, the others as `NAME=VALUE`, and all of them as a command
/// line.
pub fn options(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let mut lines = text.split('\n');
    let address = lines.next().unwrap_or_default();
    let pairs: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once('=')).take(16).collect();
    pget::fuzzing::options(address, &pairs);
    pget_s3::fuzzing::settings(address, &pairs);
    pget_aistore::fuzzing::settings(&pairs);
    command_line(text);
}

/// Parses a command line.
///
/// A size of digits only must have that value. Every accepted value must be usable as a setting.
fn command_line(text: &str) {
    let words = text.split('\n').take(32);
    let Ok(arguments) = args::Arguments::try_parse_from(std::iter::once("pget").chain(words)) else {
        return;
    };
    let (address, reach, read, file) = match &arguments.command {
        args::Command::Get(get) => {
            let first = get.addresses.first().map_or("", String::as_str);
            (first, &get.reach, Some(&get.read), Some(&get.file))
        }
        args::Command::Cat(cat) => (&*cat.object.address, &cat.object.reach, Some(&cat.read), None),
        args::Command::Stat(stat) => (&*stat.object.address, &stat.object.reach, None, None),
        args::Command::Shm(args::Shm::Get(get)) => {
            (&*get.object.address, &get.object.reach, Some(&get.read), None)
        }
        args::Command::Shm(args::Shm::Ls | args::Shm::Clean)
        | args::Command::Completions { .. }
        | args::Command::ManPages { .. } => return,
    };
    let mut settings = pget::Settings::default();
    reach.fill(&mut settings);
    if let Some(file) = file {
        file.fill(&mut settings);
    }
    let headers = settings.headers.iter().map(|(name, value)| (name, value));
    for (name, value) in settings.properties.iter().chain(headers) {
        assert!(!name.is_empty() && name.trim() == name, "{name:?}");
        assert!(text.contains(value.as_str()));
    }
    let Some(read) = read else { return };
    read.fill(&mut settings);
    let options = &settings.options;
    for (option, size) in [
        ("chunk-size", options.chunk_size),
        ("offset", Some(options.offset)),
        ("length", options.length),
        ("memory-limit", Some(options.budget.limit())),
    ] {
        let written: Vec<&str> = text
            .split('\n')
            .filter_map(|word| word.strip_prefix("--")?.strip_prefix(option)?.strip_prefix('='))
            .collect();
        if let ([digits], Some(size)) = (&written[..], size)
            && read.names().any(|name| name == option)
            && !digits.is_empty()
            && digits.bytes().all(|byte| byte.is_ascii_digit())
        {
            let meant = digits.parse::<u64>().expect("it was taken");
            let least = if option == "memory-limit" {
                assert_ne!(meant, 0);
                1 << 20
            } else {
                0
            };
            assert_eq!(meant.max(least), size, "--{option}={digits}");
        }
    }
    drop(pget::builder(address).settings(settings));
}

/// Parses bodies of errors of S3 and of AIStore.
pub fn answers(input: &[u8]) {
    pget_s3::fuzzing::document(input);
    pget_aistore::fuzzing::answer(input);
}
