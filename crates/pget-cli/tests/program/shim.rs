//! Makes calls of the program fail, with a library that is loaded before the system's.

use std::{path::PathBuf, process::Command};

use nix::errno::Errno;

/// The source of the library.
///
/// Calls in `FAIL` fail if the name of their file has the given end. `FAIL` is a list of
/// `CALL:NUMBER:END;`. NUMBER is an errno. For `full`, it is the number of bytes that a file may
/// have. `order` is a `pwrite` that is not at the end of its file.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static long at_path(const char *call, const char *path) {
  const char *next = getenv("FAIL");
  size_t length = strlen(path), name = strlen(call);
  for (; next && *next; next = strchr(next, ';') + 1) {
    char *end;
    if (strncmp(next, call, name) != 0 || next[name] != ':') continue;
    long number = strtol(next + name + 1, &end, 10);
    size_t size = (size_t)(strchr(next, ';') - ++end);
    if (length >= size && strncmp(path + length - size, end, size) == 0) return number;
  }
  return 0;
}

static long at(const char *call, int descriptor) {
  char link[64], path[4096];
  int before = errno;
  ssize_t length;
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  length = readlink(link, path, sizeof path - 1);
  errno = before;
  if (length < 0) return 0;
  path[length] = 0;
  return at_path(call, path);
}

#define FAIL(number) do { long e_ = number; if (e_) { errno = (int)e_; return -1; } } while (0)

int fsync(int fd) { FAIL(at("fsync", fd)); return (int)syscall(SYS_fsync, fd); }
int fdatasync(int fd) { FAIL(at("fdatasync", fd)); return (int)syscall(SYS_fdatasync, fd); }
int syncfs(int fd) { FAIL(at("syncfs", fd)); return (int)syscall(SYS_syncfs, fd); }
int flock(int fd, int how) { FAIL(at("flock", fd)); return (int)syscall(SYS_flock, fd, how); }
int fchmod(int fd, mode_t mode) { FAIL(at("fchmod", fd)); return (int)syscall(SYS_fchmod, fd, mode); }
int fchown(int fd, uid_t user, gid_t group) {
  FAIL(at("fchown", fd));
  return (int)syscall(SYS_fchown, fd, user, group);
}
int fallocate64(int fd, int mode, off64_t offset, off64_t length) {
  FAIL(at("fallocate", fd));
  return (int)syscall(SYS_fallocate, fd, mode, offset, length);
}
int fallocate(int fd, int mode, off_t offset, off_t length) { return fallocate64(fd, mode, offset, length); }
int ftruncate64(int fd, off64_t length) { FAIL(at("ftruncate", fd)); return (int)syscall(SYS_ftruncate, fd, length); }
int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }
int close(int fd) {
  long number = at("close", fd);
  int result = (int)syscall(SYS_close, fd);
  FAIL(number);
  return result;
}
int rename(const char *from, const char *to) {
  FAIL(at_path("rename", from));
  return renameat(AT_FDCWD, from, AT_FDCWD, to);
}
ssize_t pread64(int fd, void *bytes, size_t count, off64_t offset) {
  FAIL(at("pread", fd));
  return syscall(SYS_pread64, fd, bytes, count, offset);
}
ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) {
  struct stat meta;
  long order = at("order", fd), full = at("full", fd);
  if (order && !fstat(fd, &meta) && meta.st_size != offset) FAIL(order);
  if (full && offset + (off64_t)count > full) FAIL(ENOSPC);
  FAIL(at("pwrite", fd));
  return syscall(SYS_pwrite64, fd, bytes, count, offset);
}
"#;

/// A call that fails.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fails<'a> {
    pub(crate) call: &'a str,
    pub(crate) errno: Errno,
    /// The end of the file's name.
    pub(crate) end: &'a str,
}

pub(crate) struct Shim {
    library: PathBuf,
    _folder: tempfile::TempDir,
}

impl Shim {
    /// Returns `None` where no C compiler is installed.
    pub(crate) fn new() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let (source, library) = (folder.path().join("shim.c"), folder.path().join("shim.so"));
        std::fs::write(&source, SHIM).expect("written");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([&library, &source])
            .status();
        if let Err(missing) = built {
            assert!(std::env::var_os("CI").is_none(), "cc: {missing}");
            eprintln!("skipped: cc: {missing}");
            return None;
        }
        assert!(built.expect("it ran").success(), "the shim is built");
        Some(Self {
            library,
            _folder: folder,
        })
    }

    /// Makes all these calls fail in `command`.
    pub(crate) fn fail(&self, command: &mut Command, all: &[Fails]) {
        let list = all
            .iter()
            .map(|fails| format!("{}:{}:{};", fails.call, fails.errno as i32, fails.end));
        self.set(command, &list.collect::<String>());
    }

    /// Sets the list of failing calls, in the format that the library reads.
    pub(crate) fn set(&self, command: &mut Command, list: &str) {
        command.env("LD_PRELOAD", &self.library).env("FAIL", list);
    }
}
