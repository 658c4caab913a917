//! A large file that outlasts interruptions: an earlier run's bytes are continued, and if the
//! object has changed since then, the file is read from its start.
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
    // The bytes and the name are on the disk when the call returns.
    settings.file.sync = true;
    // Be patient with a server that is away, for up to an hour.
    settings.options.retry_timeout = Duration::from_secs(3600);
    let get = |settings: &pget::Settings| {
        let object = pget::builder(url).settings(settings.clone()).blocking()?;
        object.get_file(Path::new(path))
    };
    let stats = match get(&settings) {
        // What an earlier run left is of another revision. Start over.
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
