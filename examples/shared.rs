//! Fetches an object once into shared memory. Four other processes digest it as it arrives.
//!
//! ```sh
//! cargo run --release -p libpget --example shared -- s3://bucket/key
//! ```

use std::{
    env,
    error::Error,
    process::{Child, Command},
};

use pget::{Placement, SharedBuffer};
use sha2::{Digest, Sha256};

const READERS: usize = 4;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [url] => fetch(url),
        ["--attach", name] => digest(name),
        _ => Err("usage: shared URL".into()),
    }
}

fn fetch(url: &str) -> Result<(), Box<dyn Error>> {
    // The segment has no name in /dev/shm. The system removes it, however this process ends.
    let mut download = pget::builder(url)
        .blocking()
        .expect("an object")
        .get_shared(Placement::Anonymous)?;
    let reader = || {
        let mut command = Command::new(env::current_exe()?);
        command.args(["--attach", download.buffer().name()]).spawn()
    };
    let readers = (0..READERS)
        .map(|_| reader())
        .collect::<Result<Vec<Child>, _>>()?;
    let ended = download.ended();
    for mut reader in readers {
        if !reader.wait()?.success() && ended.is_ok() {
            return Err("a reader failed".into());
        }
    }
    ended?;
    Ok(())
}

fn digest(name: &str) -> Result<(), Box<dyn Error>> {
    let shared = SharedBuffer::attach(name)?;
    let mut digest = Sha256::new();
    let mut done = 0;
    while done < shared.len() {
        // The error is that of the download, or reports that the fetching process died.
        let there = shared.wait_for(done + 1)?;
        digest.update(&there[done..]);
        done = there.len();
    }
    // Only after this call is it certain that all bytes were of one revision.
    shared.wait_for(done)?;
    let digest: String = digest
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    println!("{done} bytes, {}, sha256 {digest}", shared.revision());
    Ok(())
}
