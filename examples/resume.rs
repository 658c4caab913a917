//! Downloads a large file over several runs, each of which may be interrupted.
//!
//! A run continues with the bytes of an earlier run. If the object has changed since then, the file
//! is downloaded from its start.
//!
//! ```sh
//! cargo run --release -p libpget --example resume -- s3://bucket/archive.tar archive.tar
//! ```

use std::{env, error::Error, path::Path, time::Duration};

use pget::ErrorKind;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [url, path] = &arguments[..] else {
        return Err("usage: resume URL FILE".into());
    };
    let mut settings = pget::Settings::default();
    settings.file.resume = true;
    // When the call returns, the bytes and the name of the file are on the disk.
    settings.file.sync = true;
    // Retry for up to an hour while the server is unavailable.
    settings.options.retry_timeout = Duration::from_secs(3600);
    let get = |settings: &pget::Settings| {
        let object = pget::builder(url).settings(settings.clone()).blocking()?;
        object.get_file(Path::new(path))
    };
    let stats = match get(&settings) {
        // The bytes of the earlier run are of another revision, so start over.
        Err(error) if error.kind() == ErrorKind::ObjectChanged => {
            settings.file.resume = false;
            get(&settings)?
        }
        result => result?,
    };
    println!("{} bytes were missing", stats.delivered);
    for warning in settings.file.warnings.take() {
        println!("done without: {warning}");
    }
    Ok(())
}
