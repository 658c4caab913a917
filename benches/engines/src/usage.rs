//! What this process has used.

use crate::Failure;

/// Returns the most memory that this process has had, in MB.
pub fn peak_mb() -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    Ok(kilobytes.ok_or("no peak in /proc/self/status")? / 1000)
}

/// Returns the seconds of processor time that this process has used.
pub fn cpu_seconds() -> Result<f64, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The name of the program, in brackets, may contain anything.
    let (_, fields) = stat.rsplit_once(')').ok_or("no name in /proc/self/stat")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks =
        |at: usize| -> Result<f64, Failure> { Ok(fields.get(at).ok_or("a short /proc/self/stat")?.parse()?) };
    // Linux reports hundredths of a second.
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}
