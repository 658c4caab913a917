//! Memory that this process may have: of the machine, and of the control groups that it is in,
//! which end a process that takes more.
//!
//! For the budget, and for `pget-shm`, which reserves. What cannot be read limits nothing, so all
//! of it may be called on any system.

use std::path::Path;

/// Returns what a file of the system says, if there is such a file.
type Read<'a> = &'a dyn Fn(&str) -> Option<String>;

fn of_the_system(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// Bytes that the machine has, or the least that a control group may have; `None` if neither can be
/// read.
pub(crate) fn total() -> Option<u64> {
    total_by(&of_the_system)
}

/// Bytes that can still be had without that a process is ended for them: what is free, page cache
/// and swap included, of the machine (proc_meminfo(5)) and of each control group. `None` if it
/// cannot be read.
#[must_use]
pub fn free() -> Option<u64> {
    free_by(&of_the_system)
}

fn total_by(read: Read<'_>) -> Option<u64> {
    let machine = read("/proc/meminfo").and_then(|table| kibibytes(&table, "MemTotal:"));
    let groups = groups(read).into_iter().map(|group| group.limit);
    machine.into_iter().chain(groups).min()
}

fn free_by(read: Read<'_>) -> Option<u64> {
    let table = read("/proc/meminfo")?;
    let swap = kibibytes(&table, "SwapFree:").unwrap_or_default();
    let machine = kibibytes(&table, "MemAvailable:").map(|free| free.saturating_add(swap));
    let groups = groups(read)
        .into_iter()
        .filter_map(|group| group.free(read, swap));
    machine.into_iter().chain(groups).min()
}

fn kibibytes(table: &str, name: &str) -> Option<u64> {
    let rest = table.lines().find_map(|line| line.strip_prefix(name))?;
    let number = rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?;
    number.checked_mul(1024)
}

/// A control group with a limit.
struct Group {
    folder: String,
    files: &'static Files,
    limit: u64,
}

/// What a version of control groups calls its files.
struct Files {
    limit: &'static str,
    used: &'static str,
    /// Of swap alone in version 2, of memory and swap in version 1.
    swap_limit: &'static str,
    swap_used: &'static str,
    /// What can be dropped for others, by its names in `memory.stat`; not shared memory, which
    /// counts as cache too.
    reclaimable: &'static [&'static str],
}

static TWO: Files = Files {
    limit: "memory.max",
    used: "memory.current",
    swap_limit: "memory.swap.max",
    swap_used: "memory.swap.current",
    reclaimable: &["inactive_file ", "active_file ", "slab_reclaimable "],
};

static ONE: Files = Files {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    swap_limit: "memory.memsw.limit_in_bytes",
    swap_used: "memory.memsw.usage_in_bytes",
    reclaimable: &["total_inactive_file ", "total_active_file "],
};

/// The groups of this process that have a limit: its own and those around it, as far as they can be
/// seen.
fn groups(read: Read<'_>) -> Vec<Group> {
    let mut found = Vec::new();
    let table = read("/proc/self/cgroup").unwrap_or_else(|| "0::/\n1:memory:/".to_owned());
    for line in table.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (root, files) = if controllers.is_empty() {
            ("/sys/fs/cgroup", &TWO)
        } else if controllers.split(',').any(|name| name == "memory") {
            ("/sys/fs/cgroup/memory", &ONE)
        } else {
            continue;
        };
        for path in Path::new(path).ancestors() {
            let folder = format!("{root}{}", path.display());
            // "max" stands for no limit, and is not a number.
            if let Some(limit) = number(read, &folder, files.limit) {
                found.push(Group { folder, files, limit });
            }
        }
    }
    found
}

impl Group {
    /// Bytes that it can still have, of `swap` that the machine has free.
    fn free(&self, read: Read<'_>, swap: u64) -> Option<u64> {
        let files = self.files;
        let number = |name| number(read, &self.folder, name);
        let used = number(files.used)?;
        let stat = read(&format!("{}/memory.stat", self.folder)).unwrap_or_default();
        let reclaimable: u64 = files
            .reclaimable
            .iter()
            .filter_map(|name| stat.lines().find_map(|line| line.strip_prefix(name)))
            .filter_map(|bytes| bytes.trim().parse::<u64>().ok())
            .sum();
        let with_swap = number(files.swap_limit).zip(number(files.swap_used));
        let free = self
            .limit
            .saturating_sub(used)
            .saturating_add(reclaimable.min(used));
        Some(match with_swap {
            Some((limit, used)) if std::ptr::eq(files, &ONE) => {
                let both = limit.saturating_sub(used).saturating_add(reclaimable.min(used));
                both.min(free.saturating_add(swap))
            }
            Some((limit, used)) => free.saturating_add(swap.min(limit.saturating_sub(used))),
            None => free.saturating_add(swap),
        })
    }
}

