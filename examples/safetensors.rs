//! Reads only the tensors of a safetensors file whose names begin with a prefix.
//!
//! It reads the header and then the ranges of those tensors, all of one revision of the file.
//!
//! ```sh
//! cargo run --release -p libpget --example safetensors -- \
//!     s3://models/weights.safetensors model.layers.0.
//! ```

use std::{collections::BTreeMap, env, error::Error, ops::Range};

use serde_json::Value;

/// Length in bytes of the number at the start of the file, which is the length of the header.
const PREFIX: u64 = 8;

/// Longest accepted header in bytes. It is the limit of the format's own library.
const MOST: u64 = 100_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let url = arguments.next().ok_or("usage: safetensors URL [PREFIX]")?;
    let prefix = arguments.next().unwrap_or_default();

    // No request is sent before the first read.
    let file = pget::builder(&url).blocking()?;
    let info = file.stat()?;
    // From here on, another revision of the file is an error.
    let file = pget::builder(&url).pin(info).blocking()?;

    let length = u64::from_le_bytes(read(&file, 0..PREFIX)?.try_into().expect("8 bytes"));
    if length > MOST {
        return Err("this is not a safetensors file".into());
    }
    let header = read(&file, PREFIX..PREFIX + length)?;
    let tensors = ranges(&header, PREFIX + length, &prefix)?;

    let size = |range: &Range<u64>| usize::try_from(range.end - range.start);
    let mut memory = Vec::new();
    for range in tensors.values() {
        memory.push(vec![0; size(range)?]);
    }
    let names: Vec<&String> = tensors.keys().collect();
    let buffers = memory.iter_mut().map(Vec::as_mut_slice);
    let mut wanted: Vec<_> = tensors.values().cloned().zip(buffers).collect();
    // Ranges that are near each other are fetched by one request.
    let stats = file.read_ranges(&mut wanted, |index, bytes| {
        println!("{}: {} bytes", names[index], bytes.len());
    })?;
    println!("{} tensors, {} requests", names.len(), stats.requests);
    Ok(())
}

fn read(file: &pget::blocking::Object, range: Range<u64>) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut bytes = vec![0; usize::try_from(range.end - range.start)?];
    file.read_ranges(&mut [(range, &mut bytes)], |_, _| {})?;
    Ok(bytes)
}

/// Returns the ranges of the tensors whose names begin with `prefix`. `base` is the start of the
/// data.
fn ranges(header: &[u8], base: u64, prefix: &str) -> Result<BTreeMap<String, Range<u64>>, Box<dyn Error>> {
    let header: BTreeMap<String, Value> = serde_json::from_slice(header)?;
    let mut found = BTreeMap::new();
    for (name, tensor) in header {
        if name == "__metadata__" || !name.starts_with(prefix) {
            continue;
        }
        let offset = |index: usize| tensor["data_offsets"][index].as_u64();
        let (Some(start), Some(end)) = (offset(0), offset(1)) else {
            return Err(format!("the tensor {name} has no data_offsets").into());
        };
        found.insert(name, base + start..base + end);
    }
    Ok(found)
}
