//! A transport of one's own: reads the numbered pieces that `split -d -b SIZE FILE PREFIX` wrote
//! as if they were still one object.
//!
//! ```sh
//! split -d -a 3 -b 16M snapshot.tar /tmp/piece.
//! cargo run --release -p libpget --example custom_source -- /tmp/piece. > snapshot.tar
//! ```

use std::{env, error::Error, io, sync::Arc};

use pget::{Download, Options};

#[path = "custom_source/split.rs"]
mod split;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let prefix = env::args().nth(1).ok_or("usage: custom_source PREFIX")?;
    let source = Arc::new(split::SplitFile::new(prefix));
    let download = Download::new(source, Options::default())?;
    let mut reader = download.reader();
    while let Some(lease) = reader.next().await? {
        io::Write::write_all(&mut io::stdout(), &lease)?;
    }
    Ok(())
}