fn number(read: Read<'_>, folder: &str, name: &str) -> Option<u64> {
    read(&format!("{folder}/{name}"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system<'a>(files: &'a [(&str, &str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |path| {
            // "/sys/fs/cgroup//a" is "/sys/fs/cgroup/a".
            let path = path.replace("//", "/");
            let (_, text) = files.iter().find(|(name, _)| *name == path)?;
            Some((*text).to_owned())
        }
    }

    const MACHINE: (&str, &str) = (
        "/proc/meminfo",
        "MemTotal:       9000 kB\nMemAvailable:   1000 kB\nSwapTotal: 90 kB\nSwapFree:  24 kB\n",
    );

    #[test]
    fn what_the_machine_can_give() {
        assert_eq!(free_by(&system(&[MACHINE])), Some(1024 * 1024));
        assert_eq!(total_by(&system(&[MACHINE])), Some(9000 * 1024));
        let free = |table| free_by(&system(&[("/proc/meminfo", table)]));
        assert_eq!(free("MemAvailable: 3 kB"), Some(3 * 1024));
        assert_eq!(free("SwapFree: 3 kB"), None);
        assert_eq!(free("MemAvailable: much"), None);
        assert_eq!(free_by(&|_| None), None);
        assert!(super::free().is_none_or(|free| free > 0));
    }

    #[test]
    fn a_control_group_gives_what_it_has_left_and_what_it_can_drop() {
        let mut files = vec![
            MACHINE,
            ("/proc/self/cgroup", "0::/host/job\n"),
            ("/sys/fs/cgroup/host/job/memory.max", "max\n"),
            ("/sys/fs/cgroup/host/memory.max", "500000\n"),
            ("/sys/fs/cgroup/host/memory.current", "450000\n"),
            (
                "/sys/fs/cgroup/host/memory.stat",
                "anon 1\nfile 300000\nshmem 299900\ninactive_file 70\nactive_file 30\nslab_reclaimable 5\n",
            ),
            ("/sys/fs/cgroup/host/memory.swap.max", "1000\n"),
            ("/sys/fs/cgroup/host/memory.swap.current", "400\n"),
        ];
        assert_eq!(free_by(&system(&files)), Some(50_000 + 105 + 600));
        assert_eq!(total_by(&system(&files)), Some(500_000));
        // Where swap is not counted, it is the machine's.
        files.pop();
        assert_eq!(free_by(&system(&files)), Some(50_000 + 105 + 24 * 1024));
        // The machine has less than that.
        files[3].1 = "9000000";
        assert_eq!(free_by(&system(&files)), Some(1024 * 1024));
        files[4].0 = "nowhere";
        assert_eq!(free_by(&system(&files)), Some(1024 * 1024));
    }

    #[test]
    fn control_groups_of_version_1_too() {
        let files = [
            MACHINE,
            (
                "/proc/self/cgroup",
                "5:cpu,cpuacct:/a\n4:memory,hugetlb:/a\n0::/\n",
            ),
            ("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "20000\n"),
            ("/sys/fs/cgroup/memory/a/memory.usage_in_bytes", "15000\n"),
            (
                "/sys/fs/cgroup/memory/a/memory.stat",
                "inactive_file 1\ntotal_inactive_file 300\ntotal_active_file 7\n",
            ),
            (
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
            ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "16000\n"),
        ];
        assert_eq!(free_by(&system(&files)), Some(5000 + 307 + 24 * 1024));
        assert_eq!(total_by(&system(&files)), Some(20_000));
        let mut swap = files.to_vec();
        swap.extend([
            ("/sys/fs/cgroup/memory/a/memory.memsw.limit_in_bytes", "20000\n"),
            ("/sys/fs/cgroup/memory/a/memory.memsw.usage_in_bytes", "15500\n"),
        ]);
        assert_eq!(free_by(&system(&swap)), Some(4500 + 307));
    }
}
